"""The judge of the points programme."""
