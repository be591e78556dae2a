"""Pools whose workers die, hang, or cannot do what they are asked to."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from faults.subject import PROMPT, ctx, die, fault, gone_within, ours, package, promptly, raises, wait_until

LIMIT = 10


def square(x: int) -> int:
    return x * x


def die_at_three(x: int, how: str = "SIGKILL") -> int:
    if x == 3:
        die(how)
    return x


def check_death(how: str) -> None:
    with ctx.Pool(2) as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]
        lost = pool.apply_async(die, (how,))
        others = pool.map_async(square, range(100), 1)
        assert others.get(LIMIT) == [x * x for x in range(100)]
        error = error_of(lost)
        if ours is not None:
            assert isinstance(error, ours.WorkerDied), error
            assert error.pid and error.exitcode is not None and "die" in str(error)
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9


def error_of(result: Any) -> BaseException:
    try:
        result.get(LIMIT)
    except package.TimeoutError:
        raise AssertionError("its result never comes") from None
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


@fault("a worker is killed in the middle of a task")
def worker_is_killed() -> None:
    check_death("SIGKILL")


@fault("a worker dies of a segmentation fault")
def worker_segfaults() -> None:
    check_death("SIGSEGV")


@fault("a task calls os._exit")
def worker_exits() -> None:
    check_death("os._exit")


@fault("a task replaces its worker by another program")
def worker_becomes_another_program() -> None:
    check_death("exec")


def call_exit() -> None:
    sys.exit(3)


@fault("a task calls sys.exit")
def task_calls_sys_exit() -> None:
    with ctx.Pool(2) as pool:
        error_of(pool.apply_async(call_exit))
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9


@fault("a worker dies during a map: its own tasks fail, the pool goes on")
def worker_dies_in_a_map() -> None:
    with ctx.Pool(2) as pool:
        error_of(pool.map_async(die_at_three, range(10), 1))
        assert pool.map_async(square, range(10)).get(LIMIT)[9] == 81


@fault("a worker dies during an imap: one item fails, all others arrive")
def worker_dies_in_an_imap() -> None:
    with ctx.Pool(2) as pool:
        results, errors = [], 0
        items = pool.imap(die_at_three, range(10))
        while True:
            try:
                results.append(items.next(LIMIT))
            except StopIteration:
                break
            except package.TimeoutError:
                raise AssertionError("an item never comes") from None
            except Exception:
                errors += 1
        assert errors == 1 and results == [x for x in range(10) if x != 3]


@fault("an idle worker is killed")
def idle_worker_is_killed() -> None:
    with ctx.Pool(2) as pool:
        pids = {pool.apply(os.getpid) for _ in range(20)}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert gone_within(list(pids))
        assert pool.map_async(square, range(20), 1).get(LIMIT) == [x * x for x in range(20)]


@fault(
    "workers are killed again and again while a map runs; asked to, the pool runs lost tasks again",
    extension=True,
)
def lost_tasks_run_again() -> None:
    with ctx.Pool(2) as pool:
        job = pool.map_async(slowly, range(60), 1, retries=20)
        for _ in range(5):
            for pid in [worker.pid for worker in list(pool._pool)]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        assert job.get(30) == list(range(60))


def slowly(x: int) -> int:
    time.sleep(0.005)
    return x


def refuse() -> None:
    raise ValueError("no database today")


@fault("the initializer raises")
def initializer_raises() -> None:
    with ctx.Pool(2, refuse) as pool:
        error = error_of(pool.apply_async(square, (3,)))
        if ours is not None:
            assert "no database today" in str(error)


@fault("workers die in their initializer")
def initializer_dies() -> None:
    with ctx.Pool(2, die, ("os._exit",)) as pool:
        error_of(pool.apply_async(square, (3,)))


def vanishing() -> None:
    raise AssertionError("it was not to be found")


@fault("the function cannot be found in the worker")
def function_is_not_there() -> None:
    module = sys.modules[__name__]
    with ctx.Pool(1) as pool:
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9
        nowhere = type(sys)("nowhere")
        sys.modules["nowhere"] = nowhere
        vanishing.__module__ = "nowhere"
        nowhere.vanishing = vanishing
        try:
            error_of(pool.apply_async(vanishing))
        finally:
            vanishing.__module__ = module.__name__
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9


class Odd(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


class Stubborn(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class Bomb:
    def __reduce__(self) -> Any:
        return refuse, ()


def misbehave(how: str) -> Any:
    match how:
        case "odd":
            raise Odd("one", "two")
        case "stubborn":
            raise Stubborn
        case "interrupt":
            raise KeyboardInterrupt
        case "generator exit":
            raise GeneratorExit
        case "base":
            raise BaseException("a base exception")
        case "unpicklable":
            return lambda: None
        case "bomb":
            return Bomb()
        case _:
            return how


def check_misbehaviour(how: str) -> BaseException:
    with ctx.Pool(2) as pool:
        error = error_of(pool.apply_async(misbehave, (how,)))
        assert pool.apply_async(misbehave, ("fine",)).get(LIMIT) == "fine"
        return error


@fault("an exception cannot be made again from its arguments")
def odd_exception() -> None:
    assert "one two" in str(check_misbehaviour("odd"))


@fault("an exception cannot be pickled")
def unpicklable_exception() -> None:
    check_misbehaviour("stubborn")


@fault("a task raises KeyboardInterrupt, GeneratorExit or another BaseException")
def base_exceptions() -> None:
    for how in ("interrupt", "generator exit", "base"):
        check_misbehaviour(how)


@fault("a result cannot be pickled")
def unpicklable_result() -> None:
    check_misbehaviour("unpicklable")


@fault("a result cannot be unpickled")
def explosive_result() -> None:
    check_misbehaviour("bomb")


@fault("an argument cannot be unpickled in the worker")
def explosive_argument() -> None:
    with ctx.Pool(2) as pool:
        error_of(pool.apply_async(misbehave, (Bomb(),)))
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9


def fail_while_counting() -> Any:
    yield 1
    raise ValueError("no more")


@fault("the generator of arguments raises")
def argument_generator_raises() -> None:
    with ctx.Pool(2) as pool:
        items = pool.imap(square, fail_while_counting())
        assert items.next(LIMIT) == 1
        with raises(ValueError):
            items.next(LIMIT)
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9


def complain(value: Any) -> None:
    raise ValueError("from a callback")


@fault("a callback raises")
def callback_raises() -> None:
    threading.excepthook = lambda args: None
    with ctx.Pool(2) as pool:
        pool.apply_async(square, (3,), callback=complain)
        time.sleep(0.1)
        assert pool.apply_async(square, (3,)).get(LIMIT) == 9


@fault("workers are replaced after every task, and now and then one is killed")
def recycled_workers_die() -> None:
    with ctx.Pool(2, maxtasksperchild=1) as pool:
        results = [pool.apply_async(die_at_three, (x,)) for x in range(12)]
        for x, result in enumerate(results):
            if x == 3:
                error_of(result)
            else:
                assert result.get(LIMIT) == x


def spin(x: Any = None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pow(3, 10**6)


@fault("terminate while workers are deaf and busy")
def terminate_busy_workers() -> None:
    pool = ctx.Pool(2)
    pool.map_async(spin, range(2), 1)
    pids = [worker.pid for worker in pool._pool]
    wait_until(lambda: all(deaf(pid) for pid in pids))
    pool.terminate()
    pool.join()
    assert gone_within(pids)


def deaf(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as status:
        ignored = next(int(line.split()[1], 16) for line in status if line.startswith("SigIgn"))
    return bool(ignored >> signal.SIGTERM - 1 & 1)


@fault("terminate from a callback")
def terminate_from_a_callback() -> None:
    pool = ctx.Pool(2)
    done = threading.Event()

    def end(value: Any) -> None:
        pool.terminate()
        done.set()

    pool.apply_async(square, (3,), callback=end)
    assert done.wait(LIMIT)
    pool.join()


@fault("a stopped worker (SIGSTOP) when the pool is terminated")
def terminate_stopped_workers() -> None:
    pool = ctx.Pool(2)
    assert pool.map(square, range(4))
    for worker in pool._pool:
        os.kill(worker.pid, signal.SIGSTOP)
    pids = [worker.pid for worker in pool._pool]
    pool.terminate()
    pool.join()
    assert gone_within(pids)


@fault("close and join after a worker was killed with a task in hand")
def close_after_a_death() -> None:
    pool = ctx.Pool(2)
    lost = pool.apply_async(die)
    rest = pool.map_async(square, range(10))
    pool.close()
    error_of(lost)
    assert rest.get(LIMIT)[9] == 81
    ender = threading.Thread(target=pool.join, daemon=True)
    ender.start()
    ender.join(LIMIT)
    assert not ender.is_alive(), "join never returns"


def make_much(x: int) -> bytes:
    if x == 3:
        die()
    return b"x" * 20_000_000


@fault("a worker is killed beside others that return large results")
def large_results_beside_a_death() -> None:
    with ctx.Pool(2) as pool:
        results = [pool.apply_async(make_much, (x,)) for x in range(6)]
        for x, result in enumerate(results):
            if x == 3:
                error_of(result)
            else:
                assert len(result.get(LIMIT)) == 20_000_000


@fault("a task takes longer than it may: it alone fails, its worker is replaced", extension=True)
def task_timeout() -> None:
    with ctx.Pool(2) as pool:
        with promptly(), raises(package.TimeoutError):
            pool.apply(spin, task_timeout=0.2)
        assert pool.apply(square, (3,)) == 9


@fault("tasks are cancelled while they wait and while they run", extension=True)
def cancel() -> None:
    from concurrent.futures import CancelledError

    with ctx.Pool(1) as pool:
        running = pool.apply_async(spin)
        waiting = pool.apply_async(square, (3,))
        assert waiting.cancel()
        wait_until(lambda: deaf(pool._pool[0].pid))
        assert running.cancel()
        for result in (running, waiting):
            with promptly(), raises(CancelledError):
                result.get(PROMPT)
        assert pool.apply(square, (4,)) == 16


def pool_in_a_task(x: int) -> list[int]:
    with ctx.Pool(2) as pool:
        return pool.map(square, range(x))


@fault("a task uses a pool of its own", extension=True)
def nested_pools() -> None:
    with ctx.Pool(2) as pool:
        assert pool.map(pool_in_a_task, [2, 3]) == [[0, 1], [0, 1, 4]]


@fault("a worker of a ProcessPoolExecutor is killed")
def executor_worker_is_killed() -> None:
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    with ProcessPoolExecutor(2, mp_context=ctx) as executor:
        assert executor.submit(square, 3).result(LIMIT) == 9
        with raises(BrokenProcessPool):
            executor.submit(die).result(LIMIT)
