"""Several processes on this machine, as torchrun would start them, but from a server that has imported everything.

A process that starts by importing torch and our kernels takes seconds; one that is forked from the server takes none.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

_PRELOADED = ["torch", "torch.distributed", "numba", "umbel.train.pretrain", "torch.distributed.checkpoint", "warm"]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _run(function: Callable[..., Any], rank: int, size: int, port: int, args: tuple[Any, ...], results: Any) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        results.put((rank, True, function(*args)))
    except BaseException:
        results.put((rank, False, traceback.format_exc()))
        raise SystemExit(1) from None


class Ranks:
    """Processes 0 to ``size`` - 1, each calling ``function(*args)`` with the variables that torchrun sets.

    ``function`` must be at the top of a module of tests/, and args and results picklable (tensors: use numpy).
    """

    def __init__(self, function: Callable[..., Any], size: int, *args: Any):
        self._results = _context.SimpleQueue()
        port = _free_port()
        self.processes = [
            _context.Process(target=_run, args=(function, rank, size, port, args, self._results))
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    @property
    def are_running(self) -> bool:
        """Every process is still there."""
        return all(process.is_alive() for process in self.processes)

    def kill(self, rank: int) -> None:
        """Send SIGKILL to one; then to all others, as torchrun does when one is gone."""
        for process in [self.processes[rank], *self.processes]:
            if process.is_alive():
                os.kill(process.pid or 0, signal.SIGKILL)
            process.join()

    def results(self, timeout_s: float = 120.0) -> list[Any]:
        """Wait for all, and give what each returned, by rank; raise with the traceback of the first that failed."""
        found: dict[int, Any] = {}
        end = time.monotonic() + timeout_s
        try:
            while len(found) < len(self.processes):
                if not self._results.empty():
                    rank, is_well, value = self._results.get()
                    if not is_well:
                        raise AssertionError(f"rank {rank} failed:\n{value}")
                    found[rank] = value
                elif time.monotonic() > end:
                    raise AssertionError(f"ranks {sorted(set(range(len(self.processes))) - set(found))} did not end")
                else:
                    time.sleep(0.005)
            for process in self.processes:
                process.join(10.0)
        finally:
            for process in self.processes:
                if process.is_alive():
                    process.kill()
                process.join()
        return [found[rank] for rank in range(len(self.processes))]


def run_ranks(function: Callable[..., Any], size: int, *args: Any) -> list[Any]:
    """Run ``function(*args)`` in ``size`` processes; give their results by rank."""
    return Ranks(function, size, *args).results()
