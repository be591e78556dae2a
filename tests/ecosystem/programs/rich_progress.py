"""rich: the progress of executor workers, reported through a Manager's dict."""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor

import proof
from rich.console import Console
from rich.progress import Progress


def work(progress, task, steps):
    for step in range(1, steps + 1):
        progress[task] = {"progress": step, "total": steps}
    return proof.home()


if __name__ == "__main__":
    context = proof.context()
    output = io.StringIO()
    with context.Manager() as manager, Progress(console=Console(file=output)) as bars:
        state = manager.dict()
        tasks = [bars.add_task(f"task {n}") for n in range(4)]
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            futures = [pool.submit(work, state, task, 10 + task) for task in tasks]
            proof.check(future.result() for future in futures)
        for task, status in state.items():
            bars.update(task, completed=status["progress"], total=status["total"])
        assert bars.finished and len(bars.tasks) == 4
    assert "100%" in output.getvalue()
    print("done")
