"""Many addresses over a pool of processes, the outcomes as they come."""

import signal
from collections.abc import Generator
from typing import Any

import procession as multiprocessing
from scraper import interrupts
from scraper.addresses import problem
from scraper.fetch import RetryPolicy, fetch, prepare_worker
from scraper.outcome import Kind, Outcome

__all__ = ["gather"]


def gather(
    addresses: list[str], *, policy: RetryPolicy, processes: int, start_method: str | None
) -> Generator[Outcome, None, None]:
    """One outcome for each address, whatever happens to it, first come first.

    The addresses must differ from each other.
    """
    worth_asking = []
    for address in addresses:
        if trouble := problem(address):
            yield Outcome(address, Kind.MALFORMED, detail=trouble)
        else:
            worth_asking.append(address)
    if worth_asking:
        yield from _fetch_all(worth_asking, policy, min(processes, len(worth_asking)), start_method)


def _fetch_all(
    addresses: list[str], policy: RetryPolicy, processes: int, start_method: str | None
) -> Generator[Outcome, None, None]:
    deaths: set[str] = set()
    missing = dict.fromkeys(addresses)
    context: Any = multiprocessing.get_context(start_method)
    with interrupts.put_off():
        pool = context.Pool(processes, initializer=prepare_worker, initargs=(policy,))
    with pool:
        outcomes = pool.imap_unordered(fetch, addresses)
        while True:
            try:
                outcome = next(outcomes)
            except StopIteration:
                break
            except multiprocessing.WorkerDied as death:
                deaths.add(_how(death))
                continue
            del missing[outcome.address]
            yield outcome
        for address in missing:
            yield Outcome(address, Kind.WORKER_DIED, detail=" or ".join(sorted(deaths)))
        pool.close()
        pool.join()


def _how(death: multiprocessing.WorkerDied) -> str:
    if death.exitcode is None:
        return str(death)
    if death.signal is None:
        return f"exit status {death.exitcode}"
    try:
        return f"killed by {signal.Signals(death.signal).name}"
    except ValueError:
        return f"killed by signal {death.signal}"
