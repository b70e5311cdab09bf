"""Demand from a user's own log of sales: read it, refuse what it cannot tell, fit, and write an
experiment.

Reading            table, sales
Refusals           checks
Fitting            families, likelihood, instruments, calibrate
Writing            experiment, command
"""
