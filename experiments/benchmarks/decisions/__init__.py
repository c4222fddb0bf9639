"""What the streaming benchmark times: networks, sides, the table."""
