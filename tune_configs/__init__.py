"""Experiment files, as package data."""
