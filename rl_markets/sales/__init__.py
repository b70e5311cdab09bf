"""A user's own sales: a market calibrated to them, and what other prices would have earned."""
