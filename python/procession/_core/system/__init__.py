"""Descriptors, sentinels and paths: what this package asks of the operating system."""
