"""One run over a list of addresses: the outcomes go to a report, a bar and a summary."""

import sys
import time
from contextlib import closing

from scraper import interrupts
from scraper.addresses import problem
from scraper.fetch import RetryPolicy
from scraper.gather import gather
from scraper.progress import Progress
from scraper.report import Report
from scraper.summary import Summary

__all__ = ["run"]


def run(
    addresses: list[str],
    report: Report | None,
    *,
    policy: RetryPolicy,
    processes: int,
    start_method: str | None,
) -> Summary:
    """Scrape all addresses; Ctrl-C ends it early with what there is by then."""
    worth_asking = sum(problem(address) is None for address in addresses)
    summary = Summary(wanted=len(addresses), processes=min(processes, worth_asking))
    progress = Progress(sys.stderr)
    started = time.monotonic()
    outcomes = gather(addresses, policy=policy, processes=processes, start_method=start_method)
    try:
        with closing(outcomes):
            progress.draw(summary)
            for outcome in outcomes:
                with interrupts.put_off():
                    summary.add(outcome)
                    progress.clear()
                    if report:
                        report.add(outcome)
                    progress.draw(summary)
    except KeyboardInterrupt:
        summary.interrupted = True
    finally:
        progress.clear()
    summary.seconds = time.monotonic() - started
    return summary
