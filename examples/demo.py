"""The demonstration: the tour, the snippets and the scraper, each run for real and checked.

The exit status is 1 when a program printed something else than it should.
"""

import socket
import sys

from checked import START_METHODS, Ran, program, run
from run_snippets import EXPECTED as SNIPPETS
from run_snippets import run_snippet

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

PAGES = 200
LINES_SHOWN = 5


class Demonstration:
    """Shows programs one after the other and keeps what was wrong."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def show(self, title: str, output: str, complaint: str | None) -> None:
        """One program: its title, what it printed, and what is wrong with that, if anything."""
        print(f"\n=== {title}\n{output}", end="" if output.endswith("\n") else "\n", flush=True)
        if complaint:
            print(f"!!! {complaint}", flush=True)
            self.complaints.append(f"{title}: {complaint}")

    def tour(self) -> None:
        """Programs 1 to 5 under each start method."""
        for method in START_METHODS:
            ran = run(program("tour.py", "--start-method", method))
            self.show(f"tour.py under {method}", ran.output, ran.complaint(TOUR))

    def snippets(self) -> None:
        """Code as people write it, under each start method."""
        for method in START_METHODS:
            for name, expected in SNIPPETS.items():
                ran = run_snippet(name, method)
                self.show(f"snippets/{name}.py under {method}", ran.output, ran.complaint(expected))

    def scraper(self) -> None:
        """The local site, by four processes and by one."""
        ran = run(program("scrape.py"), limit=120)
        complaint = _trouble(ran, status=0, lines=PAGES)
        self.show("scrape.py: a local site", f"{_shortened(ran.output)}{ran.errors}", complaint)

    def scraper_and_bad_addresses(self) -> None:
        """Addresses that can't be fetched cost a line each."""
        addresses = ["not an address", "ftp://127.0.0.1/file", f"http://127.0.0.1:{_closed_port()}/"]
        ran = run(program("scrape.py", "--retries", "1", *addresses))
        complaint = _trouble(ran, status=1, lines=len(addresses))
        self.show("scrape.py: addresses that fail", f"{ran.output}{ran.errors}", complaint)


def _trouble(ran: Ran, *, status: int, lines: int) -> str | None:
    if ran.hung:
        return "it hung; its stacks are above"
    if ran.status != status:
        return f"exit status {ran.status}, not {status}"
    if (printed := len(ran.output.splitlines())) != lines:
        return f"{printed} lines, not {lines}"
    return None


def _shortened(output: str) -> str:
    """The first pages and all that were not fetched."""
    lines = output.splitlines()
    unusual = [line for line in lines if "Status Code: 200" not in line]
    usual = [line for line in lines if "Status Code: 200" in line]
    left_out = f"... and {len(usual) - LINES_SHOWN} more with Status Code: 200"
    return "\n".join([*usual[:LINES_SHOWN], left_out, *unusual, "", ""])


def _closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def main() -> int:
    """Show everything."""
    demonstration = Demonstration()
    demonstration.tour()
    demonstration.snippets()
    demonstration.scraper()
    demonstration.scraper_and_bad_addresses()
    if demonstration.complaints:
        print("\nNot as it should be:", *demonstration.complaints, sep="\n")
        return 1
    print("\nAll programs printed what they should.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
