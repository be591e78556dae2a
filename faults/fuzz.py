"""Random damage: invalid bytes may raise an exception and do nothing else.

    python -m faults.fuzz --target wire --minutes 30

`wire` decodes damaged messages, `arena` writes nonsense into the shared memory of a process that goes on
using it, `handshake` connects to a listener and breaks its protocol. One number, the seed, determines each
try. `corpus/` holds the seeds that once found something; they are tried first.
"""

from __future__ import annotations

import argparse
import mmap
import os
import random
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import procession
from procession import _native
from procession.connection import Client, Listener

CORPUS = Path(__file__).parent / "corpus"

# Tries of one child process, and the longest that one may take, in seconds.
BATCH = 200
TIMEOUT = 20.0
# A limit of address space, so that allocating an invalid length fails.
HEADROOM = 512 << 20


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with a few random changes."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        index = rng.randrange(len(body) + 1)
        match rng.randrange(6):
            case 0 if body:
                body[index % len(body)] ^= 1 << rng.randrange(8)
            case 1 if body:
                body[index % len(body)] = rng.choice((0, 1, 127, 128, 254, 255))
            case 2:
                del body[index : index + rng.randrange(1, 9)]
            case 3:
                body[index:index] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                body[index : index + 8] = rng.choice((0, 2**31, 2**32 - 1, 2**63, 2**64 - 1)).to_bytes(
                    8, "little"
                )
            case 5 if body:
                start = rng.randrange(len(body))
                body[index:index] = body[start : start + rng.randrange(1, 33)]
    return bytes(body)


def some_value(rng: random.Random, depth: int = 0) -> Any:
    """A random value that a program might send."""
    kind = rng.randrange(8 if depth > 3 else 13)
    size = rng.choice((0, 1, 2, 3, 8))
    match kind:
        case 0:
            return rng.choice((None, True, False))
        case 1:
            return rng.choice((0, -1, 255, 2**31, -(2**63), 2**64, rng.getrandbits(200)))
        case 2:
            return rng.choice((0.0, -0.5, 1e308, float("inf"), float("nan")))
        case 3 | 4:
            return "".join(rng.choice("aé€😀\x00") for _ in range(size * 5))
        case 5:
            return rng.randbytes(size * 9)
        case 6:
            return bytearray(rng.randbytes(size))
        case 7:
            return range(size)
        case 8:
            return [some_value(rng, depth + 1) for _ in range(size)]
        case 9:
            return tuple(some_value(rng, depth + 1) for _ in range(size))
        case 10:
            return {str(number): some_value(rng, depth + 1) for number in range(size)}
        case 11:
            shared = [some_value(rng, depth + 1)]
            shared.append(shared)
            return [shared, shared]
        case _:
            return {number: {number} for number in range(size)}


def try_wire(seed: int) -> None:
    """Decode a damaged message."""
    rng = random.Random(seed)
    data = damaged(rng, _native.dumps(some_value(rng)))
    try:
        repr(_native.loads(data))
    except (Exception, SystemExit):
        pass


class Objects:
    """One object of each kind, in the memory that is overwritten."""

    def __init__(self) -> None:
        self.queue = procession.JoinableQueue()
        self.full = procession.Queue(3)
        self.lock = procession.Lock()
        self.rlock = procession.RLock()
        self.semaphore = procession.BoundedSemaphore(2)
        self.condition = procession.Condition()
        self.event = procession.Event()
        self.barrier = procession.Barrier(2)
        self.value = procession.Value("q", 3)
        self.array = procession.Array("d", 20)
        self.ends = procession.Pipe()
        for number in range(40):
            self.queue.put([number] * number)
        for _ in range(20):
            self.queue.get()
        self.queue.put(bytes(100_000))

    def steps(self) -> Iterator[Callable[[], object]]:
        """Use every object as a program does, with short timeouts."""
        for body in (1, "x" * 300, bytes(5_000), bytes(90_000)):
            yield lambda body=body: self.queue.put(body, timeout=0.01)
            yield lambda body=body: self.full.put(body, timeout=0.01)
            yield lambda: self.queue.get(timeout=0.01)
            yield lambda: self.full.get(timeout=0.01)
        yield self.queue.qsize
        yield self.queue.task_done
        yield lambda: [self.lock.acquire(timeout=0.01), self.lock.release()]
        yield lambda: [self.rlock.acquire(timeout=0.01), self.rlock.release()]
        yield lambda: [self.semaphore.acquire(timeout=0.01), self.semaphore.release()]
        yield lambda: self.event.wait(0.01)
        yield self.event.set
        yield lambda: self.barrier.wait(0.01)
        yield self.wait_for_a_notification
        yield lambda: self.value.value
        yield lambda: self.array[3]
        yield lambda: self.ends[0].send([1, 2])
        yield lambda: self.ends[1].poll(0.01) and self.ends[1].recv()
        yield lambda: procession.Queue().put(1)
        yield _native.memory_stats
        yield _native.report
        yield _native.reap_all

    def wait_for_a_notification(self) -> None:
        """Wait as a thread does: with the lock of the condition."""
        if self.condition.acquire(timeout=0.01):
            self.condition.wait(0.01)
            self.condition.notify_all()
            self.condition.release()


def try_arena(seed: int) -> None:
    """Overwrite shared memory, in a process tree of its own."""
    pid = os.fork()
    if pid == 0:
        try:
            _overwrite(random.Random(seed))
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        # As if this process had crashed.
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))


