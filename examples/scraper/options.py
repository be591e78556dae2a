"""The options of the command line."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scraper.addresses import read_addresses, without_repeats
from scraper.fetch import Patience
from scraper.report import FORMATS

__all__ = ["Options", "parse"]

DESCRIPTION = "Fetch addresses over a pool of processes and tell what became of each."
EPILOG = """\
The outcomes go to standard output or to --output; the progress bar and the summary to standard error.
Without addresses a local site is scraped, once with all processes and once with one, to tell what they gain.
Exit status: 0 all fetched, 1 some not, 2 bad usage, 130 interrupted.
"""


@dataclass(frozen=True)
class Options:
    """What a run was asked for; `addresses` is None when none were named."""

    addresses: list[str] | None
    timeout: float | None
    retries: int | None
    processes: int
    start_method: str | None
    format: str
    output: Path | None

    def patience(self, usual: Patience) -> Patience:
        """The usual patience, but for what was asked for."""
        return Patience(
            timeout=usual.timeout if self.timeout is None else self.timeout,
            retries=usual.retries if self.retries is None else self.retries,
        )


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; what it gets wrong ends the program with status 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        addresses = _wanted(given.addresses, given.file)
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"--file {given.file}: {error}")
    return Options(
        addresses=addresses,
        timeout=given.timeout,
        retries=given.retries,
        processes=given.processes,
        start_method=given.start_method,
        format=given.format,
        output=given.output,
    )


def _parser() -> argparse.ArgumentParser:
    usual = Patience()
    parser = argparse.ArgumentParser(
        prog="scrape",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("addresses", nargs="*", metavar="ADDRESS", help="starts with http:// or https://; repeats count once")
    add("--file", metavar="FILE", help="more addresses, one a line, # for comments; - is standard input")
    add("--timeout", type=_seconds, metavar="SECONDS", help=f"for one answer (default {usual.timeout:g})")
    add("--retries", type=_count, metavar="N", help=f"of what may pass (default {usual.retries})")
    add("--processes", type=_at_least_one, default=4, metavar="N", help="default 4")
    add("--start-method", choices=["fork", "spawn", "forkserver"], help="default: this Python's")
    add("--format", choices=list(FORMATS), default="text", help="default text")
    add("--output", type=Path, metavar="FILE", help="default: standard output")
    return parser


def _wanted(named: list[str], file: str | None) -> list[str] | None:
    if file is None:
        return without_repeats(named) or None
    if file == "-":
        return without_repeats(named + read_addresses(sys.stdin))
    with open(file, encoding="utf-8-sig") as lines:
        return without_repeats(named + read_addresses(lines))


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 3600")
    return seconds


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return count


def _at_least_one(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count
