"""Run a compiled kernel on the threads that torch computes with.

A kernel takes its tasks from a shared counter until none is left, so any number of threads may enter it. On
Linux they are the threads of torch's own OpenMP: a second pool beside it would fight it for the cores, because
threads that have just finished spin for some milliseconds. Elsewhere they are Python threads.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger("umbel")

NOTICE_AFTER_S = 1.5

COUNTER, TASKS, ENTERED, SCRATCH, SCRATCH_FLOATS, FIRST = 0, 1, 2, 3, 4, 5


_ENTRY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> Any:
    """Find the OpenMP runtime that torch brought with it; None where there is none of this kind."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        parallel = ctypes.CDLL(str(path)).GOMP_parallel
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="umbel-kernel")


@cache
def load_kernels(module: str) -> ModuleType:
    """Import a module of kernels; tell the user when that means compiling them."""
    name = module.removeprefix("umbel.ops.")
    text = f"compiling {name} for this processor (some seconds, once after installation)"
    notice = threading.Timer(NOTICE_AFTER_S, lambda: logger.info(text))
    notice.daemon = True
    notice.start()
    try:
        return importlib.import_module(module)
    finally:
        notice.cancel()


def address(x: Tensor | None) -> int:
    """Give where a tensor's numbers stand; 0 if there are none."""
    return 0 if x is None or x.numel() == 0 else x.data_ptr()


def float_argument(value: float) -> int:
    """Pack a float into an int64 argument; the kernel reads it with ``as_float``."""
    return int(struct.unpack("q", struct.pack("d", value))[0])


def launch(kernel: Any, n_tasks: int, scratch_floats: int, *arguments: int) -> None:
    """Run ``kernel`` over ``n_tasks`` tasks on at most as many threads as torch is set to use.

    Parameters
    ----------
    kernel
        Made by :func:`umbel.ops.vectors.kernel`.
    n_tasks
        Tasks, numbered from 0; a kernel must give the same bits in whatever order they are taken.
    scratch_floats
        Floats of working memory that each thread gets, uninitialised.
    arguments
        Integers (addresses, sizes, packed floats), which the kernel finds from ``FIRST`` on. Tensors whose
        addresses are given must stay alive during the call.
    """
    n_threads = max(1, min(torch.get_num_threads(), n_tasks))
    scratch_floats = -(-scratch_floats // 16) * 16
    scratch = torch.empty(n_threads * scratch_floats)
    packed = (ctypes.c_int64 * (FIRST + len(arguments)))(0, n_tasks, 0, scratch.data_ptr(), scratch_floats, *arguments)
    place = ctypes.addressof(packed)
    if n_threads == 1:
        _ENTRY(kernel.address)(place)
    elif (parallel := _openmp()) is not None:
        parallel(kernel.address, place, n_threads, 0)
    else:
        entry = _ENTRY(kernel.address)
        others = [_pool().submit(entry, place) for _ in range(n_threads - 1)]
        entry(place)
        for other in others:
            other.result()
