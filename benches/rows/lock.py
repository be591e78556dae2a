"""Locks: free and fought over."""

from harness import clocked, row, steady, together


def hold_many(gate, lock, count):
    gate.arrive()
    for _ in range(count):
        with lock:
            pass
    gate.finish()


@row("with lock:")
def with_lock(mp, context):
    lock = context.Lock()

    def loop(n):
        for _ in range(n):
            with lock:
                pass

    return steady(clocked(loop))


@row("lock.acquire() + release()")
def acquire_release(mp, context):
    lock = context.Lock()

    def loop(n):
        acquire, release = lock.acquire, lock.release
        for _ in range(n):
            acquire()
            release()

    return steady(clocked(loop))


@row("with lock:, two processes")
def two_processes(mp, context):
    lock = context.Lock()

    def work(n):
        children = [(hold_many, (lock, n // 2))] * 2
        return together(context, children, lambda gate: gate.wait(2)) * n / (n // 2 * 2)

    return steady(work)
