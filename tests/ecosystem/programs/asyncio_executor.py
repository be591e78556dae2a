"""asyncio: blocking work in a process pool, and a pipe that the event loop watches."""

from __future__ import annotations

import asyncio
from concurrent.futures import ProcessPoolExecutor

import proof


def triangle(n):
    return sum(range(n))


def talk(connection):
    for n in range(3):
        connection.send(n)
        assert connection.recv() == n + 1
    connection.send(proof.home())
    connection.close()


async def watch_pipe():
    """What a child sends, received by a reader of the event loop."""
    context = proof.context()
    ours, theirs = context.Pipe()
    process = context.Process(target=talk, args=(theirs,))
    process.start()
    theirs.close()
    loop = asyncio.get_running_loop()
    received, ended = [], loop.create_future()

    def read():
        while not ended.done() and ours.poll():
            try:
                received.append(ours.recv())
            except EOFError:
                ended.set_result(None)
                loop.remove_reader(ours.fileno())
            else:
                if isinstance(received[-1], int):
                    ours.send(received[-1] + 1)

    loop.add_reader(ours.fileno(), read)
    await ended
    gone = asyncio.Event()
    loop.add_reader(process.sentinel, gone.set)
    await gone.wait()
    loop.remove_reader(process.sentinel)
    process.join()
    assert received[:3] == [0, 1, 2]
    proof.check(received[3:])


async def main():
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, mp_context=proof.context()) as pool:
        jobs = [loop.run_in_executor(pool, triangle, n) for n in range(50)]
        assert await asyncio.gather(*jobs) == [sum(range(n)) for n in range(50)]
        proof.check([await loop.run_in_executor(pool, proof.home)])
    await watch_pipe()


if __name__ == "__main__":
    asyncio.run(main())
    print("done")
