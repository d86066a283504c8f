"""What one has to know of a model before its routing can be recorded, learnt from a few short passes.

Which routers run at all, in which order, how the answer of each is read, and whether a sequence's routes depend on
padding or on its batch-mates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.executed import Executed
from umbel.evaluate.experts.hooked.learning import UnreadableError, learn, own_tensors
from umbel.evaluate.experts.hooked.parsing import Decisions, Reading, decide
from umbel.evaluate.experts.hooked.recorder import Call, Recorder
from umbel.evaluate.experts.hooked.sites import FoundRouter
from umbel.evaluate.experts.routes import Site

Batching = Literal["padded", "equal", "single"]
Run = Callable[[Sequence[np.ndarray]], tuple[tuple[int, int], np.ndarray]]
TRIED = (23, 17, 13, 13, 11, 9, 7, 5)
"""Tokens of the sequences that are tried: several, since padding may disturb one and not another."""


@dataclass(frozen=True, eq=False)
class HookedRouter:
    """A router that ran, and how it is read."""

    site: Site
    found: FoundRouter
    reading: Reading

    def decide(self, call: Call, rows: int) -> Decisions:
        """Read one call; see :func:`umbel.evaluate.experts.hooked.parsing.decide`."""
        return decide(call, self.reading, own_tensors(self.found.module), rows, self.found.name)


@dataclass(frozen=True)
class Probe:
    """What the passes told.

    Attributes
    ----------
    routers
        In the order of computation.
    batching
        ``padded``: sequences of any lengths may go together; ``equal``: only those of one length; ``single``: one at
        a time, since what one is told depends on the others, or experts have room for so many tokens only.
    notes
        One sentence a module that was hooked or passed over.
    """

    routers: tuple[HookedRouter, ...]
    batching: Batching
    notes: tuple[str, ...]


def probe(
    run: Run,
    found: Sequence[FoundRouter],
    vocabulary: np.ndarray,
    config: Any,
    top_k: int | None = None,
    close: float = 1e-3,
    seed: int = 0,
) -> Probe:
    """Run a model on a few random tokens, and see.

    Parameters
    ----------
    run
        Runs the model on sequences of token ids as one padded batch; gives its shape ``(B, L)``, and where in its row
        each sequence starts, ``(B,)``.
    found
        Routers to look at.
    vocabulary
        Ids of ordinary tokens.
    config
        Of the model.
    close
        Difference, in standard deviations of a router's probabilities, below which two answers are the same; rounding
        makes some, more in lower precision.

    Raises
    ------
    ConfigError
        If no router runs, or one cannot be read.
    """
    rng = np.random.default_rng(seed)
    tried = [rng.choice(vocabulary, n) for n in TRIED]
    with Recorder(found) as recorder:
        with Executed(found) as executed:
            rows = int(np.prod(run([tried[0]])[0]))
        order = recorder.order
        if not order:
            raise ConfigError(
                "none of the routers that were found ran when the model read tokens: "
                + ", ".join(one.name for one in found)
            )
        routers, notes, unreadable = [], [], {}
        for i in order:
            call = recorder.single(i)
            assert call is not None
            try:
                reading, words = learn(call, found[i], rows, config, top_k)
            except UnreadableError as error:
                unreadable[i] = error
                continue
            router = HookedRouter(_site(found[i], reading), found[i], reading)
            routers.append(router)
            other = executed.difference(i, router.decide(call, rows).experts.cpu().numpy(), rows)
            notes.append(f"{found[i].name}: {found[i].how}; {words}{other and '; '}{other}.")
        # What only has the shape of a router need not be one; what was declared is.
        for i, problem in unreadable.items():
            if found[i].is_declared or not routers:
                raise problem
            notes.append(f"{found[i].name}: {found[i].how}; passed over, since it does not answer for each token.")
        order = [i for i in order if i not in unreadable]
        notes += [
            f"{one.name}: {one.how}; not recorded, since it does not run when the model reads tokens alone."
            for i, one in enumerate(found)
            if i not in (*order, *unreadable)
        ]
        batching = _batching(run, recorder, order, routers, tried, close)
    notes.append(_BATCHING[batching])
    return Probe(tuple(routers), batching, tuple(notes))


_BATCHING: dict[Batching, str] = {
    "padded": "Sequences of like lengths are padded and go together; in a trial that changed no route.",
    "equal": "Only sequences of one length go together, since in a trial padding changed the routes.",
    "single": "Sequences go one at a time, since what one is told may depend on its batch-mates.",
}


def _site(found: FoundRouter, reading: Reading) -> Site:
    return Site(found.name, found.layer, reading.n_experts, reading.top_k, reading.scores, found.stream, found.n_shared)


def _batching(
    run: Run,
    recorder: Recorder,
    order: Sequence[int],
    routers: Sequence[HookedRouter],
    tried: Sequence[np.ndarray],
    close: float,
) -> Batching:
    # A mask of one choice without its places over capacity: capacity is of the batch, and pads may fill it.
    if any(one.reading.layout == "one-hot" or _has_capacity(one.found.module) for one in routers):
        return "single"

    def answers(batch: Sequence[np.ndarray]) -> list[list[Tensor]]:
        recorder.clear()
        (n, width), starts = run(batch)
        told = []
        for i, router in zip(order, routers, strict=True):
            call = recorder.single(i)
            assert call is not None
            decisions = router.decide(call, n * width)
            values = decisions.weights if decisions.probabilities is None else decisions.probabilities
            told.append(values.view(n, width, -1))
        return [[x[row, start : start + len(batch[row])] for x in told] for row, start in enumerate(starts.tolist())]

    alone = [answers([each])[0] for each in tried]
    if all(_alike(a, b, close) for a, b in zip(alone, answers(tried), strict=True)):
        return "padded"
    twins = [i for i, each in enumerate(tried) if sum(len(each) == len(other) for other in tried) > 1]
    together = answers([tried[i] for i in twins])
    return "equal" if all(_alike(alone[i], b, close) for i, b in zip(twins, together, strict=True)) else "single"


def _has_capacity(module: torch.nn.Module) -> bool:
    return any("capacity" in name for name in vars(module))


def _alike(alone: Sequence[Tensor], together: Sequence[Tensor], close: float) -> bool:
    for a, b in zip(alone, together, strict=True):
        if float((a - b).abs().max()) > close * max(float(a.std()), 1e-6):
            return False
    return True
