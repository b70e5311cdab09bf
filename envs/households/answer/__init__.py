"""The judge of the household economy, of identical households and of different ones."""
