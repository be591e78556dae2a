"""Prints results: as a table with the failures below it, and as JSON."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from plan import Skip
from supervise import Result

COLUMNS = ("passed", "failed", "skipped", "excluded")


@dataclass
class Report:
    """All results, one list a run, with further remarks."""

    package: str
    python: str
    runs: list[list[Result]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unmatched: list[Skip] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """Something passed and nothing failed."""
        results = [result for run in self.runs for result in run]
        return not any(result.is_failure for result in results) and any(
            result.outcome == "passed" for result in results
        )

    def differing(self) -> dict[str, Counter[str]]:
        """The tests whose outcome is not the same in every run, with how often they had which."""
        outcomes: dict[str, Counter[str]] = defaultdict(Counter)
        for run in self.runs:
            for name, outcome in {result.name: result.outcome for result in run}.items():
                outcomes[name][outcome] += 1
        # A result that belongs to no single test appears only in runs where it failed.
        return {name: counts for name, counts in outcomes.items() if set(counts.values()) != {len(self.runs)}}

    def lines(self) -> Iterator[str]:
        """The table and what is below it."""
        yield f"{self.package} on Python {self.python}"
        yield ""
        yield f"{'':28}" + "".join(f"{column:>10}" for column in (*COLUMNS, "seconds"))
        for number, run in enumerate(self.runs, 1):
            if len(self.runs) > 1:
                yield f"run {number}"
            yield from _rows(run)
        for number, run in enumerate(self.runs, 1):
            for result in filter(lambda result: result.is_failure, run):
                which = f" in run {number}" if len(self.runs) > 1 else ""
                yield ""
                yield f"{result.outcome}{which}: {result.name}"
                yield f"    {(result.detail.splitlines() or ['no word'])[-1].strip()[:200]}"
        if differing := self.differing():
            yield ""
            yield "not the same in every run:"
            for name, counts in differing.items():
                said = ", ".join(f"{outcome} {count}" for outcome, count in counts.items())
                yield f"    {name}: {said} of {len(self.runs)}"
        if self.unmatched:
            yield ""
            yield "entries of the skip list that match no test:"
            yield from (f"    {skip.suite} {skip.test}" for skip in self.unmatched)
        yield from ("", *self.notes) if self.notes else ()

    def as_json(self) -> dict:
        """Everything, the details in full."""
        return {
            "package": self.package,
            "python": self.python,
            "succeeded": self.succeeded,
            "runs": [[_record(result) for result in run] for run in self.runs],
            "differing": self.differing(),
            "unmatched": [skip.test for skip in self.unmatched],
            "notes": self.notes,
        }


def _rows(run: list[Result]) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in run:
        groups[result.case.suite, result.case.start].append(result)
    for (suite, start), results in groups.items():
        yield _row(f"{suite:16} {start}", results)
    if len(groups) > 1:
        yield _row("all", run)


def _row(title: str, results: list[Result]) -> str:
    counts = Counter("failed" if result.is_failure else result.outcome for result in results)
    seconds = sum(result.seconds for result in results)
    return f"{title:28}" + "".join(f"{counts[column]:10}" for column in COLUMNS) + f"{seconds:10.1f}"


def _record(result: Result) -> dict:
    return {
        "suite": result.case.suite,
        "start": result.case.start,
        "test": f"{result.case.name}.{result.test}",
        "outcome": result.outcome,
        "seconds": result.seconds,
        "detail": result.detail,
    }
