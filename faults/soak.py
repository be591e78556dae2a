"""Hours of SIGKILL: queues, locks, pipes and pools at full speed while their processes are killed at random.

    python -m faults.soak --minutes 30

Each part is a program of its own: it keeps its processes busy, kills one now and then, replaces it, and
checks every message, number and result. Message sizes change every few seconds. What the parts use (memory,
entries of the process table, descriptors, mappings, processes) must not grow; throughput is reported.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import procession
from procession import _native

# A part without progress for so long prints its stacks and ends, in seconds.
TIMEOUT = 60.0
# The mean time between two kills, in seconds.
KILL_INTERVAL = 0.25
# The time between two samples of what is in use, in seconds.
SAMPLE_INTERVAL = 1.0
# Message sizes in bytes: each period uses the next row.
SIZES = (
    (8, 100, 900),
    (2_000, 5_000, 20_000),
    (8, 100_000),
    (300_000, 900_000),
    (8, 100, 5_000, 100_000),
    (3_000_000, 9_000_000),
)
# Tables grow page by page until each entry was used once: the process table to 1 MiB.
TABLES = 2 << 20


def sizes(period: float) -> tuple[int, ...]:
    """The current sizes, the same in all processes, if they change every `period` seconds."""
    return SIZES[int(time.monotonic() / period) % len(SIZES)]


class Part:
    """What a part has done, and what it uses."""

    def __init__(self, seconds: float, method: str) -> None:
        self.ctx: Any = procession.get_context(method)
        self.seconds = seconds
        # Each third of the run uses all sizes.
        self.period = min(10.0, seconds / 3 / len(SIZES))
        self.counts: Counter[str] = Counter()
        self.used: list[dict[str, int]] = []
        self.done: list[tuple[float, int]] = []
        self._random = random.Random(os.getpid())
        self._next_sample = 0.0

    def rounds(self) -> Iterator[None]:
        """One round between two kills, until the time is up."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.progress()
            yield
            self._sample()

    def progress(self) -> None:
        """Note progress."""
        faulthandler.dump_traceback_later(TIMEOUT, exit=True)

    def pause(self) -> float:
        """The time until the next kill."""
        return self._random.expovariate(1 / KILL_INTERVAL)

    def choose(self, things: list[Any]) -> int:
        """The index of a random one."""
        return self._random.randrange(len(things))

    def kill(self, process: Any) -> None:
        """Kill a process and wait for its end."""
        process.kill()
        process.join()
        self.counts["kills"] += 1

    def _sample(self) -> None:
        if time.monotonic() < self._next_sample:
            return
        self._next_sample = time.monotonic() + SAMPLE_INTERVAL
        memory_stats = _native.memory_stats()
        memory_stats["descriptors"] = len(os.listdir("/proc/self/fd"))
        memory_stats["children"] = len(procession.active_children())
        with open("/proc/self/maps") as maps:
            memory_stats["mappings"] = sum(1 for _ in maps)
        self.used.append(memory_stats)
        self.done.append((time.monotonic(), sum(self.counts.values())))

    def check_use(self) -> None:
        """Check that usage at the end is about what it was after warm-up.

        Memory is given back within a second of its use: shorter periods prove nothing about it.
        """
        if self.period < 5 * SAMPLE_INTERVAL:
            return
        for name, (then, now) in self.medians().items():
            more = TABLES if name.startswith("bytes") else 8
            assert now <= 1.3 * then + more, f"{name} grew from {then} to {now}"

    def medians(self) -> dict[str, tuple[float, float]]:
        """What was in use in the second and in the last third of the run."""
        third = len(self.used) // 3
        spans = self.used[third : 2 * third], self.used[2 * third :]
        return {
            name: (
                statistics.median(use[name] for use in spans[0]),
                statistics.median(use[name] for use in spans[1]),
            )
            for name in (self.used[0] if third else ())
        }

    def rates(self) -> list[float]:
        """The throughput per second in the second and in the last third of the run."""
        third = len(self.done) // 3
        ends = [self.done[index] for index in (third, 2 * third, -1)] if third > 1 else []
        return [
            round((after[1] - before[1]) / (after[0] - before[0]), 1)
            for before, after in itertools.pairwise(ends)
        ]


