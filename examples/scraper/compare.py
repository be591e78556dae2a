"""The run without addresses: a local site, scraped by all processes and then by one."""

import sys
from dataclasses import dataclass

from scraper.fetch import RetryPolicy
from scraper.options import Options
from scraper.report import Report
from scraper.run import run
from scraper.site import EXPECTED, addresses_of, running_site
from scraper.summary import Summary

__all__ = ["Comparison", "compare", "say"]

# Short enough that the page that hangs doesn't decide the comparison.
LOCAL_POLICY = RetryPolicy(timeout=1.0, retries=1)


@dataclass(frozen=True)
class Comparison:
    """What came of the comparison: the first run, and whether Ctrl-C ended either."""

    summary: Summary
    interrupted: bool

    @property
    def is_as_expected(self) -> bool:
        """Whether the first run made of each page what the site had in store."""
        return self.summary.kinds == EXPECTED


def compare(report: Report, options: Options) -> Comparison:
    """Scrape the local site twice and tell how much faster the first run was."""
    policy = options.policy(LOCAL_POLICY)
    method = options.start_method
    with running_site(method) as port:
        addresses = addresses_of(port)
        say(f"No address given: scraping a local site of {len(addresses)} pages.")
        many = run(addresses, report, policy=policy, processes=options.processes, start_method=method)
        say(f"\n{many}")
        if many.interrupted or options.processes == 1:
            return Comparison(many, many.interrupted)
        say("\nThe same with 1 process:")
        one = run(addresses, None, policy=policy, processes=1, start_method=method)
    say(one)
    if not one.interrupted:
        say(f"\n{many.processes} processes were {one.seconds / many.seconds:.1f} times as fast as 1.")
    return Comparison(many, one.interrupted)


def say(text: object) -> None:
    """Tell the reader, on the side of the report."""
    print(text, file=sys.stderr, flush=True)
