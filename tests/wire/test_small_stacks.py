"""Nested values in threads with small stacks."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from procession import _native
from tests.support.wire_values import graphs, patient, portrait

LIMIT = 60.0
KILOBYTE = 1024

PROGRAM = """
import sys, threading
sys.path.insert(0, {root!r})
import procession
from procession import _native
from tests.support.wire_values import portrait

KINDS = {{
    "list": lambda inner: [inner, 2],
    "tuple": lambda inner: (1, inner),
    "dict": lambda inner: {{"key": inner, 7: None}},
    "set": lambda inner: {{frozenset([inner, "more"])}},
}}

def nested(kind, depth):
    value = "innermost"
    for level in range(depth):
        if kind == "set":
            value = frozenset([value, level])
        else:
            name = list(KINDS)[level % 3] if kind == "mixed" else kind
            value = KINDS[name](value)
    return value

def in_thread(stack, use):
    outcome = []
    threading.stack_size(stack)
    thread = threading.Thread(target=lambda: outcome.append(use()))
    thread.start()
    thread.join()
    return outcome[0]

kind, depth, stack = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
value = nested(kind, depth)
expected = portrait(value)
queue = procession.SimpleQueue()
queue.put([value, value])
first, second = in_thread(stack, queue.get)
assert first is second
assert portrait(first) == expected
in_thread(stack, lambda: queue.put(value))
assert portrait(queue.get()) == expected
print("done")
"""


@pytest.mark.parametrize("stack", [32, 64, 128])
@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "set", "mixed"])
def test_nested_values_pass_through_threads_with_small_stacks(kind: str, stack: int) -> None:
    """A value survives that is as deep as pickle can write there, or as a message may be."""
    # Pickle itself recurses as it writes.
    depth = 60 if stack == 32 else 95
    source = PROGRAM.format(root=str(Path(__file__).resolve().parents[2]))
    done = subprocess.run(
        [sys.executable, "-c", source, kind, str(depth), str(stack * KILOBYTE)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"


@patient
@given(graphs())
def test_what_is_read_without_the_stack_is_what_was_written(value: Any) -> None:
    """Sharing, cycles and types come back in a thread whose stack has no room for recursion."""
    message = _native.dumps(value)
    read: list[Any] = []
    before = threading.stack_size(32 * KILOBYTE)
    try:
        thread = threading.Thread(target=lambda: read.append(_native.loads(message)))
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert portrait(read[0]) == portrait(value)
