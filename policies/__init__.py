"""Learners, one algorithm a package, and what they are made of.

Below the service, above the markets.
"""
