"""Small labelled sets with planted truth, for the tests of what is done with them."""

import numpy as np
import planted

from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task

BINARY = Task("binary", ("0", "1"))


def random_codes(n, bp, seed=0):
    return list(np.random.default_rng(seed).integers(0, 4, (n, bp)).astype(np.uint8))


def mutated(codes, identity, rng):
    """Copy at an identity: each base is another one with chance ``1 - identity``."""
    return planted.mutated(rng, codes, 1 - identity)


def examples_of(codes, targets=None, task=BINARY, source="a.csv", ids=None):
    n = len(codes)
    rows = np.arange(2, n + 2)
    targets = np.arange(n) % 2 if targets is None else targets
    return Examples(task, ids or tuple(f"row-{row}" for row in rows), tuple(codes), targets, source, rows)
