"""Queues and pipes, when a process that uses them dies or is stopped."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import time
from typing import Any

from faults.subject import (
    ctx,
    die,
    fault,
    ours,
    package,
    promptly,
    raises,
    start,
    wait_until,
    wait_until_asleep,
)


def put_all(box: Any, items: list[Any]) -> None:
    for item in items:
        box.put(item)


def get_one(line: Any, box: Any) -> None:
    line.send("there")
    line.send(box.get())


def kill_when_asleep(target: Any, *args: Any) -> None:
    line, theirs = package.Pipe()
    process = start(target, theirs, *args)
    line.recv()
    wait_until_asleep(process.pid)
    process.kill()
    process.join()


@fault("a consumer is killed while it waits in get; another goes on")
def consumer_dies_waiting() -> None:
    box = ctx.Queue()
    for _ in range(3):
        kill_when_asleep(get_one, box)
    box.put("message")
    with promptly():
        assert box.get(timeout=5) == "message"


@fault("a consumer of a SimpleQueue is killed while it waits in get")
def simple_consumer_dies_waiting() -> None:
    box = ctx.SimpleQueue()
    kill_when_asleep(get_one, box)
    start(put_all, box, ["message"]).join()
    with promptly():
        assert box.get() == "message"


def put_for_ever(line: Any, box: Any, size: int) -> None:
    line.send("there")
    number = 0
    while True:
        box.put((number, b"x" * size))
        number += 1


@fault("producers are killed in the middle of put; nothing is torn, others go on")
def producers_die_putting() -> None:
    for size in (10, 100_000):
        box = ctx.Queue()
        for _ in range(5):
            line, theirs = package.Pipe()
            producer = start(put_for_ever, theirs, box, size)
            line.recv()
            first = box.get(timeout=10)
            assert first[1] == b"x" * size
            producer.kill()
            producer.join()
            expected = first[0] + 1
            while True:
                try:
                    number, body = box.get(timeout=0.2)
                except queue.Empty:
                    break
                assert (number, len(body)) == (expected, size)
                expected += 1
            start(put_all, box, ["next"]).join()
            assert box.get(timeout=5) == "next"


def put_and_die(box: Any) -> None:
    box.put("kept")
    os.kill(os.getpid(), signal.SIGKILL)


@fault("a producer is killed right after put returned; the message is there")
def producer_dies_after_put() -> None:
    box = ctx.Queue()
    start(put_and_die, box).join()
    assert box.get(timeout=2) == "kept"


@fault("a full Queue's producer waits, and its consumer is killed; another consumer goes on")
def bounded_queue_outlives_its_consumer() -> None:
    box = ctx.Queue(1)
    box.put(0)
    line, theirs = package.Pipe()
    producer = start(say_and_put, theirs, box)
    line.recv()
    kill_when_asleep(get_twice, box)
    with promptly():
        assert box.get(timeout=5) == 2
    producer.join()


def say_and_put(line: Any, box: Any) -> None:
    line.send("there")
    box.put(1)
    box.put(2)


def get_twice(line: Any, box: Any) -> None:
    assert (box.get(), box.get()) == (0, 1)
    line.send("there")
    time.sleep(60)


def put_much(box: Any) -> None:
    for _ in range(100):
        box.put(b"x" * 100_000)


@fault("a process that put more than a pipe holds is joined before anybody reads")
def join_before_reading() -> None:
    box = ctx.Queue()
    producer = start(put_much, box)
    producer.join(5)
    assert producer.exitcode == 0, "the producer does not end before its messages are read"
    for _ in range(100):
        box.get(timeout=5)


def explode() -> None:
    raise RuntimeError("cannot be unpickled")


class Bomb:
    def __reduce__(self) -> Any:
        return explode, ()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("cannot be pickled")


@fault("a message cannot be unpickled, another cannot be pickled; the queue goes on")
def bad_messages() -> None:
    box = ctx.Queue()
    box.put(Bomb())
    box.put("good")
    with raises(RuntimeError):
        box.get(timeout=5)
    assert box.get(timeout=5) == "good"
    if ours is not None:
        with raises(pickle.PicklingError):
            box.put(Unpicklable())
    else:
        box.put(Unpicklable())
    box.put("better")
    assert box.get(timeout=5) == "better"


def get_and_stop(line: Any, box: Any) -> None:
    line.send("there")
    while True:
        box.get()


@fault("a consumer is stopped (SIGSTOP) while it waits; others go on")
def stopped_consumer_holds_up_nobody() -> None:
    box = ctx.Queue()
    line, theirs = package.Pipe()
    stopped = start(get_and_stop, theirs, box)
    line.recv()
    wait_until_asleep(stopped.pid)
    os.kill(stopped.pid, signal.SIGSTOP)
    other_line, theirs = package.Pipe()
    other = start(get_one, theirs, box)
    other_line.recv()
    for number in range(3):
        box.put(number)
    with promptly():
        assert other_line.poll(5), "the other consumer got nothing"
    stopped.kill()
    stopped.join()
    other.join()


def take_and_die(box: Any) -> None:
    box.get()
    die("SIGKILL")


@fault("a worker dies before task_done: join is not for ever")
def joinable_queue_goes_on() -> None:
    box = ctx.JoinableQueue()
    box.put("lost")
    start(take_and_die, box).join()
    box.put("next")
    assert box.get(timeout=5) == "next"
    box.task_done()
    with promptly(), raises(Exception):
        box.join()
    box.task_done()
    with promptly():
        box.join()


def read_all(line: Any, closing: Any) -> None:
    closing.close()
    try:
        while True:
            line.recv()
    except EOFError:
        os._exit(0)


@fault("the writer of a Pipe is killed in the middle of a message: the reader gets an end, not a hang")
def writer_dies_in_a_message() -> None:
    ours_, theirs = package.Pipe()
    writer = start(send_for_ever, theirs)
    theirs.close()
    assert len(ours_.recv_bytes()) == 3_000_000
    writer.kill()
    writer.join()
    with promptly(), raises(EOFError, OSError):
        while True:
            assert len(ours_.recv_bytes()) == 3_000_000


def send_for_ever(line: Any) -> None:
    while True:
        line.send_bytes(b"x" * 3_000_000)


@fault("the reader of a Pipe is killed while the writer waits for room")
def reader_dies_before_a_writer() -> None:
    ours_, theirs = package.Pipe()
    reader = start(receive_one, theirs)
    theirs.close()
    with raises(BrokenPipeError, ConnectionResetError):
        ours_.send_bytes(b"x" * 1_000_000)
        reader.kill()
        for _ in range(10_000):
            ours_.send_bytes(b"x" * 1_000_000)
    reader.join()


def receive_one(line: Any) -> None:
    line.recv_bytes()
    time.sleep(60)


def hammer(line: Any, box: Any, out: Any) -> None:
    line.send("there")
    while True:
        out.put(box.get())


@fault("consumers are killed at random under full speed: nothing is doubled or torn, few are lost")
def consumers_die_at_full_speed() -> None:
    box, out = ctx.Queue(), ctx.Queue()
    kills = 5
    for round_ in range(kills):
        line, theirs = package.Pipe()
        consumer = start(hammer, theirs, box, out)
        line.recv()
        for number in range(1000):
            box.put((round_, number))
        wait_until(lambda: box.qsize() < 900)
        consumer.kill()
        consumer.join()
    box.put(None)
    line, theirs = package.Pipe()
    last = start(hammer, theirs, box, out)
    seen = list(iter(out.get, None))
    last.kill()
    last.join()
    assert len(set(seen)) == len(seen)
    assert len(seen) >= 1000 * kills - kills
