"""Demand from a user's own log of sales.

Read the log, refuse what it cannot tell, fit demand, and write an experiment.

Reading            table, sales
Refusals           checks
Fitting            families, likelihood, instruments, calibrate
Writing            experiment, command
"""
