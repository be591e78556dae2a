"""torch: a DataLoader with two workers, beside one without, by either way of sharing tensors."""

from __future__ import annotations

import sys

import proof
import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info


class Squares(Dataset):
    """Items that are large enough to be shared."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return torch.full((2000,), float(index)) ** 2, index


class Stream(IterableDataset):
    """Each worker gives its share, and says where it lives."""

    def __iter__(self):
        info = get_worker_info()
        for number in range(info.id, 12, info.num_workers):
            yield number, proof.home()


class Faulty(Dataset):
    """Fails in a worker."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise LookupError(index)


def batches(workers, **options):
    loader = DataLoader(Squares(), batch_size=4, num_workers=workers, **options)
    return [(values.clone(), indexes.clone()) for values, indexes in loader]


if __name__ == "__main__":
    torch.multiprocessing.set_sharing_strategy(sys.argv[1])
    options = {"multiprocessing_context": proof.context()}
    expected = batches(0)
    for extra in ({}, {"persistent_workers": True, "prefetch_factor": 4}):
        for mine, theirs in zip(batches(2, **options, **extra), expected, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    stream = list(DataLoader(Stream(), batch_size=None, num_workers=2, **options))
    assert sorted(number for number, _ in stream) == list(range(12))
    proof.check(home for _, home in stream)
    try:
        list(DataLoader(Faulty(), num_workers=2, **options))
    except LookupError as error:
        assert "in DataLoader worker process" in str(error)
        print("done")
