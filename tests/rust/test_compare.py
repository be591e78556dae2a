"""Each claim of COMPARE.md about the Rust crate names a test of the crate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Claims of absence, which no test shows.
ABSENT = {"macOS, Windows, BSD"}


def rows() -> list[tuple[str, str]]:
    """Each claim and what it names as its test."""
    lines = (ROOT / "COMPARE.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [(row[0], row[-1]) for row in cells[1:]]


@pytest.mark.parametrize(("claim", "shown_by"), rows())
def test_each_claim_of_the_comparison_names_a_test_that_is_there(claim: str, shown_by: str) -> None:
    if claim in ABSENT:
        assert shown_by == "-"
        return
    match = re.fullmatch(r"`(\w+)::(\w+)`", shown_by)
    assert match, shown_by
    file, test = match.groups()
    source = next((ROOT / "crates" / "procession" / "tests").rglob(f"{file}.rs")).read_text()
    if test == "procession_child_entry":
        assert "procession::test_support!();" in source
    else:
        assert re.search(rf"#\[test\]\n(#\[.*\]\n)*fn {test}\(\)", source)
