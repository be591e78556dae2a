"""How a process ends, what runs at its end, and which tools observe it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from procession import resource_tracker
from procession.shared_memory import SharedMemory

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "wrapped bootstrap"])
@pytest.mark.parametrize("inherited", [False, True], ids=["set in the child", "inherited"])
def test_excepthook_is_called_for_what_ends_a_child(
    run_script: Run, start_method: str, inherited: bool, wrapped: bool
) -> None:
    """`sys.excepthook` reports the exception, as in a program of its own; one that fails does not hide it."""
    done = run_script(
        f"""
        import sys
        import procession
        from procession.process import BaseProcess

        def hook(kind, value, traceback):
            print("hook:", kind.__name__, value, flush=True)
            if str(value) == "fails":
                raise RuntimeError("the hook failed")
            if str(value) == "exits":
                sys.exit(7)

        def work(what):
            if not {inherited}:
                sys.excepthook = hook
            raise ValueError(what)

        if {inherited}:
            sys.excepthook = hook
        if {wrapped}:
            def bootstrap(self, *args, _original=BaseProcess._bootstrap, **kwds):
                return _original(self, *args, **kwds)
            BaseProcess._bootstrap = bootstrap

        if __name__ == "__main__":
            for what in "boom", "fails", "exits":
                context = procession.get_context({start_method!r})
                child = context.Process(target=work, args=(what,), name="Child")
                child.start()
                child.join()
                print(child.exitcode, flush=True)
        """
    )
    assert done.stdout.splitlines() == [
        *("hook: ValueError boom", "1"),
        *("hook: ValueError fails", "1"),
        *("hook: ValueError exits", "7"),
    ]
    assert done.stderr.count("Process Child:") == 3
    assert "RuntimeError: the hook failed" in done.stderr and "ValueError: fails" in done.stderr
    assert "ValueError: boom" not in done.stderr


def test_without_a_hook_of_its_own_a_child_prints_its_traceback(run_script: Run, start_method: str) -> None:
    """As with the standard library."""
    done = run_script(
        f"""
        import procession

        def work():
            raise ValueError("boom")

        if __name__ == "__main__":
            child = procession.get_context({start_method!r}).Process(target=work, name="Child")
            child.start()
            child.join()
            print(child.exitcode)
        """
    )
    assert done.stdout == "1\n"
    assert done.stderr.startswith("Process Child:\nTraceback") and done.stderr.endswith("ValueError: boom\n")


def test_daemons_live_until_the_other_children_have_ended(
    run_script: Run, tmp_path: Path, start_method: str
) -> None:
    """A daemon serves its siblings as long as they run, at the end of a program and of a child."""
    done = run_script(
        f"""
        import procession
        import procession.util

        context = procession.get_context({start_method!r})

        def serve(requests, answers):
            for request in iter(requests.get, None):
                answers.put(request * 2)

        def use(requests, answers, start_of_exit):
            # The parent is at its end already.
            start_of_exit.wait()
            for n in range(3):
                requests.put(n)
                print(answers.get(timeout=30), flush=True)

        def family():
            requests, answers, start_of_exit = context.Queue(), context.Queue(), context.Event()
            context.Process(target=serve, args=(requests, answers), daemon=True).start()
            context.Process(target=use, args=(requests, answers, start_of_exit)).start()
            procession.util.Finalize(None, start_of_exit.set, exitpriority=0)

        if __name__ == "__main__":
            child = context.Process(target=family)
            child.start()
            child.join()
            print("then", child.exitcode, flush=True)
            family()
        """
    )
    assert done.stdout.split() == ["0", "2", "4", "then", "0", "0", "2", "4"], done.stderr


def test_exit_functions_that_a_child_registers_run_on_every_python(
    run_script: Run, start_method: str
) -> None:
    """Also where the standard library's forked children run none."""
    done = run_script(
        f"""
        import atexit
        import procession

        def work():
            atexit.register(print, "at the child's end", flush=True)

        if __name__ == "__main__":
            child = procession.get_context({start_method!r}).Process(target=work)
            child.start()
            child.join()
            atexit.register(print, "at the end", flush=True)
        """
    )
    assert done.stdout.splitlines() == ["at the child's end", "at the end"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_wrappers_of_tools_run_in_every_child(run_script: Run, start_method: str, when: str) -> None:
    """Whenever a profiler wraps the methods of `BaseProcess`, each child calls the wrapper."""
    done = run_script(
        f"""
        import functools
        import multiprocessing.process as home
        import multiprocessing.util
        import os

        def wrap(owner, name):
            inner = getattr(owner, name)
            @functools.wraps(inner)
            def outer(*args, **kwargs):
                os.write(1, f"{{name}}\\n".encode())
                return inner(*args, **kwargs)
            setattr(owner, name, staticmethod(outer) if name == "_after_fork" else outer)

        def wrap_all():
            wrap(home.BaseProcess, "_bootstrap")
            wrap(home.BaseProcess, "run")
            wrap(home.BaseProcess, "_after_fork")
            wrap(multiprocessing.util, "_exit_function")

        if {when!r} == "before":
            wrap_all()
        import procession
        procession.Process
        if {when!r} == "after":
            import procession.popen_fork
            wrap_all()

        if __name__ == "__main__":
            context = procession.get_context({start_method!r})
            child = context.Process(target=abs, args=(1,))
            child.start()
            child.join()
            with context.Pool(2) as pool:
                pool.map(abs, [1])
                pool.close()
                pool.join()
            print("end", flush=True)
        """
    )
    said = done.stdout.split()
    said = said[: said.index("end")]
    assert [said.count(name) for name in ("_bootstrap", "run")] == [3, 3], done.stdout + done.stderr
    if start_method != "spawn":
        assert said.count("_after_fork") == 3 <= said.count("_exit_function"), done.stderr


def use_and_tell(name: str, end: Any) -> None:
    memory = SharedMemory(name=name)
    fd = resource_tracker._resource_tracker._fd
    assert fd is not None
    end.send((os.fstat(fd).st_ino, resource_tracker._resource_tracker._pid))
    memory.close()


def test_a_child_that_opens_a_segment_shares_its_parents_tracker(ctx: Any) -> None:
    """A tracker of its own would unlink at the child's end what its parent still uses."""
    memory = SharedMemory(create=True, size=64)
    try:
        ours, theirs = ctx.Pipe()
        child = ctx.Process(target=use_and_tell, args=(memory.name, theirs))
        child.start()
        inode, _ = ours.recv()
        child.join()
        fd = resource_tracker._resource_tracker._fd
        assert fd is not None and inode == os.fstat(fd).st_ino
        SharedMemory(name=memory.name).close()
    finally:
        memory.close()
        memory.unlink()


@pytest.mark.parametrize("first", ["parent", "child"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_children_that_were_started_before_share_the_tracker_that_somebody_needs(
    run_script: Run, method: str, first: str
) -> None:
    """Whichever process opens named memory first: there is one tracker, and no process's end unlinks it."""
    done = run_script(
        f"""
        import os
        import procession

        def use(name):
            from procession import resource_tracker, shared_memory
            memory = shared_memory.SharedMemory(name=name, create=name is None, size=64)
            memory.close()
            return memory.name, os.fstat(resource_tracker._resource_tracker._fd).st_ino

        def work(names, told):
            for name in iter(names.get, "end"):
                told.put(use(name))

        if __name__ == "__main__":
            context = procession.get_context({method!r})
            pairs = [(context.Queue(), context.Queue()) for _ in range(2)]
            children = [context.Process(target=work, args=pair) for pair in pairs]
            for child in children:
                child.start()
            def ask(n, name):
                pairs[n][0].put(name)
                return pairs[n][1].get(timeout=30)
            if {first!r} == "parent":
                name, tracker = use(None)
            else:
                name, tracker = ask(0, None)
            seen = [tracker, ask(0, name)[1], ask(1, name)[1], use(name)[1]]
            for (names, _), child in zip(pairs, children):
                names.put("end")
                child.join()
            from procession.shared_memory import SharedMemory
            memory = SharedMemory(name=name)
            memory.close()
            memory.unlink()
            print(len(set(seen)), [child.exitcode for child in children])
        """
    )
    assert done.stdout == "1 [0, 0]\n", done.stderr
    assert done.stderr == ""
