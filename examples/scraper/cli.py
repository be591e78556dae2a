"""The command line program: scrape, report, and tell by the exit status how it went."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from scraper.compare import compare, say
from scraper.fetch import RetryPolicy
from scraper.options import Options, parse
from scraper.report import FORMATS
from scraper.run import run

__all__ = ["main"]

ALL_FETCHED = 0
SOME_FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 130
READER_GONE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    options = parse(arguments)
    try:
        with _opened(options.output) as out:
            return _scrape(options, out)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at exit: let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except OSError as error:
        say(f"scrape: error: {error.strerror or error}")
        return BAD_USAGE


def _scrape(options: Options, out: TextIO) -> int:
    report = FORMATS[options.format](out)
    if options.addresses is None:
        compared = compare(report, options)
        summary, interrupted, succeeded = compared.summary, compared.interrupted, compared.is_as_expected
    else:
        summary = run(
            options.addresses,
            report,
            policy=options.policy(RetryPolicy()),
            processes=options.processes,
            start_method=options.start_method,
        )
        say(summary)
        interrupted, succeeded = summary.interrupted, summary.failed == 0
    report.close(summary)
    if interrupted:
        return INTERRUPTED
    return ALL_FETCHED if succeeded else SOME_FAILED


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
    else:
        try:
            out = output.open("w", encoding="utf-8")
        except OSError as error:
            raise OSError(f"argument --output: {output}: {error.strerror}") from error
        with out:
            yield out
