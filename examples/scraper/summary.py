"""What a run comes to."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from scraper.outcome import Kind, Outcome

__all__ = ["Summary"]


@dataclass(slots=True)
class Summary:
    """The counts of a run; an interrupted run has fewer outcomes than addresses.

    `processes` is how many fetch: no more than there are addresses worth a request.
    """

    wanted: int
    processes: int
    asked: int = 0
    seconds: float = 0.0
    size: int = 0
    retries: int = 0
    interrupted: bool = False
    kinds: Counter[Kind] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one more outcome."""
        self.kinds[outcome.kind] += 1
        self.asked += outcome.was_asked_for
        self.size += outcome.size
        self.retries += max(0, outcome.attempts - 1)

    @property
    def done(self) -> int:
        """How many addresses have an outcome."""
        return self.kinds.total()

    @property
    def failed(self) -> int:
        """How many addresses were not fetched."""
        return self.done - self.kinds[Kind.OK]

    @property
    def rate(self) -> float:
        """Addresses asked for a second."""
        return self.asked / self.seconds if self.seconds else 0.0

    def by_kind(self) -> dict[str, int]:
        """The counts that are not zero, best outcome first."""
        return {str(kind): self.kinds[kind] for kind in Kind if self.kinds[kind]}

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {kind}" for kind, count in self.by_kind().items()) or "none"
        lines = [f"{self.done} of {self.wanted} addresses: {counts}"]
        if self.asked:
            lines.append(
                f"{self.size:,} bytes in {self.seconds:.2f} s with {self.processes} "
                f"process{'es' if self.processes > 1 else ''}: {self.rate:.1f} addresses/s"
            )
        if self.retries:
            lines.append(f"repeated requests: {self.retries}")
        if self.interrupted:
            lines.append(f"interrupted: {self.wanted - self.done} addresses have no outcome")
        return "\n".join(lines)

    def as_record(self) -> dict[str, Any]:
        """The summary for a machine."""
        return {
            "wanted": self.wanted,
            "done": self.done,
            "kinds": self.by_kind(),
            "retries": self.retries,
            "bytes": self.size,
            "seconds": round(self.seconds, 6),
            "processes": self.processes,
            "interrupted": self.interrupted,
        }