# Queues: no message is torn or doubled, and a consumer's death loses at most the one it was receiving.


def produce(queue: Any, name: int, period: float) -> None:
    rng = random.Random(name)
    for number in range(1 << 62):
        body = rng.randbytes(rng.choice(sizes(period)))
        queue.put((name, number, zlib.crc32(body), body))


def consume(queue: Any, seen: Any) -> None:
    while True:
        name, number, check, body = queue.get()
        seen.put((name, number, zlib.crc32(body) == check))


def queues(part: Part) -> None:
    queue, seen = part.ctx.Queue(100), part.ctx.Queue()
    names = iter(range(1 << 62))

    def producer() -> Any:
        return start(part.ctx, produce, queue, next(names), part.period)

    def consumer() -> Any:
        return start(part.ctx, consume, queue, seen)

    workers: list[tuple[Any, Callable[[], Any]]] = [
        (make(), make) for make in (producer, producer, consumer, consumer)
    ]
    received = Received()
    deaths_of_consumers = 0
    for _ in part.rounds():
        until = time.monotonic() + part.pause()
        while (left := until - time.monotonic()) > 0:
            part.counts["messages"] += received.take(seen, left)
        place = part.choose(workers)
        process, make = workers[place]
        part.kill(process)
        deaths_of_consumers += make is consumer
        workers[place] = make(), make
    for process, make in workers:
        if make is producer:
            part.kill(process)
    while received.take(seen, 2.0) or not queue.empty():
        part.counts["messages"] += 1
        part.progress()
    for process, make in workers:
        if make is consumer:
            part.kill(process)
    missing = received.missing()
    part.counts["lost"] = missing
    part.counts["deaths of consumers"] = deaths_of_consumers
    assert missing <= deaths_of_consumers, (
        f"{missing} messages are gone, with {deaths_of_consumers} consumers"
    )


class Received:
    """The messages that arrived: those of the current producers, and how many of earlier ones are missing."""

    LATEST = 200

    def __init__(self) -> None:
        self._numbers: dict[int, set[int]] = {}
        self._earlier = 0

    def take(self, seen: Any, timeout: float) -> bool:
        """Waits for a message, and checks that it is whole and comes for the first time."""
        try:
            name, number, whole = seen.get(timeout=max(0.001, timeout))
        except procession.queues.Empty:
            return False
        assert whole, "a message is torn"
        if name not in self._numbers:
            assert name > max(self._numbers, default=-1) - self.LATEST, "a message came far too late"
            self._numbers[name] = set()
            if len(self._numbers) > self.LATEST:
                self._earlier += _holes(self._numbers.pop(min(self._numbers)))
        numbers = self._numbers[name]
        assert number not in numbers, "a message came twice"
        numbers.add(number)
        return True

    def missing(self) -> int:
        """How many messages are missing although later ones of the same producer arrived."""
        return self._earlier + sum(map(_holes, self._numbers.values()))


def _holes(numbers: set[int]) -> int:
    return max(numbers) + 1 - len(numbers)


# Locks: two numbers are equal when the lock is acquired, unless its holder died.


def count(lock: Any, first: Any, second: Any, repairs: Any, turns: Any) -> None:
    while True:
        lock.acquire(on_owner_died="hold")
        if first.value != second.value:
            repairs.value += 1
            second.value = first.value
        first.value += 1
        second.value += 1
        turns.value += 1
        lock.release()


def locks(part: Part) -> None:
    lock = part.ctx.Lock()
    first, second = part.ctx.RawValue("q", 0), part.ctx.RawValue("q", 0)
    repairs, turns = part.ctx.RawValue("q", 0), part.ctx.RawValue("q", 0)
    arguments = lock, first, second, repairs, turns
    workers = [start(part.ctx, count, *arguments) for _ in range(4)]
    for _ in part.rounds():
        before = turns.value
        time.sleep(part.pause() / 2)
        limit = time.monotonic() + TIMEOUT
        while turns.value == before:
            assert time.monotonic() < limit, "nobody gets the lock any more"
            time.sleep(0.001)
        place = part.choose(workers)
        part.kill(workers[place])
        part.counts["turns"] = turns.value
        workers[place] = start(part.ctx, count, *arguments)
    for worker in workers:
        part.kill(worker)
    part.counts["repairs"] = repairs.value
    assert repairs.value <= part.counts["kills"], "two held the lock at once"


