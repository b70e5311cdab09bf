"""The judge of the Krusell-Smith economy."""
