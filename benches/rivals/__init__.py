"""Others who do what a row of the table does, each behind the names that the rows use.

A rival is a module here. Its `CONTEXTS` says which rows it has, and makes for each what stands for the
context there: an object with as much of `Queue`, `Pipe`, `Pool` and `Process` as the row needs. So the same
function measures everybody. What a rival does not offer it has no row for.
"""

import importlib

MODULES = {
    "faster-fifo": "fifo",
    "pyzmq, ipc": "zeromq",
    "iceoryx2": "iceoryx",
    "ProcessPoolExecutor": "executors",
    "loky": "executors",
    "joblib": "executors",
    "mpire": "mpire_pool",
}


def contexts(rival):
    """Row names of a rival, each with the function that makes its context; none if it is not installed."""
    try:
        module = importlib.import_module(f"rivals.{MODULES[rival]}")
    except ImportError:
        return {}
    return module.CONTEXTS[rival]