# Pipes: an echo equals what was sent; when the other side is killed, the stream ends.


def echo(line: Any, ours: Any) -> None:
    ours.close()
    while True:
        line.send_bytes(line.recv_bytes())


def pipes(part: Part) -> None:
    for _ in part.rounds():
        ours, theirs = procession.Pipe()
        process = start(part.ctx, echo, theirs, ours)
        theirs.close()
        killer = threading.Timer(part.pause(), process.kill)
        killer.start()
        try:
            while True:
                body = os.urandom(random.choice(sizes(part.period)))
                ours.send_bytes(body)
                assert ours.recv_bytes() == body, "an echo is not what was sent"
                part.counts["echoes"] += 1
        except (EOFError, ConnectionError):
            pass
        killer.join()
        process.join()
        part.counts["kills"] += 1
        ours.close()


# Pools: each result is right, or reports that its worker died.


def work(item: int) -> tuple[int, bytes]:
    return item, bytes(item % 50_000)


def make(size: int) -> bytes:
    return bytes(size)


def pools(part: Part) -> None:
    with part.ctx.Pool(3) as pool:
        for _ in part.rounds():
            job = pool.map_async(work, range(2000), 20, retries=1)
            now = sizes(part.period)
            asked = [random.choice(now) for _ in range(max(10, min(500, (50 << 20) // max(now))))]
            bodies = pool.imap(make, asked)
            time.sleep(part.pause() / 2)
            worker = pool._pool[part.choose(pool._pool[:1])]
            try:
                os.kill(worker.pid, signal.SIGKILL)
                part.counts["kills"] += 1
            except ProcessLookupError:
                pass
            try:
                assert [item for item, _ in job.get(TIMEOUT)] == list(range(2000))
            except procession.WorkerDied:
                part.counts["failed maps"] += 1
            part.counts["tasks"] += 100
            for size in asked:
                try:
                    body = bodies.next(TIMEOUT)
                except procession.WorkerDied:
                    part.counts["failed tasks"] += 1
                else:
                    assert len(body) == size, "a result is torn"
            part.counts["tasks"] += len(asked)


PARTS: dict[str, Callable[[Part], None]] = {"queues": queues, "locks": locks, "pipes": pipes, "pools": pools}


def start(ctx: Any, target: Callable[..., None], *args: Any) -> Any:
    process = ctx.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def run_part(name: str, seconds: float, method: str) -> None:
    """Run one part in this process; the last line it prints is its result."""
    # `main` asks a part that hangs for more than its stacks.
    procession.debug_on_signal()
    part = Part(seconds, method)
    PARTS[name](part)
    part.check_use()
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"counts": part.counts, "rates": part.rates(), "used": part.medians()}))


def main() -> int:
    """Run all parts side by side, compare their second and last thirds; the exit code counts failed parts."""
    parser = argparse.ArgumentParser(description="Kill processes at random for a long time.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--method", default="fork", choices=("fork", "forkserver", "spawn"))
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one")
    parser.add_argument("--inside", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = options.minutes * 60
    if options.inside:
        run_part(options.inside, seconds, options.method)
        return 0
    command = [sys.executable, __file__, "--minutes", str(options.minutes), "--method", options.method]
    running = {
        name: subprocess.Popen([*command, "--inside", name], stdout=subprocess.PIPE, text=True)
        for name in options.part or PARTS
    }
    failed = kills = 0
    for name, process in running.items():
        output, _ = process.communicate()
        if process.returncode:
            failed += 1
            print(f"{name}: FAILED with {process.returncode}")
            continue
        seen = json.loads(output.splitlines()[-1])
        kills += seen["counts"].get("kills", 0)
        print(f"{name}: {', '.join(f'{count} {what}' for what, count in seen['counts'].items())}")
        print(f"    done in a second: {' -> '.join(map(str, seen['rates']))}")
        used = (f"{what} {then:.0f} -> {now:.0f}" for what, (then, now) in seen["used"].items())
        print(f"    {', '.join(used)}")
    print(f"{kills} processes were killed; {failed} parts failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
