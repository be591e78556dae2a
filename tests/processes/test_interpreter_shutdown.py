"""Objects that are used while the interpreter shuts down."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 60.0

PROGRAM = """
import os
import sys
import procession

class Unplain:
    def __reduce__(self):
        return int, (1,)

class AtEnd:
    def __init__(self, name, use):
        self.name, self.use = name, use

    def __del__(self, write=os.write):
        try:
            self.use()
        except BaseException as error:
            write(1, f"{self.name}: {type(error).__name__}\\n".encode())
        else:
            write(1, f"{self.name}: used\\n".encode())

if __name__ == "__main__":
    ctx = procession.get_context(sys.argv[1])
    pool, queue, lock, condition = ctx.Pool(1), ctx.Queue(), ctx.Lock(), ctx.Condition()
    simple, barrier, value, unplain = ctx.SimpleQueue(), ctx.Barrier(2), ctx.Value("i"), Unplain()
    reader, writer = ctx.Pipe(False)
    uses = [
        AtEnd("apply", lambda: pool.apply_async(hash, (1,))),
        AtEnd("apply a function", lambda: pool.apply_async(AtEnd.__init__, (1,))),
        AtEnd("map", lambda: pool.map_async(hash, [1])),
        AtEnd("imap", lambda: pool.imap(hash, iter([1]))),
        AtEnd("put and get", lambda: (queue.put(1), queue.get())),
        AtEnd("put of what is pickled", lambda: queue.put(unplain)),
        AtEnd("get in vain", lambda: ctx.Queue().get(timeout=0.001)),
        AtEnd("put in vain", lambda: [ctx.Queue(1).put(n, timeout=0.001) for n in range(2)]),
        AtEnd("get_many in vain", lambda: ctx.Queue().get_many_nowait(1)),
        AtEnd("send of what is pickled", lambda: writer.send(unplain)),
        AtEnd("acquire in vain", lambda: (lock.acquire(), lock.acquire(timeout=0.001))),
        AtEnd("release too often", lambda: (simple.put(1), lock.release(), lock.release())),
        AtEnd("wait", lambda: (condition.acquire(), condition.wait(0.001))),
        AtEnd("barrier", lambda: barrier.wait(0.001)),
        AtEnd("value", lambda: setattr(value, "value", 7)),
    ]
    # The first attachment, import or allocation of a kind is made by whatever comes first.
    if sys.argv[2] == "backwards":
        uses.reverse()
    {where}
"""


@pytest.mark.parametrize("order", ["forwards", "backwards"])
@pytest.mark.parametrize(
    "where", ["pass", 'sys.modules["the_last"] = uses; del uses'], ids=["its module", "another module"]
)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_what_is_used_while_the_interpreter_ends_works_or_raises(
    tmp_path: Path, method: str, where: str, order: str
) -> None:
    """Nothing panics: each use works or raises what a finalizer can catch; the exit status stays."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("{where}", where))
    done = subprocess.run(
        [sys.executable, program, method, order], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "panic" not in (done.stdout + done.stderr).lower(), done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 15, done.stdout
