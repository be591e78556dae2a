"""The demonstration: programs in Python, in Rust and in both, each run for real and checked.

`python examples/demo.py FOLDER`; cargo built the Rust examples in FOLDER. Without it, only the programs in
Python run. The exit status is 1 when a program printed something else than it should.
"""

import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import survive
from checked import Ran, program, run

__all__ = ["TOUR", "main"]

TOUR = """\
Process:
The worker runs in its own process
The parent goes on; the worker's exit code was 0
Pool:
[1, 4, 9, 16, 25]
Queue:
Hello from producer!
Pipe:
Hello from sender!
Value and Array:
11
[2, 2, 3]
"""

TOUR_IN_RUST = TOUR.replace("the worker's exit code was 0", "the worker ended without an error")

PAGES = 200
LINES_SHOWN = 2


class Demonstration:
    """Shows programs one after the other and keeps what was wrong."""

    def __init__(self, rust: Path | None) -> None:
        self.rust = rust
        self.scraper_commands = {"Python": program("scrape.py")}
        if rust:
            self.scraper_commands["Rust"] = [str(rust / "scrape")]
        self.problems: list[str] = []

    def show(self, title: str, output: str, problem: str | None) -> None:
        """One program: its title, what it printed, and what is wrong with that, if anything."""
        print(f"\n=== {title}\n{output}", end="" if output.endswith("\n") or not output else "\n", flush=True)
        if problem:
            print(f"!!! {problem}", flush=True)
            self.problems.append(f"{title}: {problem}")

    def tour(self) -> None:
        """Process, Pool, Queue, Pipe, Value and Array."""
        ran = run(program("tour.py"))
        self.show("Python: five programs (examples/tour.py)", ran.output, ran.problem(TOUR))
        if self.rust:
            ran = run([str(self.rust / "tour")])
            title = "Rust: the same five (crates/procession/examples/tour.rs)"
            self.show(title, ran.output, ran.problem(TOUR_IN_RUST))

    def scrapers(self) -> None:
        """A site on this machine, by four processes and by one; both languages at the same time."""
        print("\nScraping sites on this machine takes some fifteen seconds ...", flush=True)
        with ThreadPoolExecutor() as threads:
            ends = threads.map(lambda command: run(command, limit=120), self.scraper_commands.values())
            for language, ran in zip(self.scraper_commands, ends, strict=True):
                problem = _trouble(ran, status=0, lines=PAGES)
                self.show(f"{language}: a web scraper", f"{_shortened(ran.output)}{ran.errors}", problem)

    def bad_addresses(self) -> None:
        """Addresses that can't be fetched cost a line each."""
        addresses = ["not an address", "ftp://127.0.0.1/file", f"http://127.0.0.1:{_closed_port()}/"]
        for language, command in self.scraper_commands.items():
            ran = run([*command, "--retries", "1", *addresses])
            problem = _trouble(ran, status=1, lines=len(addresses))
            self.show(f"{language}: addresses that cannot be fetched", f"{ran.output}{ran.errors}", problem)

    def both_languages(self) -> None:
        """Rust functions in a Python program, and the other way round."""
        if self.rust:
            ran = run(program("with_rust.py", str(self.rust / "for_python")))
            self.show("Python runs functions of a Rust program", ran.output, ran.problem(ran.output))
            ran = run([str(self.rust / "with_python"), sys.executable])
            self.show("Rust runs functions of Python", ran.output, ran.problem(ran.output))

    def beside_the_standard_library(self) -> None:
        """What it cannot do."""
        self.show("Beside the standard library (examples/survive.py)", "", None)
        for problem in survive.show_all():
            print(f"!!! {problem}", flush=True)
            self.problems.append(problem)


def _trouble(ran: Ran, *, status: int, lines: int) -> str | None:
    if ran.hung:
        return "it hung; its stacks are above"
    if ran.status != status:
        return f"exit status {ran.status}, not {status}"
    if (printed := len(ran.output.splitlines())) != lines:
        return f"{printed} lines, not {lines}"
    return None


def _shortened(output: str) -> str:
    """Some lines of each kind, and how many more there are."""
    kinds: dict[str, list[str]] = {}
    for line in output.splitlines():
        kinds.setdefault(line.partition(", ")[2], []).append(line)
    shown: list[str] = []
    for kind, lines in kinds.items():
        shown += lines[:LINES_SHOWN]
        if len(lines) > LINES_SHOWN:
            shown.append(f"... and {len(lines) - LINES_SHOWN} more: {kind}")
    return "\n".join([*shown, "", ""])


def _closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def main() -> int:
    """Show everything."""
    started = time.monotonic()
    demonstration = Demonstration(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    demonstration.tour()
    demonstration.bad_addresses()
    demonstration.scrapers()
    demonstration.both_languages()
    demonstration.beside_the_standard_library()
    if demonstration.problems:
        print("\nNot as it should be:", *demonstration.problems, sep="\n")
        return 1
    print(f"\nAll programs printed what they should, in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
