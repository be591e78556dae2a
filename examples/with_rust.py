"""Functions of a Rust program in processes of their own, and queues shared with them.

The Rust program is `crates/procession/examples/for_python.rs`; without it, this one says how to build it.
"""

import sys
from pathlib import Path

import procession
from procession.rust import Process, RustError

ROOT = Path(__file__).resolve().parent.parent
BUILD = "cargo build --release --package procession --features python --example for_python"


def rust_program() -> str:
    """The path of the program: what the command line names, or what cargo built."""
    if len(sys.argv) > 1:
        return sys.argv[1]
    for profile in ("release", "debug"):
        path = ROOT / "target" / profile / "examples" / "for_python"
        if path.exists():
            return str(path)
    sys.exit(f"There is no Rust program yet; build it: {BUILD}")


def call(program: str) -> None:
    """One function, one process."""
    process = Process(program, "primes_below", args=(1_000_000,))
    process.start()
    print(f"  {process.result()} primes are below a million")


def misspell(program: str) -> None:
    """A function that the program does not export."""
    process = Process(program, "primes", args=(100,))
    process.start()
    try:
        process.result()
    except RustError as error:
        print(f"  {error}")


def share(program: str) -> None:
    """A worker that reads from one queue and writes to another, until the first one is closed."""
    texts, counts = procession.Queue(), procession.Queue()
    worker = Process(program, "count_words", args=(texts, counts))
    worker.start()
    for text in ("the quick brown fox", "lazy dog"):
        texts.put(text)
        text, words = counts.get()
        print(f"  {words} words: {text}")
    texts.put(None)
    worker.result()


def main() -> None:
    """Show it."""
    program = rust_program()
    print("Functions", flush=True)
    call(program)
    print("An unknown function", flush=True)
    misspell(program)
    print("Queues", flush=True)
    share(program)


if __name__ == "__main__":
    main()
