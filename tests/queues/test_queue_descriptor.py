"""The descriptor of a `Queue` is readable exactly while a message waits, in every process with the queue."""

import asyncio
import ctypes
import gc
import os
import queue
import resource
import select
import threading
import time

import pytest

import procession
from procession import connection
from procession._core.queues import ends


def test_the_reader_can_be_waited_for():
    """`connection.wait` takes the end that subclasses of the stdlib's queue know as `_reader`."""
    q = procession.Queue()
    assert connection.wait([q._reader], 0) == []
    assert q._reader.poll(0.01) is False
    thread = threading.Thread(target=q.put, args=(1,))
    thread.start()
    assert connection.wait([q._reader], 30) == [q._reader]
    assert q._reader.recv() == 1
    thread.join()


def put_numbers(q, count):
    for number in range(count):
        q.put(number)


def test_the_reading_end_is_waited_on_with_select(ctx):
    """Its descriptor is readable while there is a message, and a `get` then never waits."""
    q = ctx.Queue()
    assert select.select([q._reader], [], [], 0)[0] == []
    child = ctx.Process(target=put_numbers, args=(q, 50))
    child.start()
    got = []
    while len(got) < 50:
        assert select.select([q._reader], [], [], 30)[0] == [q._reader]
        got.append(q.get(timeout=0) if len(got) % 2 else q.get_nowait())
    assert got == list(range(50))
    assert select.select([q._reader], [], [], 0)[0] == []
    child.join()


def test_an_event_loop_reads_a_queue():
    """`add_reader` on the reading end."""

    async def collect(q, count):
        loop, got, done = asyncio.get_running_loop(), [], asyncio.Event()

        def take():
            got.append(q.get_nowait())
            if len(got) == count:
                done.set()

        loop.add_reader(q._reader, take)
        await asyncio.wait_for(done.wait(), 30)
        loop.remove_reader(q._reader)
        return got

    q = procession.Queue()
    thread = threading.Thread(target=put_numbers, args=(q, 20))
    thread.start()
    assert asyncio.run(collect(q, 20)) == list(range(20))
    thread.join()


def test_the_descriptor_of_a_queue_ends_with_it():
    """No thread is needed for it."""
    threads = threading.active_count()
    q = procession.Queue()
    fd = q._reader.fileno()
    assert threading.active_count() == threads
    del q
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)


def take_what_the_descriptor_shows(q, turn, started, taken):
    started.release()
    while True:
        with turn:
            if select.select([q._reader], [], [], 30)[0] != [q._reader]:
                return
            # It waits for ever if the descriptor told of a message that another process has taken.
            number = q.get()
        if number is None:
            return
        taken.put(number)


def test_processes_that_look_under_a_lock_never_wait_for_a_message_that_is_gone(ctx):
    """Each process has a descriptor of its own; all of them show the same messages."""
    q, taken = ctx.Queue(), ctx.Queue()
    turn, started = ctx.Lock(), ctx.Semaphore(0)
    arguments = (q, turn, started, taken)
    consumers = [ctx.Process(target=take_what_the_descriptor_shows, args=arguments) for _ in range(3)]
    for consumer in consumers:
        consumer.start()
    for _ in consumers:
        assert started.acquire(timeout=60)
    for number in range(600):
        q.put(number)
    got = [taken.get(timeout=60) for _ in range(600)]
    for _ in consumers:
        q.put(None)
    for consumer in consumers:
        consumer.join(60)
        assert consumer.exitcode == 0
    assert sorted(got) == list(range(600))


def put_when_asked(q, asked):
    for number in iter(asked.recv, None):
        q.put(number)


def test_a_process_that_had_the_queue_before_shows_what_it_puts(ctx):
    """Also when the producer does not know that another process asked for the descriptor."""
    q = ctx.Queue()
    asked, ask = ctx.Pipe(duplex=False)
    child = ctx.Process(target=put_when_asked, args=(q, asked))
    child.start()
    ask.send(1)
    assert q.get(timeout=60) == 1
    assert select.select([q._reader], [], [], 0)[0] == []
    for number in (2, 3):
        ask.send(number)
        assert select.select([q._reader], [], [], 60)[0] == [q._reader]
        assert q.get(timeout=0) == number
        assert select.select([q._reader], [], [], 0)[0] == []
    ask.send(None)
    child.join(60)


def ask_and_wait(q, asked, go_on):
    q._reader.fileno()
    asked.set()
    go_on.wait()


def test_the_descriptor_survives_the_process_that_asked_first():
    """The other processes have it open as well; a later one gets it from them."""
    context = procession.get_context("fork")
    q, asked, go_on = context.Queue(), context.Event(), context.Event()
    child = context.Process(target=ask_and_wait, args=(q, asked, go_on))
    child.start()
    assert asked.wait(60)
    assert select.select([q._reader], [], [], 0)[0] == []
    child.kill()
    child.join(60)
    later = context.Process(target=put_numbers, args=(q, 1))
    later.start()
    assert select.select([q._reader], [], [], 60)[0] == [q._reader]
    assert q.get(timeout=0) == 0
    later.join(60)


def put_when_told(q, go):
    go.wait()
    q.put("news")


def wait_at_the_descriptor(q, ready, heard):
    number = q._reader.fileno()
    ready.release()
    heard.put(select.select([number], [], [], 30)[0] == [number])


def fork_one_that_waits(q, ready, heard):
    q._reader.fileno()
    if os.fork() == 0:
        wait_at_the_descriptor(q, ready, heard)
        os._exit(0)
    time.sleep(600)


