"""Where the jobs of a build run: in this process, in several, or on a Ray cluster. The results are the same.

A job is a picklable value with a ``size``, how much it will report (in bases, mostly); its function takes the job and a
function to report them with.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any, Literal, Protocol, TypeVar

from umbel.errors import BackendError, RunError
from umbel.progress import Reporter

Advance = Callable[[int], None]
ExecutorName = Literal["local", "ray"]


def silent(amount: int) -> None:
    """Report to nobody."""


class Job(Protocol):
    """What a stage does at once."""

    @property
    def size(self) -> int:
        """How much it will report."""


J = TypeVar("J", bound=Job)
Work = Callable[[J, Advance], dict[str, Any]]

_advance_of: dict[str, Any] = {}
"""In a worker process: the queue that carries what jobs report to the parent."""


def run_jobs(
    work: Callable[[J, Advance], dict[str, Any]],
    jobs: Sequence[J],
    title: str,
    reporter: Reporter,
    *,
    workers: int = 1,
    executor: ExecutorName = "local",
    done: int = 0,
    unit: str = "bp",
) -> Iterator[tuple[J, dict[str, Any]]]:
    """Run every job, and yield each with its result as it ends, in any order.

    Parameters
    ----------
    work
        Function at the top of a module, called with a job and a function that is told what was done since last time.
    jobs
        What to do.
    title, reporter
        Shown beside the bar with speed and time left.
    workers
        Processes, or tasks at a time on Ray.
    executor
        ``local``, or ``ray``: the cluster that ``RAY_ADDRESS`` names, or one started here. All its machines must see
        the folders of the job.
    done
        What an earlier build finished, of the same unit.
    unit
        Of the jobs' sizes.

    Raises
    ------
    BackendError
        If Ray is asked for and not installed.
    RunError
        If a worker process was killed. What a job itself raises comes as it is.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}: give at least 1")
    if not jobs:
        return
    task = reporter.start(title, total=done + sum(job.size for job in jobs), unit=unit, done=done)
    try:
        if executor == "ray":
            with executing(executor, workers):
                yield from _on_ray(work, jobs, workers, task.advance)
        elif workers == 1 or len(jobs) == 1:
            for job in jobs:
                left = _Rest(job.size, task.advance)
                result = work(job, left.advance)
                left.finish()
                yield job, result
        else:
            yield from _in_processes(work, jobs, workers, task.advance)
    finally:
        task.close()


@contextmanager
def executing(executor: ExecutorName, workers: int) -> Iterator[None]:
    """Keep what an executor needs for as long as several :func:`run_jobs` use it: starting Ray takes seconds.

    Raises
    ------
    BackendError
        If Ray is asked for and not installed.
    """
    if executor != "ray":
        yield
        return
    if find_spec("ray") is None:
        raise BackendError("--executor ray needs ray: pip install 'umbel[dist]', or leave the option out.")
    import ray

    if ray.is_initialized():
        yield
        return
    # A cluster has its own idea of its cores.
    n_cores = None if "RAY_ADDRESS" in os.environ else workers
    ray.init(num_cpus=n_cores, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        yield
    finally:
        ray.shutdown()


class _Rest:
    """Passes on what a job reports, up to its size; :meth:`finish` reports what it did not."""

    def __init__(self, size: int, advance: Advance):
        self._left, self._advance = size, advance

    def advance(self, amount: int) -> None:
        amount = min(amount, self._left)
        self._left -= amount
        self._advance(amount)

    def finish(self) -> None:
        self.advance(self._left)


def _start_worker(queue: Any) -> None:
    _advance_of["queue"] = queue


def _call(work: Work[J], number: int, job: J) -> dict[str, Any]:
    queue = _advance_of["queue"]
    return work(job, lambda amount: queue.put((number, amount)))


def _in_processes(
    work: Work[J], jobs: Sequence[J], workers: int, advance: Advance
) -> Iterator[tuple[J, dict[str, Any]]]:
    context = get_context("spawn")
    queue: Any = context.SimpleQueue()
    rests = [_Rest(job.size, advance) for job in jobs]
    lock = threading.Lock()

    def listen() -> None:
        while (report := queue.get()) is not None:
            with lock:
                rests[report[0]].advance(report[1])

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        with ProcessPoolExecutor(
            min(workers, len(jobs)), mp_context=context, initializer=_start_worker, initargs=(queue,)
        ) as pool:
            futures = {pool.submit(_call, work, number, job): number for number, job in enumerate(jobs)}
            try:
                for future in as_completed(futures):
                    number = futures[future]
                    result = future.result()
                    with lock:
                        rests[number].finish()
                    yield jobs[number], result
            except BrokenProcessPool as error:
                raise RunError(
                    "a worker process was killed, perhaps for lack of memory. Run it again with fewer workers. (In a "
                    "script of your own, call from below if __name__ == '__main__'.)"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        queue.put(None)
        listener.join()
        queue.close()


def _on_ray(work: Work[J], jobs: Sequence[J], workers: int, advance: Advance) -> Iterator[tuple[J, dict[str, Any]]]:
    import ray

    remote: Any = ray.remote(num_cpus=1, max_retries=0)(_quietly)
    waiting = list(range(len(jobs)))[::-1]
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                number = waiting.pop()
                running[remote.remote(work, jobs[number])] = number
            (done,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            try:
                result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                # The error of the job itself, as a local run would raise it.
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise RunError(
                    f"a Ray worker died ({type(error).__name__}), perhaps for lack of memory. Run it again with fewer "
                    "workers: finished jobs are kept."
                ) from error
            advance(jobs[number].size)
            yield jobs[number], result
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _quietly(work: Work[J], job: J) -> dict[str, Any]:
    return work(job, silent)
