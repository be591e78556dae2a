"""The outcomes as text lines, CSV or JSON, written as they come."""

import csv
import json
from dataclasses import asdict, fields
from typing import Any, Protocol, TextIO

from scraper.outcome import Outcome
from scraper.summary import Summary

__all__ = ["FORMATS", "Report", "line"]


def line(outcome: Outcome) -> str:
    """The outcome as one line for a reader."""
    outcome = outcome.without_passwords()
    if outcome.status is None:
        told = f"URL: {outcome.address}, Failed: {outcome.kind}"
    else:
        told = f"URL: {outcome.address}, Status Code: {outcome.status}"
    remarks = [outcome.detail] if outcome.detail else []
    if outcome.attempts > 1:
        remarks.append(f"{outcome.attempts} attempts")
    return f"{told} ({'; '.join(remarks)})" if remarks else told


class Report(Protocol):
    """Where the outcomes go as they come; `close` ends it, also when the run was interrupted."""

    def __init__(self, out: TextIO) -> None: ...
    def add(self, outcome: Outcome) -> None: ...
    def close(self, summary: Summary) -> None: ...


class TextReport:
    """A line an outcome, written at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def add(self, outcome: Outcome) -> None:
        print(line(outcome), file=self._out, flush=True)

    def close(self, summary: Summary) -> None:
        self._out.flush()


class CsvReport:
    """A header and a row an outcome, written at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rows = csv.writer(out, lineterminator="\n")
        self._rows.writerow(field.name for field in fields(Outcome))

    def add(self, outcome: Outcome) -> None:
        self._rows.writerow(_record(outcome).values())
        self._out.flush()

    def close(self, summary: Summary) -> None:
        self._out.flush()


class JsonReport:
    """One document, `{"outcomes": [...], "summary": {...}}`, an outcome a line, written as they come."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._separator = "\n"
        out.write('{"outcomes": [')

    def add(self, outcome: Outcome) -> None:
        self._out.write(self._separator + json.dumps(_record(outcome)))
        self._out.flush()
        self._separator = ",\n"

    def close(self, summary: Summary) -> None:
        self._out.write(f'\n],\n"summary": {json.dumps(summary.as_record())}}}\n')
        self._out.flush()


def _record(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome.without_passwords()) | {
        "kind": str(outcome.kind),
        "seconds": round(outcome.seconds, 6),
    }


FORMATS: dict[str, type[Report]] = {"text": TextReport, "csv": CsvReport, "json": JsonReport}
