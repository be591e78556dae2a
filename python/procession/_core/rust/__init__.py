"""Rust functions called from Python, Python functions called from Rust."""
