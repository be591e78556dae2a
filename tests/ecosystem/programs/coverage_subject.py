"""What coverage looks at: functions that only worker processes run."""

from __future__ import annotations

import proof


def in_pool(n):
    doubled = n * 2
    return doubled + 1


def in_process(queue):
    answer = proof.home()
    queue.put(answer)


def nowhere():
    return "never"


if __name__ == "__main__":
    context = proof.context()
    with context.Pool(2) as pool:
        assert pool.map(in_pool, range(10)) == [2 * n + 1 for n in range(10)]
        pool.close()
        pool.join()
    queue = context.SimpleQueue()
    process = context.Process(target=in_process, args=(queue,))
    process.start()
    proof.check([queue.get()])
    process.join()
    print("done")