def test_a_child_waits_at_the_descriptor_of_a_parent_that_is_gone():
    """It never asked for it before its parent had it."""
    context = procession.get_context("fork")
    q, heard, ready, go = context.Queue(), context.Queue(), context.Semaphore(0), context.Event()
    producer = context.Process(target=put_when_told, args=(q, go))
    parent = context.Process(target=fork_one_that_waits, args=(q, ready, heard))
    producer.start()
    parent.start()
    assert ready.acquire(timeout=60)
    parent.kill()
    parent.join()
    go.set()
    assert heard.get(timeout=60)
    producer.join()


def test_who_asked_late_among_many_is_told():
    """However many processes asked for the descriptor before, and have ended."""
    context = procession.get_context("fork")
    q, heard, ready, go = context.Queue(), context.Queue(), context.Semaphore(0), context.Event()
    producer = context.Process(target=put_when_told, args=(q, go))
    producer.start()
    waiting = []
    for _ in range(12):
        waiting.append(context.Process(target=wait_at_the_descriptor, args=(q, ready, heard)))
        waiting[-1].start()
        assert ready.acquire(timeout=60)
    for process in waiting[:10]:
        process.kill()
        process.join()
    go.set()
    assert [heard.get(timeout=60), heard.get(timeout=60)] == [True, True]
    for process in (producer, *waiting[10:]):
        process.join()


def test_a_process_has_one_descriptor_for_a_queue():
    """Through whichever handle it was asked for, and as long as one exists."""
    context = procession.get_context("fork")
    q, go = context.Queue(), context.Event()
    producer = context.Process(target=put_when_told, args=(q, go))
    producer.start()
    reader = q._reader
    number = reader.fileno()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(queue.Empty):
        q.get_nowait()
    assert len(os.listdir("/proc/self/fd")) == before
    del q
    gc.collect()
    go.set()
    assert select.select([number], [], [], 30)[0] == [number]
    assert reader.fileno() == number
    assert reader.recv() == "news"
    producer.join()


def use_without_a_free_descriptor(q, back, go):
    go.wait()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    files = []
    with pytest.raises(OSError, match="Too many open files"):
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    number = back.get(timeout=30)
    q.put(number)
    q.put(back.get(timeout=30))


def test_a_process_without_a_free_descriptor_puts_and_gets():
    """It also shows the messages that it puts, though it cannot open the pipe that others wait on."""
    context = procession.get_context("fork")
    q, back, go = context.Queue(), context.Queue(), context.Event()
    child = context.Process(target=use_without_a_free_descriptor, args=(q, back, go))
    child.start()
    assert select.select([q._reader, back._reader], [], [], 0)[0] == []
    go.set()
    for number in range(2):
        back.put(number)
        if may_have_a_table_of_its_own():
            assert select.select([q._reader], [], [], 30)[0] == [q._reader]
        assert q.get(timeout=30) == number
    child.join()
    assert child.exitcode == 0
    assert select.select([q._reader], [], [], 0)[0] == []


def may_have_a_table_of_its_own():
    """Sandboxes forbid threads to have descriptors of their own."""
    libc, answers = ctypes.CDLL(None), []
    thread = threading.Thread(target=lambda: answers.append(libc.unshare(0x400)))
    thread.start()
    thread.join()
    return answers == [0]


def test_a_descriptor_left_readable_is_brought_in_line_by_who_waits():
    """As it is when a producer was killed before its message was there."""
    q = procession.Queue()
    (other, tell), in_line = procession.Pipe(False), []
    number = q._reader.fileno()

    def leave_a_byte():
        end = os.open(f"/proc/self/fd/{number}", os.O_WRONLY)
        os.write(end, b"!")
        os.close(end)
        limit = time.monotonic() + 30
        while select.select([number], [], [], 0)[0] and time.monotonic() < limit:
            time.sleep(0.01)
        in_line.append(time.monotonic() < limit)
        tell.send("done")

    thread = threading.Timer(0.2, leave_a_byte)
    thread.start()
    assert connection.wait([q._reader, other], 60) == [other]
    thread.join()
    assert in_line == [True]


class ShownInVain(ends.QueueReader):
    """An end whose message is shown and does not come, as when its sender was stopped in between."""

    looks = 0

    def poll(self, timeout=0.0):
        self.looks += 1
        return False


def test_a_message_that_is_shown_and_does_not_come_is_not_looked_for_all_the_time():
    """The other objects of the wait are noticed."""
    q = procession.Queue()
    q.put(1)
    end = ShownInVain(q.handle)
    (other, tell), threads = procession.Pipe(False), []
    assert connection.wait([end], 0.3) == []
    assert end.looks < 100
    threads.append(threading.Timer(0.1, tell.send, ("news",)))
    threads[0].start()
    assert connection.wait([end, other], 30) == [other]
    threads[0].join()


def test_a_descriptor_that_the_program_closed_is_made_again():
    """As daemons do, which close every descriptor."""
    q = procession.Queue()
    os.close(q._reader.fileno())
    q.put(1)
    assert select.select([q._reader], [], [], 0)[0] == [q._reader]
    assert q.get(timeout=0) == 1
    assert select.select([q._reader], [], [], 0)[0] == []


def take_one(q, answers):
    answers.put(q.get(timeout=30))


def test_a_forked_child_leaves_its_parents_descriptor_alone():
    """The child gets its message, and the parent's descriptor goes on telling."""
    context = procession.get_context("fork")
    q, answers = context.Queue(), context.SimpleQueue()
    q.put("for the child")
    assert select.select([q._reader], [], [], 30)[0] == [q._reader]
    child = context.Process(target=take_one, args=(q, answers))
    child.start()
    assert answers.get() == "for the child"
    child.join()
    q.put("for the parent")
    assert select.select([q._reader], [], [], 30)[0] == [q._reader]
    assert q.get(timeout=30) == "for the parent"
