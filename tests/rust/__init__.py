"""Rust programs and Python programs in one process tree, and what COMPARE.md claims of the crate."""
