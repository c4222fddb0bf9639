"""Sub-networks found without gates that learn, to compare with those that gates found."""
