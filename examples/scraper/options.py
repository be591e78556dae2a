"""The options of the command line."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scraper.addresses import read_addresses, without_repeats
from scraper.fetch import RetryPolicy
from scraper.report import FORMATS

__all__ = ["Options", "parse"]

# A process tree has room for some four thousand.
MOST_PROCESSES = 1000

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

    def policy(self, usual: RetryPolicy) -> RetryPolicy:
        """The usual policy, with the options that were given."""
        return RetryPolicy(
            timeout=usual.timeout if self.timeout is None else self.timeout,
            retries=usual.retries if self.retries is None else self.retries,
        )


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; what it gets wrong ends the program with status 2."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        addresses = _wanted(given.addresses, given.file)
    except OSError as error:
        parser.error(f"argument --file: {given.file}: {error.strerror or error}")
    except UnicodeDecodeError as error:
        parser.error(f"argument --file: {given.file} is not UTF-8: {error}")
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
    usual = RetryPolicy()
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
    add("--processes", type=_processes, default=4, metavar="N", help=f"default 4, at most {MOST_PROCESSES}")
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
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 3600, not {text!r}")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a number, at least 0, not {text!r}")
    return int(text)


def _processes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PROCESSES:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MOST_PROCESSES}, not {text!r}")
    return int(text)
