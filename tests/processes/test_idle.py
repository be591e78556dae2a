"""Waiting is sleeping: no thread of a waiting process wakes up while nothing happens."""

import os
import threading
import time
from pathlib import Path

import pytest

import procession

# Longer than any polling interval, in seconds.
LONG = 1.5


def switches(pid):
    """How often the threads of a process gave up the processor or lost it."""
    count = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as status:
            count += sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)
    return count


def fall_asleep(*pids):
    """Return once none of the processes has woken up for a while."""
    limit = time.monotonic() + 120
    seen, since = None, time.monotonic()
    while time.monotonic() - since < LONG:
        assert time.monotonic() < limit, "they keep waking up"
        now = [switches(pid) for pid in pids]
        if now != seen:
            seen, since = now, time.monotonic()
        time.sleep(0.05)


def wait_in(obj, method, started):
    started.release()
    with obj if method == "wait" and hasattr(obj, "notify") else threading.Lock():
        getattr(obj, method)(*([0] if method == "put" else []))


def held_lock(context):
    lock = context.Lock()
    lock.acquire()
    return lock


def full_queue(context):
    queue = context.Queue(1)
    queue.put(0)
    return queue


def unfinished_queue(context):
    queue = context.JoinableQueue()
    queue.put(0)
    return queue


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (held_lock, "acquire"),
        (lambda context: context.Semaphore(0), "acquire"),
        (lambda context: context.Event(), "wait"),
        (lambda context: context.Condition(), "wait"),
        (lambda context: context.Barrier(9), "wait"),
        (lambda context: context.Queue(), "get"),
        (full_queue, "put"),
        (unfinished_queue, "join"),
    ],
)
def test_processes_that_wait_for_each_other_sleep(make, method):
    """Whatever kind of object they wait for."""
    context = procession.get_context("fork")
    obj, started = make(context), context.Semaphore(0)
    waiting = [context.Process(target=wait_in, args=(obj, method, started), daemon=True) for _ in range(3)]
    for process in waiting:
        process.start()
    for _ in waiting:
        assert started.acquire(timeout=60)
    fall_asleep(*(process.pid for process in waiting))
    for process in waiting:
        process.kill()
        process.join()


def test_the_workers_of_an_idle_pool_sleep():
    """Until there is something to do."""
    with procession.get_context("fork").Pool(3) as pool:
        pids = pool.map(pid_after_a_moment, range(6), 1)
        fall_asleep(*{*pids})
        assert pool.apply(len, ("abc",)) == 3


def pid_after_a_moment(_):
    time.sleep(0.05)
    return os.getpid()


def test_the_descriptors_of_many_queues_cost_nothing(run_script):
    """No thread and no wake-up, while nothing arrives."""
    ran = run_script(
        """
        import select, sys, threading, procession
        queues = [procession.Queue() for _ in range(100)]
        readers = [queue._reader for queue in queues]
        for reader in readers:
            reader.fileno()
        print(threading.active_count(), len(select.select(readers, [], [], 0)[0]))
        queues[17].put(1)
        print(select.select(readers, [], [], 60)[0] == [readers[17]])
        """
    )
    assert ran.stdout.split() == ["1", "0", "True"], ran.stderr


def receive_from(connection, started):
    started.release()
    connection.recv()


def test_a_process_that_waits_at_a_pipe_sleeps_and_hears_of_its_end():
    """Also when the other side closes its descriptor without a message."""
    context = procession.get_context("fork")
    (mine, theirs), started = context.Pipe(), context.Semaphore(0)
    process = context.Process(target=receive_from, args=(theirs, started), daemon=True)
    process.start()
    theirs.close()
    assert started.acquire(timeout=60)
    fall_asleep(process.pid)
    # The child has a copy of this end, so that only a message ends its wait.
    mine.send(1)
    process.join(60)
    assert process.exitcode == 0


def test_a_holder_whose_first_thread_ended_is_watched_by_all_that_sleep(run_script):
    """Its end wakes every sleeper, also those that the end of its first thread did not wake."""
    ran = run_script(
        """
        import ctypes, os, select, signal, sys, threading, time, procession
        sys.path.insert(0, ROOT)
        from tests.processes.test_idle import fall_asleep

        lock, event = procession.Lock(), procession.Event()
        (heard, tell), (ends, end) = os.pipe(), os.pipe()
        libc = ctypes.PyDLL(None)
        libc.pthread_exit.argtypes = [ctypes.c_void_p]

        def fork(run):
            pid = os.fork()
            if pid == 0:
                run()
                time.sleep(600)
                os._exit(0)
            return pid

        def hear():
            assert select.select([heard], [], [], 60)[0], "nobody says anything"
            return os.read(heard, 1).decode()

        def hold():
            lock.acquire()
            threading.Thread(target=time.sleep, args=(600,)).start()
            os.write(tell, b"h")
            os.read(ends, 1)
            ctypes.CDLL(None).pthread_exit(None)

        def stand_by():
            event.wait()
            os.write(tell, b"s")

        def wait():
            try:
                lock.acquire()
            except procession.OwnerDied:
                os.write(tell, b"d")

        holder = fork(hold)
        said = hear()
        # The kernel wakes the one that sleeps first.
        others = [fork(stand_by)]
        fall_asleep(*others)
        others.append(fork(wait))
        fall_asleep(*others)
        os.write(end, b"1")
        while open(f"/proc/{holder}/stat").read().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        event.set()
        said += hear()
        fall_asleep(*others)
        os.kill(holder, signal.SIGKILL)
        said += hear()
        for pid in others:
            os.kill(pid, signal.SIGKILL)
        print(said)
        """.replace("ROOT", repr(str(Path(__file__).resolve().parents[2])))
    )
    assert ran.stdout.split() == ["hsd"], ran.stderr
