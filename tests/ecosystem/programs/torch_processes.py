"""torch.multiprocessing: tensors through queues, pipes and pools, one memory for all, and `spawn`."""

from __future__ import annotations

import sys

import proof
import torch
import torch.multiprocessing as mp


def fill(tensor, queue):
    tensor.fill_(7)
    queue.put(proof.home())


def answer(questions, answers, stop):
    while (tensor := questions.get()) is not None:
        answers.put(tensor * 2)
    # Tensors live in the memory of the process that made them, by descriptor or by name.
    stop.wait()


def reply(connection):
    connection.send(connection.recv() + 1)
    connection.recv()


def double(tensor):
    return tensor * 2


def ranked(rank, shared):
    shared[rank] = rank + 1


def failing(rank):
    raise LookupError(f"rank {rank}")


def queues(context):
    questions, answers, stop = context.Queue(), context.Queue(), context.Event()
    process = context.Process(target=answer, args=(questions, answers, stop))
    process.start()
    for n in range(10):
        questions.put(torch.full((1000,), float(n)))
        assert torch.equal(answers.get(), torch.full((1000,), 2.0 * n))
    questions.put(None)
    stop.set()
    process.join()
    assert process.exitcode == 0


def shared_memory(context):
    tensor, queue = torch.zeros(1000).share_memory_(), context.SimpleQueue()
    process = context.Process(target=fill, args=(tensor, queue))
    process.start()
    proof.check([queue.get()])
    process.join()
    assert tensor.eq(7).all()


def pipes(context):
    ours, theirs = context.Pipe()
    process = context.Process(target=reply, args=(theirs,))
    process.start()
    ours.send(torch.arange(1000))
    assert torch.equal(ours.recv(), torch.arange(1000) + 1)
    ours.send("received")
    process.join()


def pools(context):
    tensors = [torch.full((500,), float(n)) for n in range(12)]
    with context.Pool(2) as pool:
        assert all(torch.equal(a, b * 2) for a, b in zip(pool.map(double, tensors), tensors, strict=True))
    if proof.MODE != "context":
        with mp.Pool(2) as pool:
            assert all(torch.equal(a, b * 2) for a, b in zip(pool.map(double, tensors), tensors, strict=True))
            proof.check(pool.map(proof.home, range(4)))


def spawns():
    shared = torch.zeros(2).share_memory_()
    mp.start_processes(ranked, (shared,), nprocs=2, start_method=proof.METHOD)
    assert shared.tolist() == [1, 2]
    try:
        mp.start_processes(failing, nprocs=2, start_method=proof.METHOD)
    except mp.ProcessRaisedException as error:
        assert "LookupError: rank" in str(error)
    else:
        raise AssertionError("no error")


if __name__ == "__main__":
    mp.set_sharing_strategy(sys.argv[1])
    if proof.MODE != "context":
        proof.set_method()
    # torch.multiprocessing's own context is the default one of `multiprocessing`.
    context = proof.context()
    for step in (queues, shared_memory, pipes, pools):
        step(context)
        print(step.__name__)
    if proof.MODE != "context":
        spawns()
    print("done")
