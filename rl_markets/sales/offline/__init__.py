"""Offline: what logged decisions tell of policies that were never tried.

Reading            log
Estimators         estimators
A comparison       compare, command
"""
