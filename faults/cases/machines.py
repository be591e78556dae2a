"""Programs on small or unusual machines: they work, or report what is wrong and work afterwards."""

from __future__ import annotations

import os
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from faults.cases.limits import use_everything
from faults.subject import PROMPT, ctx, fault, raises, wait_until

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 1 << 20
# The limit of a memory cgroup: room for a few interpreters and some data.
ALLOWED = 300 * MEBIBYTE
# Where cgroups are mounted, in both versions, and the file with the limit.
CGROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
    (Path("/sys/fs/cgroup"), "memory.max"),
)


def program(body: str) -> str:
    """A program that runs `body` and prints "works"."""
    return f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from faults.cases.machines import {body}
if __name__ == "__main__":
    {body}()
    print("works")
"""


def check(command: list[str], seconds: float = 25, or_says: str | None = None, **kwds: Any) -> None:
    """Check that the program runs, or reports what is missing."""
    run = subprocess.run(command, capture_output=True, text=True, timeout=seconds, **kwds)
    errors = [line for line in run.stderr.splitlines() if line.startswith("OSError")]
    if or_says and run.returncode == 1 and any(or_says in line for line in errors):
        return
    assert (run.returncode, run.stdout) == (0, "works\n"), run.stderr


def with_mounts(*mounts: str) -> list[str]:
    """A command prefix that gives a command other mounts; empty where that is not allowed."""
    inside = " && ".join([*mounts, 'exec "$@"'])
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", inside, "sh"]
    allowed = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if allowed else []


@fault("there is no /dev/shm, and nothing can be written where the program runs")
def nothing_is_writable() -> None:
    home = os.path.join(os.environ["TMPDIR"], "a path with spaces, and ümläute")
    os.mkdir(home)
    path = os.path.join(home, "the program.py")
    with open(path, "w") as file:
        file.write(program("use_everything"))
    folder = shlex.quote(home)
    command = with_mounts(
        "mount -t tmpfs -o ro none /dev/shm",
        f"mount --bind {folder} {folder}",
        f"mount -o remount,ro,bind {folder}",
        f"cd {folder}",
    )
    # Where mounts are not allowed, the path with spaces remains as the test.
    check([*command, sys.executable, path], cwd=home, env={**os.environ, "TMPDIR": home})


def pass_large_messages() -> None:
    """Send more at a time than a small /dev/shm or /tmp could hold."""
    box = ctx.Queue()
    process = ctx.Process(target=put_large_ones, args=(box,))
    process.start()
    for number in range(4):
        assert box.get(timeout=20) == bytes([number]) * (40 * MEBIBYTE)
    process.join()
    array = ctx.Array("b", 100 * MEBIBYTE, lock=False)
    array[-1] = 7
    use_everything()


def put_large_ones(box: Any) -> None:
    for number in range(4):
        box.put(bytes([number]) * (40 * MEBIBYTE))


@fault("/dev/shm has 64 MB, as in many a container")
def a_small_shm() -> None:
    command = with_mounts("mount -t tmpfs -o size=64m none /dev/shm")
    check([*command, sys.executable, "-c", program("pass_large_messages")])


def run_out_of_memory() -> None:
    """Put more than the limit allows: an error comes in time, and no process is killed."""
    box = ctx.Queue()
    with raises(MemoryError, OSError):
        for _ in range(100):
            box.put(bytes(20 * MEBIBYTE))
    while not box.empty():
        box.get(timeout=10)
    del box
    use_everything()


@fault("a memory cgroup is full (a container's limit): no OOM killer, an error", extension=True)
def a_full_cgroup() -> None:
    with cgroup(ALLOWED) as join:
        env = dict(os.environ) if join else {**os.environ, "PROCESSION_MEMORY": str(ALLOWED)}
        check([sys.executable, "-c", program("run_out_of_memory")], preexec_fn=join, env=env)


def work_beside_a_full_cache() -> None:
    """Fill the cgroup with reclaimable page cache of a file; then use the whole package."""
    group = Path(os.environ["FAULTS_CGROUP"])
    counts = [group / name for name in ("memory.usage_in_bytes", "memory.current")]
    used = next(count for count in counts if count.exists())
    with open(os.environ["FAULTS_FILE"], "rb", buffering=0) as file:
        while file.read(MEBIBYTE):
            pass
    # On tmpfs nothing is cached: the fault cannot happen on this machine.
    print(f"{int(used.read_text()) // MEBIBYTE} MiB of {ALLOWED // MEBIBYTE}", file=sys.stderr)
    pass_large_messages()
    box = ctx.Queue()
    for number in range(2_000):
        box.put(bytes(number))
    assert all(len(box.get(timeout=20)) == number for number in range(2_000))


@fault("the page cache fills a memory cgroup (a container that has read files): all goes on")
def a_cgroup_full_of_page_cache() -> None:
    with cgroup(ALLOWED) as join:
        if not join:
            return
        path = os.path.join(os.environ["TMPDIR"], "read")
        with open(path, "wb") as file:
            # A sparse file takes no disk space, but as much page cache as any other.
            file.truncate(ALLOWED + 100 * MEBIBYTE)
        try:
            env = {**os.environ, "FAULTS_CGROUP": str(join.args[0]), "FAULTS_FILE": path}
            command = [sys.executable, "-c", program("work_beside_a_full_cache")]
            check(command, preexec_fn=join, env=env)
        finally:
            os.unlink(path)


@contextmanager
def cgroup(most: int) -> Iterator[Any]:
    """A function for a child that joins a cgroup with this memory limit; None without cgroups."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / f"procession-faults-{os.getpid()}"
        if not (root / "cgroup.procs").exists():
            continue
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(most))
                yield partial(enter, group)
                return
        finally:
            # Servers end a moment after the program that they served.
            wait_until(partial(removed, group), PROMPT)
    yield None


def enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def removed(group: Path) -> bool:
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


@fault("the address space is limited (RLIMIT_AS) before the package is imported")
def little_address_space() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    check([sys.executable, "-c", program("use_everything")], preexec_fn=limit)


@fault("few descriptors (RLIMIT_NOFILE) from the first step on")
def few_descriptors() -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))

    check([sys.executable, "-c", program("use_everything")], preexec_fn=limit)


@fault("valgrind runs the program: it works, or names the call that is missing there", once=True)
def under_valgrind() -> None:
    if valgrind := shutil.which("valgrind"):
        command = [valgrind, "--quiet", sys.executable, "-c", program("use_everything")]
        check(command, 200, or_says="pidfd_open", env={**os.environ, "PYTHONMALLOC": "malloc"})
