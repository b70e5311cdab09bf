"""Numerical methods that several solutions share: numpy and scipy only."""
