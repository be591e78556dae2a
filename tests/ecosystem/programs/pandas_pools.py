"""pandas: frames through a Pool."""

from __future__ import annotations

import numpy as np
import pandas as pd
import proof


def summarize(frame):
    return frame.groupby("key").value.sum()


if __name__ == "__main__":
    frame = pd.DataFrame({"key": np.arange(30_000) % 7, "value": np.arange(30_000, dtype=float)})
    parts = [frame.iloc[n::3] for n in range(3)]
    with proof.context().Pool(2) as pool:
        sums = pool.map(summarize, parts)
        proof.check(pool.map(proof.home, range(4)))
    assert sum(sums[1:], start=sums[0]).equals(summarize(frame))
    print("done")
