"""Hours of SIGKILL: queues, locks, pipes and pools at full speed while their processes are killed at random.

    python faults/soak.py --minutes 30

Each part is a program of its own: it keeps its processes at work, kills one every now and then, replaces it,
and checks every message, number and result. What the parts use (memory, descriptors, processes) must not
grow.
"""

from __future__ import annotations

import argparse
import faulthandler
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
from procession import _engine

# Without any progress for so long a part shows its stacks and ends.
PATIENCE = 60.0
# Between two deaths, on average.
PAUSE = 0.25
# Between two looks at what is in use.
LOOK = 5.0


class Part:
    """What a part did, and what it used."""

    def __init__(self, seconds: float, method: str) -> None:
        self.ctx: Any = procession.get_context(method)
        self.seconds = seconds
        self.counts: Counter[str] = Counter()
        self.used: list[dict[str, int]] = []
        self._random = random.Random(os.getpid())
        self._next_look = 0.0

    def turns(self) -> Iterator[None]:
        """One turn between two deaths, until the time is over."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self.progress()
            yield
            self._look()

    def progress(self) -> None:
        """Something went on."""
        faulthandler.dump_traceback_later(PATIENCE, exit=True)

    def pause(self) -> float:
        """How long until the next death."""
        return self._random.expovariate(1 / PAUSE)

    def choose(self, things: list[Any]) -> int:
        """The place of one of them."""
        return self._random.randrange(len(things))

    def kill(self, process: Any) -> None:
        """Kill a process and see it gone."""
        process.kill()
        process.join()
        self.counts["kills"] += 1

    def _look(self) -> None:
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK
        census = _engine.census()
        census["descriptors"] = len(os.listdir("/proc/self/fd"))
        census["children"] = len(procession.active_children())
        self.used.append(census)

    def check_use(self) -> None:
        """What is in use at the end is about what was in use once all was warm."""
        third = len(self.used) // 3
        for name in self.used[0] if third > 1 else ():
            then = statistics.median(use[name] for use in self.used[third : 2 * third])
            now = statistics.median(use[name] for use in self.used[-third:])
            assert now <= 1.3 * then + 8, f"{name} grew from {then} to {now}"


# Queues: no message is torn or doubled, and a consumer's death loses at most the one it had in hand.


def produce(queue: Any, name: int) -> None:
    dice = random.Random(name)
    for number in range(1 << 62):
        body = dice.randbytes(dice.choice((8, 100, 900, 5_000, 100_000)))
        queue.put((name, number, zlib.crc32(body), body))


def consume(queue: Any, seen: Any) -> None:
    while True:
        name, number, check, body = queue.get()
        seen.put((name, number, zlib.crc32(body) == check))


def queues(part: Part) -> None:
    queue, seen = part.ctx.Queue(500), part.ctx.Queue()
    names = iter(range(1 << 62))

    def producer() -> Any:
        return start(part.ctx, produce, queue, next(names))

    def consumer() -> Any:
        return start(part.ctx, consume, queue, seen)

    workers: list[tuple[Any, Callable[[], Any]]] = [
        (make(), make) for make in (producer, producer, consumer, consumer)
    ]
    received: dict[int, set[int]] = {}
    deaths_of_consumers = 0
    for _ in part.turns():
        until = time.monotonic() + part.pause()
        while (left := until - time.monotonic()) > 0:
            take(part, seen, received, left)
        place = part.choose(workers)
        process, make = workers[place]
        part.kill(process)
        deaths_of_consumers += make is consumer
        workers[place] = make(), make
    for process, make in workers:
        if make is producer:
            part.kill(process)
    while take(part, seen, received, 2.0) or not queue.empty():
        part.progress()
    for process, make in workers:
        if make is consumer:
            part.kill(process)
    missing = sum(max(numbers) + 1 - len(numbers) for numbers in received.values() if numbers)
    part.counts["messages"] = sum(map(len, received.values()))
    part.counts["lost"] = missing
    part.counts["deaths of consumers"] = deaths_of_consumers
    assert missing <= deaths_of_consumers, (
        f"{missing} messages are gone, with {deaths_of_consumers} consumers"
    )


def take(part: Part, seen: Any, received: dict[int, set[int]], patience: float) -> bool:
    try:
        name, number, whole = seen.get(timeout=max(0.001, patience))
    except procession.queues.Empty:
        return False
    numbers = received.setdefault(name, set())
    assert whole, "a message is torn"
    assert number not in numbers, "a message came twice"
    numbers.add(number)
    return True


# Locks: two numbers are the same when the lock is taken, or else its holder died.


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
    for _ in part.turns():
        before = turns.value
        time.sleep(part.pause() / 2)
        limit = time.monotonic() + PATIENCE
        while turns.value == before:
            assert time.monotonic() < limit, "nobody gets the lock any more"
            time.sleep(0.001)
        place = part.choose(workers)
        part.kill(workers[place])
        workers[place] = start(part.ctx, count, *arguments)
    for worker in workers:
        part.kill(worker)
    part.counts["turns"] = turns.value
    part.counts["repairs"] = repairs.value
    assert repairs.value <= part.counts["kills"], "two held the lock at once"


# Pipes: an echo is what was sent, until the other side is killed; then it is an end and nothing else.


def echo(line: Any, ours: Any) -> None:
    ours.close()
    while True:
        line.send_bytes(line.recv_bytes())


def pipes(part: Part) -> None:
    for _ in part.turns():
        ours, theirs = procession.Pipe()
        process = start(part.ctx, echo, theirs, ours)
        theirs.close()
        killer = threading.Timer(part.pause(), process.kill)
        killer.start()
        try:
            while True:
                body = os.urandom(random.choice((1, 500, 5_000, 300_000)))
                ours.send_bytes(body)
                assert ours.recv_bytes() == body, "an echo is not what was sent"
                part.counts["echoes"] += 1
        except (EOFError, ConnectionError):
            pass
        killer.join()
        process.join()
        part.counts["kills"] += 1
        ours.close()


# Pools: each result is right, or says that its worker died.


def work(item: int) -> tuple[int, bytes]:
    return item, bytes(item % 50_000)


def pools(part: Part) -> None:
    with part.ctx.Pool(3) as pool:
        for _ in part.turns():
            job = pool.map_async(work, range(2000), 20, retries=1)
            items = pool.imap_unordered(work, range(500))
            time.sleep(part.pause() / 2)
            worker = pool._pool[part.choose(pool._pool[:1])]
            try:
                os.kill(worker.pid, signal.SIGKILL)
                part.counts["kills"] += 1
            except ProcessLookupError:
                pass
            try:
                assert [item for item, _ in job.get(PATIENCE)] == list(range(2000))
            except procession.WorkerDied:
                part.counts["failed maps"] += 1
            part.counts["tasks"] += 100
            done = 0
            while True:
                try:
                    item, body = items.next(PATIENCE)
                except StopIteration:
                    break
                except procession.WorkerDied:
                    part.counts["failed tasks"] += 1
                else:
                    assert len(body) == item % 50_000, "a result is torn"
                done += 1
            assert done == 500, f"{done} results of 500"
            part.counts["tasks"] += 500


PARTS: dict[str, Callable[[Part], None]] = {"queues": queues, "locks": locks, "pipes": pipes, "pools": pools}


def start(ctx: Any, target: Callable[..., None], *args: Any) -> Any:
    process = ctx.Process(target=target, args=args, daemon=True)
    process.start()
    return process


def run_part(name: str, seconds: float, method: str) -> None:
    """Be one of the parts; the last line printed says what came of it."""
    # A part that hangs is asked for more than its stacks, see `main`.
    procession.debug_on_signal()
    part = Part(seconds, method)
    PARTS[name](part)
    part.check_use()
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"counts": part.counts, "first": part.used[0], "last": part.used[-1]}))


def main() -> int:
    """Run all parts side by side; how many failed is the exit code."""
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
        print(
            "    " + ", ".join(f"{what} {seen['first'][what]} -> {now}" for what, now in seen["last"].items())
        )
    print(f"{kills} processes were killed; {failed} parts failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
