"""Whatever the start method, a child starts with its parent's state at that moment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

# A program that starts a process, changes something, and compares itself with its next processes.
PROGRAM = """
import os, pickle, resource, signal, sys, time
import procession

def describe():
    with open("/proc/self/status") as status:
        fields = dict(line.split(":\\t", 1) for line in status)
    names = ("Umask", "Uid", "Gid", "Groups", "SigIgn", "CapEff", "CapBnd", "NoNewPrivs", "Cpus_allowed")
    described = {{name: fields[name].strip() for name in names}}
    described.update(
        environment={{k: v for k, v in os.environ.items() if k != "LC_CTYPE"}},
        time_zone=time.tzname,
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        limits=[resource.getrlimit(n) for n in range(16)],
        blocked=sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        interrupt=signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        directory=os.getcwd(),
        session=(os.getpgid(0), os.getsid(0)),
        scheduling=os.sched_getscheduler(0),
        oom_score=open("/proc/self/oom_score_adj").read(),
        output=[os.fstat(fd).st_ino for fd in (1, 2)],
    )
    return described

def tell(queue, generations):
    if generations:
        ask(queue, generations - 1)
    else:
        queue.put(describe())

def ask(queue, generations):
    child = procession.get_context({method!r}).Process(target=tell, args=(queue, generations))
    child.start()
    child.join()
    assert child.exitcode == 0, child.exitcode

def nothing():
    pass

if __name__ == "__main__":
    os.chdir("/")
    queue = procession.Queue()
    ask(queue, 0)
    queue.get()
{change}
    here = describe()
    for generations in range(2):
        ask(queue, generations)
        there = queue.get()
        print({{name: (here[name], there[name]) for name in here if here[name] != there[name]}}, flush=True)
"""

CHANGES = {
    "nothing": "pass",
    "a variable": "os.environ['NEW'] = 'new'; os.environ['PATH'] += ':/more'; del os.environ['HOME']",
    "the time zone": "os.environ['TZ'] = 'EST5EDT'; time.tzset()",
    "the umask": "os.umask(0o027)",
    "the priority": "os.nice(3)",
    "the processors": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))\n"
    "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "ignored signals": "for number in signal.SIGUSR1, signal.SIGHUP: signal.signal(number, signal.SIG_IGN)",
    "an ignored interrupt": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "a blocked signal": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])",
    "the session": "os.setsid() if os.getpid() != os.getpgid(0) else os.setpgid(0, os.getppid() and 0)",
    "the scheduling class": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    "the score of the oom killer": "open('/proc/self/oom_score_adj', 'w').write('321')",
    "the directory": "os.mkdir(sys.argv[1]); os.chdir(sys.argv[1])",
}


def differences(run: Run, method: str, change: str, *arguments: str) -> list[str]:
    text = "\n".join(f"    {line}" for line in change.splitlines())
    done = run(PROGRAM.format(method=method, change=text), *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("what", CHANGES)
def test_a_child_begins_as_its_parent_is(
    run_script: Run, tmp_path: Path, start_method: str, what: str
) -> None:
    """The next children have what the parent changed since it started its first process."""
    assert differences(run_script, start_method, CHANGES[what], str(tmp_path / "new")) == ["{}", "{}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_is_the_user_that_its_parent_has_become(run_script: Run, start_method: str) -> None:
    """A program that gave up its privileges starts no more privileged processes."""
    change = "os.setgroups([4321]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)"
    if start_method == "spawn":
        pytest.skip("a fresh interpreter, which the other user may have no right to start")
    found = differences(run_script, start_method, change)
    assert found == ["{}", "{}"]


def test_a_child_writes_where_its_parents_output_goes(
    run_script: Run, tmp_path: Path, start_method: str
) -> None:
    """Standard output that was redirected since the first start, and closed standard error."""
    target = tmp_path / "output"
    done = run_script(
        f"""
        import os, sys
        import procession

        def tell():
            print("told", flush=True)
            try:
                os.fstat(2)
            except OSError:
                print("closed", flush=True)

        if __name__ == "__main__":
            context = procession.get_context({start_method!r})
            for again in range(2):
                child = context.Process(target=tell)
                child.start()
                child.join()
                os.dup2(os.open({str(target)!r}, os.O_WRONLY | os.O_CREAT), 1)
        """
    )
    assert done.stdout == "told\n"
    assert target.read_text() == "told\n"


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)], ids=["input", "output", "all"])
def test_a_program_without_standard_descriptors(
    run_script: Run, tmp_path: Path, start_method: str, closed: tuple[int, ...]
) -> None:
    """Descriptors opened to start a process never get the number of a standard stream."""
    done = run_script(
        f"""
        import os, sys

        said = os.dup(os.dup(1))
        for fd in {closed!r}:
            os.close(fd)
        sys.stdin = sys.stdout = sys.stderr = None
        import procession

        def tell(queue, end, n):
            # Into nowhere, and not into what the child was given.
            for fd in (1, 2):
                try:
                    os.write(fd, b"said")
                except OSError:
                    pass
            queue.put(n)
            end.send(n)

        if __name__ == "__main__":
            queue = procession.Queue()
            ours, theirs = procession.Pipe()
            child = procession.get_context({start_method!r}).Process(target=tell, args=(queue, theirs, 5))
            child.start()
            got = queue.get(timeout=30), ours.recv()
            child.join()
            with procession.get_context({start_method!r}).Pool(2) as pool:
                got = got, pool.map(abs, [-1, -2]), child.exitcode
            os.write(said, repr(got).encode())
        """
    )
    assert done.stdout.endswith("((5, 5), [1, 2], 0)"), (done.stdout, done.stderr)


def test_a_fork_server_whose_descriptor_was_closed_is_replaced(fresh_server: Any, tmp_path: Path) -> None:
    """A program may close descriptors it did not open; a file that took the number is left alone."""
    import procession

    context = procession.get_context("forkserver")
    first = context.Process(target=abs, args=(1,))
    first.start()
    first.join()
    number = fresh_server._control
    assert number is not None
    os.close(number)
    with open(tmp_path / "file", "w") as file:
        os.dup2(file.fileno(), number)
        second = context.Process(target=abs, args=(1,))
        second.start()
        second.join()
        assert (first.exitcode, second.exitcode) == (0, 0)
        assert os.path.samestat(os.fstat(number), os.stat(file.name))
        os.close(number)
