"""The judge of households and their government."""
