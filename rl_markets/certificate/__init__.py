"""Certificates: how far a trained market is from its known answer, and what any agent could still
gain."""
