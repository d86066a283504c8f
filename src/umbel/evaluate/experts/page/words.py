"""Numbers as the atlas writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from umbel.evaluate.wording import number, signed, span

MAX_NAMES = 12


def percent(share: float) -> str:
    """Whole per cent; below 10 %, two digits that say something.

    Examples
    --------
    >>> percent(0.5), percent(0.0123), percent(0.0012), percent(0.000158), percent(0.0)
    ('50', '1.2', '0.12', '0.016', '0')
    """
    if share <= 0 or share >= 0.0995:
        return number(100 * share, 0)
    return number(100 * share, min(1 - math.floor(math.log10(100.5 * share)), 6))


def nats(value: float) -> str:
    """Nats with three digits, or more where they begin later.

    Examples
    --------
    >>> nats(0.12345), nats(0.00123), nats(1e-6), nats(0.0)
    ('0.123', '0.0012', '< 0.0001', '0')
    """
    if value == 0:
        return "0"
    if 0 < value < 0.00005:
        return "< 0.0001"
    return number(value, 3) if abs(value) >= 0.00995 else number(value, 4)


def interval(row: dict[str, Any], low: str, high: str, digits: int, scale: float = 1.0) -> str:
    """Write an interval of two columns in brackets; empty where there is none.

    Examples
    --------
    >>> interval({"low": -0.5, "high": 1.0}, "low", "high", 2)
    '[−0.50 to 1.00]'
    """
    if row[low] is None or row[high] is None:
        return ""
    return f"[{span({'low': row[low], 'high': row[high]}, digits, scale)}]"


def some(names: Sequence[str]) -> str:
    """List names, the last after ``and``; beyond a dozen, how many more.

    Examples
    --------
    >>> some(["a", "b", "c"])
    'a, b and c'
    """
    if len(names) > MAX_NAMES:
        return f"{', '.join(names[:MAX_NAMES])} and {len(names) - MAX_NAMES:,} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def count(n: int, word: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> count(1, "unit"), count(1200, "base"), count(0, "expert"), count(2, "class")
    ('1 unit', '1,200 bases', 'no expert', '2 classes')
    """
    if n == 0:
        return f"no {word}"
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}{'es' if word.endswith('s') else 's'}"


def tested(row: dict[str, Any]) -> str:
    """Write log2 odds with interval and q.

    Examples
    --------
    >>> tested({"log2_odds": 1.234, "low": 1.0, "high": 1.5, "q": 0.012})
    '+1.23 [+1.00 to +1.50] q 0.012'
    """
    told = [signed(row["log2_odds"], 2)]
    if row["low"] is not None and row["high"] is not None:
        told.append(f"[{signed(row['low'], 2)} to {signed(row['high'], 2)}]")
    told.append("not tested" if row["q"] is None else f"q {number(row['q'], 3) if row['q'] >= 0.0005 else '< 0.001'}")
    return " ".join(told)
