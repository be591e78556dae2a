"""Measures how an operation's cost, or the memory that stays, depends on what exists: it should not grow.

python benches/growth                    every table
python benches/growth reply              those whose name contains it
"""

from __future__ import annotations

import os
import sys

import memory  # noqa: F401
import pools  # noqa: F401
import queues  # noqa: F401
import starts  # noqa: F401
import waiting  # noqa: F401
from tables import TABLES, show


def main() -> None:
    """One row, or the tables that were asked for."""
    if sys.argv[1:2] == ["--row"]:
        print(TABLES[sys.argv[2]].function(int(sys.argv[3])), flush=True)
        # End without waiting for threads and processes that still wait.
        os._exit(0)
    for name in TABLES:
        if any(part in name for part in sys.argv[1:] or [""]):
            show(name)


if __name__ == "__main__":
    main()
