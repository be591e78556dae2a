"""All cases, in the order of the report."""

from __future__ import annotations

from importlib import import_module

from faults.subject import FAULTS

__all__ = ["FAULTS"]

for group in (
    "pools",
    "locks",
    "queues",
    "tree",
    "forks",
    "managers",
    "limits",
    "identities",
    "refusals",
    "machines",
):
    import_module(f"faults.cases.{group}")
