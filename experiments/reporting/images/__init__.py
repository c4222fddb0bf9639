"""The report's page of images."""
