"""A huey of which the consumer runs in processes; as a program, it asks for work and checks the answers."""

from __future__ import annotations

import os

import proof
from huey import SqliteHuey

huey = SqliteHuey("tasks", filename=os.path.abspath("tasks.db"))


@huey.task()
def add(a, b):
    return a + b


@huey.task()
def home():
    return proof.home()


if __name__ == "__main__":
    from huey_tasks import add, home

    results = [add(n, n) for n in range(10)]
    assert [result.get(blocking=True, timeout=30) for result in results] == [2 * n for n in range(10)]
    proof.check([home().get(blocking=True, timeout=30)])
    print("done")