def _overwrite(rng: random.Random) -> None:
    objects = Objects()
    fd = _native.arena_fd()
    with mmap.mmap(fd, _written(fd)) as memory:
        words = memoryview(memory).cast("Q")
        used = [index for index in range(len(words)) if words[index]]
        for step in objects.steps():
            if rng.randrange(2):
                for _ in range(rng.choice((1, 2, 8))):
                    index = (rng.choice(used) + rng.choice((0, 0, 0, 1, -1, 8))) % len(words)
                    words[index] = _nonsense(rng, words, used)
            try:
                step()
            except Exception:
                pass
        del words
    # Skip an orderly shutdown of the damaged objects: a killed process leaves the same.


def _written(fd: int) -> int:
    """The used length of the memory file, which itself is far longer."""
    end = 0
    try:
        while True:
            end = os.lseek(fd, os.lseek(fd, end, os.SEEK_DATA), os.SEEK_HOLE)
    except OSError:
        return end


def _nonsense(rng: random.Random, words: Any, used: list[int]) -> int:
    match rng.randrange(5):
        case 0:
            return rng.getrandbits(64)
        case 1:
            return rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
        case 2:
            return words[rng.choice(used)]
        case 3:
            return words[rng.choice(used)] ^ (1 << rng.randrange(64))
        case _:
            return rng.getrandbits(32)


class Bomb:
    """Fails the try if it is unpickled for an unauthenticated client."""

    def __reduce__(self) -> Any:
        return os._exit, (99,)


def try_handshake(seed: int) -> None:
    """A client without the key, and others that have it."""
    rng = random.Random(seed)
    with Listener(family="AF_UNIX", authkey=b"the key") as listener:
        accepted: list[Any] = []

        def serve() -> None:
            for _ in range(2):
                try:
                    accepted.append(listener.accept())
                except (OSError, EOFError, procession.AuthenticationError):
                    pass

        server = threading.Thread(target=serve)
        server.start()
        _impersonate(rng, str(listener.address))
        with Client(listener.address, authkey=b"the key") as client:
            server.join()
            client.send("message")
            assert accepted[-1].recv() == "message"
        assert len(accepted) == 1, "a client without the key was accepted"
        accepted[0].close()


def _impersonate(rng: random.Random, address: str) -> None:
    import pickle

    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(address)
        bomb = pickle.dumps(Bomb())
        frames = (
            b"#CHALLENGE#" + rng.randbytes(20),
            b"#WELCOME#",
            b"#FAILURE#",
            b"{sha256}" + bytes(32),
            bomb,
        )
        for _ in range(rng.randrange(4)):
            body = rng.choice(frames)
            frame = len(body).to_bytes(4, "big") + body
            try:
                stranger.send(damaged(rng, frame) if rng.randrange(2) else frame, socket.MSG_NOSIGNAL)
            except OSError:
                return


TARGETS: dict[str, Callable[[int], None]] = {"wire": try_wire, "arena": try_arena, "handshake": try_handshake}


def run_batch(target: Callable[[int], None], seeds: list[int]) -> tuple[int, str] | None:
    """Try seeds in a child process; return the seed that failed, and how."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _be_quiet()
        for seed in seeds:
            os.write(writer, b".")
            target(seed)
        os._exit(0)
    os.close(writer)
    begun = 0
    with open(reader, "rb", buffering=0) as dots:
        while select.select([dots], [], [], TIMEOUT)[0]:
            if not (seen := dots.read(4096)):
                break
            begun += len(seen)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return seeds[begun - 1], "hangs"
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return None
    return seeds[begun - 1], f"ends with {code}" if code > 0 else signal.Signals(-code).name


def _be_quiet() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, resource.RLIM_INFINITY))


def known(name: str) -> list[int]:
    """The seeds that once failed."""
    file = CORPUS / f"{name}.txt"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def main() -> int:
    """Try for as long as asked; the exit code is the number of seeds that failed."""
    parser = argparse.ArgumentParser(description="Feed damaged data to what must withstand it.")
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--first", type=int, help="only the first FIRST seeds, and those of the corpus")
    parser.add_argument(
        "--skip", type=int, default=0, help="with --first: leave out the first SKIP seeds and the corpus"
    )
    parser.add_argument("--seed", type=int, help="try this seed only, in this process")
    options = parser.parse_args()
    target = TARGETS[options.target]
    if options.seed is not None:
        target(options.seed)
        return 0
    end = time.monotonic() + options.minutes * 60
    waiting = [] if options.skip else known(options.target)
    if options.first is not None:
        waiting += range(options.skip, options.first)
        end = 0.0
    first = random.SystemRandom().getrandbits(48)
    tried = found = 0
    while waiting or time.monotonic() < end:
        batch = waiting[:BATCH] or list(range(first, first + BATCH))
        waiting = waiting[BATCH:]
        first += BATCH
        while batch and (finding := run_batch(target, batch)):
            seed, what = finding
            found += 1
            print(f"{options.target} {seed}: {what}", flush=True)
            tried += batch.index(seed) + 1
            batch = batch[batch.index(seed) + 1 :]
            if seed not in known(options.target):
                CORPUS.mkdir(exist_ok=True)
                with open(CORPUS / f"{options.target}.txt", "a") as corpus:
                    corpus.write(f"{seed}\n")
        tried += len(batch)
    print(f"{options.target}: {tried} tries, {found} findings")
    return min(found, 99)


if __name__ == "__main__":
    sys.exit(main())
