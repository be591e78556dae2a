"""Tests that viztracer runs under coverage run without it."""

from __future__ import annotations


def cmd_with_coverage(cmd: list[str]) -> list[str]:
    """Leave a command as it is."""
    return cmd
