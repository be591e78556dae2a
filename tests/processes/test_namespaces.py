"""Processes in PID and time namespaces of their own, and threads that end before their process.

No living process is taken for dead, and every death is noticed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Run = Callable[..., "CompletedProcess[str]"]

HELPERS = """
import ctypes, os, signal, sys, threading, time
import procession as mp

libc = ctypes.CDLL(None, use_errno=True)
METHOD = sys.argv[1] if len(sys.argv) > 1 else "fork"
NEWUSER, NEWPID, NEWNS, NEWTIME = 0x10000000, 0x20000000, 0x00020000, 0x00000080

def enter_namespaces(kinds):
    # Whoever is not root makes itself one, in a namespace for that.
    kinds |= 0 if os.geteuid() == 0 else NEWUSER
    if libc.unshare(kinds) != 0:
        print("refused", flush=True)
        os._exit(0)

def in_namespaces(work, kinds=NEWPID | NEWNS, proc=True):
    # A process that is the first one of a PID namespace, with a /proc of its own or without.
    enter_namespaces(kinds)
    pid = os.fork()
    if pid == 0:
        if proc and kinds & NEWNS:
            libc.mount(b"none", b"/", None, 0x4000 | 1 << 18, None)
            assert libc.mount(b"proc", b"/proc", b"proc", 0, None) == 0
        try:
            work()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(pid, 0)

def first_used_by_a_thread(make):
    made = []
    thread = threading.Thread(target=lambda: made.append(make()))
    thread.start()
    thread.join()
    return made[0]
"""


@pytest.fixture
def run(run_script: Run) -> Callable[..., list[str]]:
    """Run a program text with these helpers; the lines that it printed."""

    def run(text: str, *arguments: str, flags: tuple[str, ...] = ()) -> list[str]:
        ran = run_script(HELPERS + text, *arguments, flags=flags)
        lines = ran.stdout.splitlines()
        if "refused" in lines:
            pytest.skip("namespaces are not allowed here")
        assert ran.stderr == ""
        return lines

    return run


@pytest.mark.parametrize("proc", ["own", "outer"])
def test_a_sandboxed_child_takes_its_parent_for_alive(
    run: Callable[..., list[str]], start_method: str, proc: str
) -> None:
    """The first lock was made by a thread that has ended; a child in a PID namespace wants it."""
    program = f"""
def sandboxed(lock, box, value):
    in_namespaces(lambda: use(lock, box, value), proc={proc == "own"})

def use(lock, box, value):
    print(lock.acquire(timeout=0.5), flush=True)
    # It looks after the dead, too.
    for _ in range(20):
        mp.Queue().put(b"x" * 5000)
    box.put("from inside")
    value.value += 1

if __name__ == "__main__":
    lock, box, value = first_used_by_a_thread(lambda: (mp.Lock(), mp.Queue(), mp.Value("i", 0)))
    lock.acquire()
    child = mp.get_context(METHOD).Process(target=sandboxed, args=(lock, box, value))
    child.start()
    child.join()
    if child.exitcode == 0:
        print(box.get(timeout=10), value.value)
        lock.release()
        print("released", flush=True)
"""
    assert run(program, start_method) == ["False", "from inside 1", "released"]


@pytest.mark.parametrize("proc", ["own", "outer"])
def test_processes_start_inside_a_pid_namespace_while_others_look_for_dead_ones(
    run: Callable[..., list[str]], start_method: str, proc: str
) -> None:
    """Their numbers mean other processes, or none, to the outer program, which starts its own."""
    program = f"""
def nothing():
    pass

def inside(box):
    ctx = mp.get_context(METHOD)
    for number in range(4):
        child = ctx.Process(target=box.put, args=(number,))
        child.start()
        child.join()
        print(child.exitcode, flush=True)

def sandboxed(box):
    in_namespaces(lambda: inside(box), proc={proc == "own"})

