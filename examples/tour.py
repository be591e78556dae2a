"""Process, Pool, Queue, Pipe, Value and Array: `python examples/tour.py --start-method spawn`."""

import argparse
import os
from typing import Any

import procession as multiprocessing


def process() -> None:
    """A worker function runs in its own process; the parent joins it and goes on."""
    worker = multiprocessing.Process(target=work, args=(os.getpid(),))
    worker.start()
    worker.join()
    print(f"The parent goes on; the worker's exit code was {worker.exitcode}")


def work(parent: int) -> None:
    """Say so, from another process than the parent."""
    print("The worker runs in", "the parent" if os.getpid() == parent else "its own process")


def pool() -> None:
    """Three workers square five numbers."""
    with multiprocessing.Pool(3) as workers:
        print(workers.map(square, [1, 2, 3, 4, 5]))


def square(number: int) -> int:
    """What a worker of the pool does."""
    return number * number


def queue() -> None:
    """One process puts a message, another gets and prints it."""
    messages: Any = multiprocessing.Queue()
    run_together(
        multiprocessing.Process(target=produce, args=(messages,)),
        multiprocessing.Process(target=consume, args=(messages,)),
    )


def produce(messages: Any) -> None:
    """The one end of the queue."""
    messages.put("Hello from producer!")


def consume(messages: Any) -> None:
    """The other end of the queue."""
    print(messages.get())


def pipe() -> None:
    """One process sends a message, another receives and prints it."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    run_together(
        multiprocessing.Process(target=send, args=(sending,)),
        multiprocessing.Process(target=receive, args=(receiving,)),
    )


def send(connection: Any) -> None:
    """The one end of the pipe."""
    connection.send("Hello from sender!")


def receive(connection: Any) -> None:
    """The other end of the pipe."""
    print(connection.recv())


def value_and_array() -> None:
    """A child changes shared numbers; the parent reads what it wrote."""
    number = multiprocessing.Value("i", 10)
    numbers = multiprocessing.Array("i", [1, 2, 3])
    run_together(multiprocessing.Process(target=change, args=(number, numbers)))
    print(number.value)
    print(numbers[:])


def change(number: Any, numbers: Any) -> None:
    """Add one to the number and to the first of the numbers."""
    with number.get_lock():
        number.value += 1
    numbers[0] += 1


def run_together(*processes: Any) -> None:
    """Start all, then wait for all."""
    for each in processes:
        each.start()
    for each in processes:
        each.join()


PROGRAMS = {
    "Process": process,
    "Pool": pool,
    "Queue": queue,
    "Pipe": pipe,
    "Value and Array": value_and_array,
}


def main() -> None:
    """Run the five programs under one start method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--start-method", choices=multiprocessing.get_all_start_methods())
    method = parser.parse_args().start_method
    if method:
        multiprocessing.set_start_method(method)
    for title, program in PROGRAMS.items():
        print(f"{title}:")
        program()


if __name__ == "__main__":
    main()
