"""Finds the tests that pass with the standard library and fail here, and reports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sources import TestFile
from supervise import END, LEFT, Result

NOT_RUN = Result("not run")
Results = dict[str, Result]
# Runs the tests of a file: with the package or without, all of them or some.
Run = Callable[[TestFile, bool, "list[str] | None"], Results]


@dataclass
class Suspect:
    """A test that passed with the standard library and did not pass here, and how it ended when repeated."""

    test: str
    here: list[Result]
    stdlib: list[Result]

    @property
    def is_settled(self) -> bool:
        """Whether a repetition contradicts it."""
        return any(result.outcome == "passed" for result in self.here) or any(
            result.outcome != "passed" for result in self.stdlib
        )


@dataclass
class Compared:
    """One file: all results, and what came of the tests that differ."""

    file: TestFile
    stdlib: Results
    here: Results
    suspects: list[Suspect] = field(default_factory=list)

    @property
    def failing_here(self) -> list[Suspect]:
        """Tests that passed with the standard library each time, and never here."""
        return [suspect for suspect in self.suspects if not suspect.is_settled]

    @property
    def unsteady(self) -> list[Suspect]:
        """Tests that passed here when repeated, or failed with the standard library."""
        return [suspect for suspect in self.suspects if suspect.is_settled]

    def count(self, here: bool, stdlib: bool) -> int:
        """How many tests passed or did not, on the two sides."""
        return sum(
            (self.here.get(test, NOT_RUN).outcome == "passed") == here
            and (self.stdlib.get(test, NOT_RUN).outcome == "passed") == stdlib
            for test in self.here | self.stdlib
            if test not in (END, LEFT)
        )


def compare(file: TestFile, stdlib: Results, run: Run, runs: int, repeat: int) -> Compared:
    """Run a file's tests here `runs` times; repeat on both sides what only the standard library passes."""
    compared = Compared(file, stdlib, run(file, True, None))
    _suspect(compared, compared.here)
    for _ in range(runs - 1):
        _suspect(compared, run(file, True, None))
    for _ in range(repeat):
        if not compared.failing_here:
            break
        _repeat(compared, run)
    return compared


def _suspect(compared: Compared, ran: Results) -> None:
    """Add what did not pass in this run and passes with the standard library."""
    suspects = {suspect.test: suspect for suspect in compared.suspects}
    for test, result in compared.stdlib.items():
        here = ran.get(test, NOT_RUN)
        if test in suspects:
            suspects[test].here.append(here)
        elif result.outcome == "passed" and here.outcome != "passed":
            compared.suspects.append(Suspect(test, [here], [result]))


def _repeat(compared: Compared, run: Run) -> None:
    names = [suspect.test for suspect in compared.failing_here]
    # A result that belongs to no single test needs all of them.
    only = names if all("::" in name for name in names) else None
    here, stdlib = (run(compared.file, alias, only) for alias in (True, False))
    for suspect in compared.failing_here:
        suspect.here.append(here.get(suspect.test, NOT_RUN))
        suspect.stdlib.append(stdlib.get(suspect.test, NOT_RUN))


def lines(files: list[Compared], notes: list[str]) -> Iterator[str]:
    """A table of the suites, and the tests that differ."""
    yield f"{'':20}{'both pass':>10}{'neither':>10}{'only here':>10}{'unsteady':>10}{'fail here':>10}"
    for suite in dict.fromkeys(compared.file.suite for compared in files):
        yield _row(suite, [compared for compared in files if compared.file.suite == suite])
    yield _row("all", files)
    for title, suspects in (
        ("passes with the standard library and fails here", [(c, s) for c in files for s in c.failing_here]),
        ("not the same when repeated", [(c, s) for c in files for s in c.unsteady]),
    ):
        if suspects:
            yield from ("", f"{title}:")
        for compared, suspect in suspects:
            here, stdlib = (_outcomes(results) for results in (suspect.here, suspect.stdlib))
            yield f"  {compared.file.suite} {suspect.test}"
            yield f"    here {here}; with the standard library {stdlib}"
            yield f"    {reason(suspect)}"
    yield from ("", *notes) if notes else ()


def reason(suspect: Suspect) -> str:
    """The last line of what a test said when it first failed here."""
    return (suspect.here[0].detail.splitlines() or ["without a word"])[-1].strip()[:200]


def _row(title: str, files: list[Compared]) -> str:
    suspects = [suspect for compared in files for suspect in compared.suspects]
    unsteady = sum(suspect.is_settled for suspect in suspects)
    both, neither, only_here = (
        sum(compared.count(*passed) for compared in files)
        for passed in ((True, True), (False, False), (True, False))
    )
    numbers = (both, neither, only_here, unsteady, len(suspects) - unsteady)
    return f"{title:20}" + "".join(f"{number:10}" for number in numbers)


def _outcomes(results: list[Result]) -> str:
    return ", ".join(result.outcome for result in results)