if __name__ == "__main__":
    box, kept = mp.Queue(), mp.Queue()
    # A server that is the sandbox's as well, under forkserver.
    before = mp.get_context(METHOD).Process(target=nothing)
    before.start()
    before.join()
    child = mp.get_context(METHOD).Process(target=sandboxed, args=(box,))
    child.start()
    while child.is_alive():
        other = mp.get_context("fork").Process(target=nothing)
        other.start()
        other.join()
        for size in (1500, 6000, 24000, 100000):
            kept.put(b"x" * size)
    if child.exitcode == 0:
        print(sorted(box.get(timeout=10) for _ in range(4)), flush=True)
"""
    assert run(program, start_method) == ["0"] * 4 + ["[0, 1, 2, 3]"]


def test_the_death_of_a_sandboxed_holder_is_noticed_outside(
    run: Callable[..., list[str]], start_method: str
) -> None:
    """A process without a number here is killed with a lock, also when its first thread has ended."""
    program = """
def hold(lock, box):
    # What it holds is held by a process whose first thread did not begin.
    threading.Thread(target=lock.acquire).run()
    box.put("held")
    signal.pause()

def inside(lock, box):
    child = os.fork()
    if child == 0:
        hold(lock, box)
    os.waitpid(child, 0)

def sandboxed(lock, box):
    in_namespaces(lambda: inside(lock, box))

if __name__ == "__main__":
    lock, box = mp.Lock(), mp.Queue()
    child = mp.get_context(METHOD).Process(target=sandboxed, args=(lock, box))
    child.start()
    if box.get(timeout=20) == "held":
        # The whole namespace ends with its first process, which the sandbox's parent waits for.
        first = int(open(f"/proc/{child.pid}/task/{child.pid}/children").read())
        os.kill(first, signal.SIGKILL)
        try:
            print(lock.acquire(timeout=20))
        except mp.OwnerDied:
            print("OwnerDied")
        child.join()
"""
    assert run(program, start_method) == ["OwnerDied"]


def test_processes_in_a_time_namespace_are_not_taken_for_dead(run: Callable[..., list[str]]) -> None:
    """The kernel reports other start times there."""
    program = """
def inside(lock, box):
    print(lock.acquire(timeout=0.5))
    child = mp.get_context("spawn").Process(target=box.put, args=("from inside",))
    child.start()
    child.join()
    print(child.exitcode)

def sandboxed(lock, box):
    enter_namespaces(NEWTIME)
    with open("/proc/self/timens_offsets", "w") as file:
        file.write("boottime 1000000 0")
    pid = os.fork()
    if pid == 0:
        inside(lock, box)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(pid, 0)

if __name__ == "__main__":
    if not os.path.exists("/proc/self/ns/time"):
        print("refused")
        sys.exit()
    lock, box = first_used_by_a_thread(lambda: (mp.Lock(), mp.Queue()))
    lock.acquire()
    child = mp.get_context("fork").Process(target=sandboxed, args=(lock, box))
    child.start()
    while child.is_alive():
        other = mp.get_context("fork").Process(target=time.sleep, args=(0,))
        other.start()
        other.join()
    print(box.get(timeout=10))
    lock.release()
"""
    assert run(program) == ["False", "0", "from inside"]


EXEC = """
def watch(lock):
    pid = os.fork()
    if pid == 0:
        try:
            print(lock.acquire(timeout=20), flush=True)
        except mp.OwnerDied:
            print("OwnerDied", flush=True)
        os._exit(0)
    return pid

def replace(lock):
    lock.acquire()
    pid = watch(lock)
    # The program that takes over ends when the watcher does.
    os.execv(sys.executable, [sys.executable, "-c", f"import os; os.waitpid({pid}, 0)"])
"""


@pytest.mark.parametrize("who", ["the first thread", "the thread that began"])
def test_exec_is_a_death_although_the_process_lives(run: Callable[..., list[str]], who: str) -> None:
    """A holder whose first lock a thread made becomes another program: it goes on under its number."""
    program = EXEC + (
        "replace(first_used_by_a_thread(mp.Lock))"
        if who == "the first thread"
        else "first_used_by_a_thread(lambda: replace(mp.Lock()))"
    )
    flags = ("-W", "ignore::DeprecationWarning")
    assert run(program, flags=flags) == ["OwnerDied"]


def test_a_process_lives_on_when_its_first_thread_has_ended(run: Callable[..., list[str]]) -> None:
    """It keeps its lock, and its end is noticed."""
    program = """
