"""The judge of the household economy: identical households, or different ones at their Nash rest
point."""
