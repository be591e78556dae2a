"""parmap: map and starmap with a progress bar, on a pool of its own or a given one."""

from __future__ import annotations

import parmap
import proof


def power(base, exponent):
    return base**exponent


if __name__ == "__main__":
    with proof.context().Pool(2) as pool:
        assert parmap.map(power, range(30), 3, pm_pool=pool) == [n**3 for n in range(30)]
        proof.check(parmap.map(proof.home, range(4), pm_pool=pool))
    if proof.MODE != "context":
        pairs = [(n, n % 4) for n in range(30)]
        expected = [n ** (n % 4) for n in range(30)]
        assert parmap.starmap(power, pairs, pm_processes=2, pm_pbar=True) == expected
        result = parmap.map_async(power, range(5), 2, pm_processes=2)
        assert result.get() == [0, 1, 4, 9, 16]
        proof.check(parmap.map(proof.home, range(4), pm_processes=2))
    print("done")
