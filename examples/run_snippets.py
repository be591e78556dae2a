"""Five pieces of multiprocessing code as people write them, under each start method.

Nothing in `snippets/` is changed but the import line; the start method is set around them.
"""

import sys

from checked import EXAMPLES, START_METHODS, Ran, run

__all__ = ["EXPECTED", "run_snippet"]

EXPECTED = {
    "process": "Worker process is running\nMain process continues\n",
    "pool": "[1, 4, 9, 16, 25]\n",
    "queue": "Hello from producer!\n",
    "pipe": "Hello from sender!\n",
    "value_array": "11\n[2, 2, 3]\n",
}

# run_path makes the snippet the main module, so a spawned child finds its functions there.
LAUNCHER = """
import runpy, sys
import procession
procession.set_start_method(sys.argv.pop(1))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_snippet(name: str, start_method: str) -> Ran:
    """Run one snippet under one start method."""
    return run([sys.executable, "-c", LAUNCHER, start_method, str(EXAMPLES / "snippets" / f"{name}.py")])


def main() -> int:
    """Run all under all; the status is 1 when one printed something unexpected."""
    status = 0
    for start_method in START_METHODS:
        for name, expected in EXPECTED.items():
            ran = run_snippet(name, start_method)
            print(f"--- {name}.py under {start_method}\n{ran.output}", end="", flush=True)
            if problem := ran.problem(expected):
                print(f"!!! {problem}")
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
