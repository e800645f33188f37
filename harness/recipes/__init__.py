"""What may be compared: a registry of recipes, each one short file."""
