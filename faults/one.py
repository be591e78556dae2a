"""Run one case in this process: `one.py NAME`. The runner sets the package and the start method."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys

from faults import catalogue


def main() -> None:
    """Run the case, which prints nothing if it succeeds."""
    # The runner asks for the stacks before it kills a case that hangs.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    catalogue.FAULTS[sys.argv[1]].run()
    left = os.listdir(os.environ["TMPDIR"])
    known = [name for name in left if name.startswith(("pymp-", "a path"))]
    assert left == known, f"left in the temporary folder: {left}"


if __name__ == "__main__":
    main()
