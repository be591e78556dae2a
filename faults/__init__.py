"""Faults provoked on purpose: what becomes of a program, with this package and with the standard library."""
