"""The judge of the pricing market: its known answers, and how far learned prices are from them."""