def go_on(lock, box):
    # Until only this thread is left.
    while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.001)
    box.put("alone")
    box.get()
    os.kill(os.getpid(), signal.SIGKILL)

lock, box, answer = mp.Lock(), mp.Queue(), mp.Queue()
pid = os.fork()
if pid == 0:
    lock.acquire()
    def alone():
        go_on(lock, Pair())
    class Pair:
        put, get = staticmethod(box.put), staticmethod(answer.get)
    threading.Thread(target=alone).start()
    libc.pthread_exit.argtypes = [ctypes.c_void_p]
    # Not a signal, nor the end of the process: of its first thread alone. It gives the interpreter up.
    ctypes.CDLL(None).pthread_exit(None)
print(box.get(timeout=20))
print(lock.acquire(timeout=0.5))
mp.Queue().put(b"x" * 5000)
answer.put("end")
try:
    print(lock.acquire(timeout=20))
except mp.OwnerDied:
    print("OwnerDied")
os.waitpid(pid, 0)
"""
    assert run(program) == ["alone", "False", "OwnerDied"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="does not warn of threads")
def test_no_thread_is_left_where_the_program_has_none(run: Callable[..., list[str]]) -> None:
    """The thread that made the first lock and ended does not make Python warn of a fork."""
    program = """
lock = first_used_by_a_thread(mp.Lock)
child = mp.get_context("fork").Process(target=lock.acquire)
child.start()
child.join()
print(child.exitcode, len(os.listdir("/proc/self/task")))
"""
    assert run(program, flags=("-W", "error")) == ["0 1"]


def test_a_sandboxed_process_starts_no_processes_outside_of_its_sandbox(
    run: Callable[..., list[str]],
) -> None:
    """The fork server of its parent has another namespace, though the numbers of sessions are the same."""
    program = """
def tell_namespace():
    print(os.stat("/proc/self/ns/pid").st_ino, flush=True)

def start():
    child = mp.get_context("forkserver").Process(target=tell_namespace)
    child.start()
    child.join()
    print(child.exitcode, flush=True)

def outside():
    os.setsid()
    start()
    in_namespaces(inside)

def inside():
    os.setsid()
    start()

if __name__ == "__main__":
    mp.Lock()
    in_namespaces(outside)
"""
    first, ended, second, ended_too = run(program)
    assert (ended, ended_too) == ("0", "0")
    assert first != second


def test_a_queues_descriptor_is_one_for_all_namespaces(run: Callable[..., list[str]]) -> None:
    """A process that was forked afterwards shows the messages that it puts."""
    program = """
import select
queue = mp.Queue()
queue._reader.fileno()
if os.fork() == 0:
    in_namespaces(lambda: queue.put("inside"))
    os._exit(0)
os.wait()
assert select.select([queue._reader], [], [], 20)[0]
print(queue.get(timeout=0))
assert not select.select([queue._reader], [], [], 0)[0]
"""
    assert run(program) == ["inside"]


def test_who_cannot_open_a_queues_descriptor_puts_and_gets(run: Callable[..., list[str]]) -> None:
    """While it lives, asking for the descriptor reports that its messages are not shown."""
    program = """
import select
queue, answers = mp.Queue(), mp.Queue()
(asked, ask), (ends, end) = mp.Pipe(False), mp.Pipe(False)

def inside():
    asked.recv()
    answers.put(queue.get(timeout=20))
    asked.recv()
    queue.put("from inside")
    answers.put("done")
    ends.recv()

pid = os.fork()
if pid == 0:
    in_namespaces(inside)
    os._exit(0)
queue._reader.fileno()
queue.put("from outside")
ask.send(None)
print(answers.get(timeout=20))
assert not select.select([queue._reader], [], [], 0)[0]
ask.send(None)
print(answers.get(timeout=20))
try:
    queue._reader.fileno()
except PermissionError as error:
    print("PID namespace" in str(error))
print(queue.get(timeout=20))
end.send(None)
os.waitpid(pid, 0)
assert not select.select([queue._reader], [], [], 0)[0]
queue.put("seen")
assert select.select([queue._reader], [], [], 0)[0]
"""
    assert run(program) == ["from outside", "done", "True", "from inside"]
