"""Known answers of the markets: numpy and scipy only, independent of the markets' code, which they check."""
