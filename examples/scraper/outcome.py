"""What became of one address."""

from dataclasses import dataclass, replace
from enum import StrEnum

from scraper.addresses import hide_password, hide_passwords_in

__all__ = ["Kind", "Outcome"]


class Kind(StrEnum):
    """The ways an address can end, in the order the summary lists them."""

    OK = "ok"
    NOT_FOUND = "not found"
    BAD_STATUS = "bad status"
    MALFORMED = "malformed"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    BROKEN = "broken"
    WORKER_DIED = "worker died"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One address and what became of it; `status` is None when no answer came."""

    address: str
    kind: Kind
    status: int | None = None
    detail: str = ""
    size: int = 0
    attempts: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the page was fetched."""
        return self.kind is Kind.OK

    @property
    def was_asked_for(self) -> bool:
        """Whether a request was made, or tried."""
        return self.kind is not Kind.MALFORMED or self.attempts > 0

    def without_passwords(self) -> "Outcome":
        """The outcome as others may see it."""
        return replace(self, address=hide_password(self.address), detail=hide_passwords_in(self.detail))
