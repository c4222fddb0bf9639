"""The report's page of streams."""
