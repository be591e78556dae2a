"""The same programs with this package and with the standard library: the same outcomes."""
