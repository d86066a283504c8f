"""The next items of an iterator, made in another thread while this one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterator[T], n_ahead: int = 2) -> Iterator[T]:
    """Give the items in order; up to ``n_ahead`` of them are ready before they are asked for.

    Whatever making an item raises is raised here, in its turn. The iterator runs in one other thread, and in no more.

    Examples
    --------
    >>> list(read_ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    end = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="umbel-read-ahead")
    try:
        waiting = deque(pool.submit(next, items, end) for _ in range(n_ahead))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
