"""Other libraries, each behind the names that the rows use.

A rival is a module here. Its `CONTEXTS` names the rows it supports, and for each a function that makes a
context: an object with as much of `Queue`, `Pipe`, `Pool` and `Process` as the row needs. So the same
function measures all libraries. A rival has no row for what it does not offer.
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
