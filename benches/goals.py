"""The goals of each row, as ratios to the standard library's rate: the floor and the aim."""

from collections import namedtuple

# With enough repetitions to be sure, no row may be slower than the standard library.
NO_LOSS, SURE = 0.97, 15

Goal = namedtuple("Goal", "floor aim")

GOALS = {
    "queue.ints": Goal(25, 40),
    "queue.tuples": Goal(12, 25),
    "queue.dicts": Goal(6, 10),
    "queue.strings": Goal(15, 30),
    "queue.simple_dicts": Goal(6, 10),
    "queue.producers_4": Goal(10, 25),
    "queue.consumers_4": Goal(10, 25),
    "queue.arrays": Goal(10, 25),
    "pipe.ping_pong": Goal(3, 15),
    "pipe.ping_pong_asleep_1": Goal(1, 3),
    "pipe.ping_pong_asleep_n": Goal(1, 3),
    "pipe.stream": Goal(6, 10),
    "pipe.stream_bytes": Goal(4, 15),
    "pipe.arrays": Goal(15, 30),
    "pool.map_default": Goal(1.4, 2.2),
    "pool.map_chunksize_1": Goal(12, 25),
    "pool.imap_unordered": Goal(8, 20),
    "pool.apply": Goal(2.5, 6),
    "pool.apply_async": Goal(8, 15),
    "pool.map_array_arguments": Goal(5, 12),
    "pool.map_array_results": Goal(6, 15),
    "pool.whole": Goal(1, 1.5),
    "process.fork": Goal(1, 1.3),
    "process.forkserver": Goal(3, 6),
    "process.spawn": Goal(1, 2),
    "lock.with_lock": Goal(1.8, 2.4),
    "lock.acquire_release": Goal(1.1, 1.5),
    "lock.two_processes": Goal(1.2, 3),
    "value.increment": Goal(2, 4),
    "value.array_element": Goal(3, 8),
    "manager.dict_set_get": Goal(5, 30),
}


def shortfalls(records):
    """Sentences about the rows that failed, missed their floor, or are surely slower."""
    for record in records:
        if "error" in record:
            yield f"{record['title']}: {record['error']}"
        elif "ratio" in record:
            ratio, runs = record["ratio"]["median"], len(record["ours"]["values"])
            goal = GOALS.get(record["name"])
            if goal and ratio < goal.floor:
                yield f"{record['title']}: {ratio:.3g}x, and its floor is {goal.floor}x"
            elif runs >= SURE and ratio < NO_LOSS:
                yield f"{record['title']}: {ratio:.3g}x in {runs} runs is slower than the standard library"


def mark(record):
    """The goal of a row, and how far it is reached."""
    goal = GOALS.get(record["name"])
    if not goal or "ratio" not in record:
        return ""
    ratio = record["ratio"]["median"]
    reached = "aim reached" if ratio >= goal.aim else "held" if ratio >= goal.floor else "MISSED"
    return f"{goal.floor} / {goal.aim}: {reached}"
