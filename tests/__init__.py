"""Tests of the Python package, by topic; `support` holds what several of them use."""
