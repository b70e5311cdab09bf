"""Files for running on a Ray cluster."""
