"""Shared values: an element at a time."""

from harness import clocked, row, steady, together


def add_many(gate, value, count):
    gate.arrive()
    for _ in range(count):
        with value.get_lock():
            value.value += 1
    gate.finish()


@row("Value += 1 under its lock, two processes")
def increment(mp, context):
    value = context.Value("i", 0)

    def work(n):
        value.value = 0
        seconds = together(context, [(add_many, (value, n // 2))] * 2, lambda gate: gate.wait(2))
        if value.value != n // 2 * 2:
            raise AssertionError(f"{n // 2 * 2} increments made {value.value}")
        return seconds * n / (n // 2 * 2)

    return steady(work)


@row("Array[i], one read and one write")
def array_element(mp, context):
    array = context.Array("i", 100)

    def loop(n):
        for _ in range(n):
            array[7] = array[42]

    return steady(clocked(loop))
