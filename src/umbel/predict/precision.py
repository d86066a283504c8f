"""Computing in fewer bits: how a model is made to, and what that gains and costs it, measured."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from umbel.data.bpe import BpeTokens
from umbel.errors import ConfigError
from umbel.genome.sequence import Codes, Mask
from umbel.model.backbone import Backbone
from umbel.model.int8 import round_backbone
from umbel.ops.int8 import require_int8
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.predict.sequences import SequencePredictor

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SAMPLE, SAMPLE_BP = 8, 512
"""Sequences and bases of a comparison on random sequences."""
_TIMES = 3
_EVERY = 7
"""One base in so many is hidden for a comparison: near the share of training."""


def require_precision(precision: str) -> Precision:
    """See that there is such a precision.

    Raises
    ------
    ConfigError
        Saying which there are.

    Examples
    --------
    >>> require_precision("int8")
    'int8'
    """
    for known in PRECISIONS:
        if known == precision:
            return known
    raise ConfigError(f"precision {precision}: use {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")


def autocast_of(precision: Precision) -> torch.dtype | None:
    """Give the dtype of autocast; None where there is none.

    Examples
    --------
    >>> autocast_of("bf16")
    torch.bfloat16
    """
    return torch.bfloat16 if require_precision(precision) == "bf16" else None


def set_precision(backbone: Backbone, device: torch.device, precision: Precision) -> None:
    """Round a backbone's weights where the precision says so: in place, and for good.

    Raises
    ------
    BackendError
        If the device cannot compute in it.
    """
    if precision == "int8":
        require_int8(device)
        round_backbone(backbone)


@dataclass(frozen=True)
class PrecisionReport:
    """What a precision gains and costs a model, against float32 on the same sequences in the same call.

    Attributes
    ----------
    precision, device
        What was compared with float32, and where.
    n_sequences, n_bases
        Compared, and whether they were ``random`` ones.
    speed_ratio
        Time of float32 over that of this precision, the shortest of several passes each, in turns: above 1 is faster.
    loss, loss_fp32
        Masked loss, nats a hidden base; None for learnt words, which have none.
    max_log_prob_difference
        Largest difference of a base's natural-log probabilities; None likewise.
    argmax_agreement
        Share of hidden bases with the same most probable letter; None likewise.
    embedding_difference
        Norm of the difference of mean embeddings over the norm of float32's, averaged over sequences.
    """

    precision: Precision
    device: str
    n_sequences: int
    n_bases: int
    random: bool
    speed_ratio: float
    embedding_difference: float
    loss: float | None = None
    loss_fp32: float | None = None
    max_log_prob_difference: float | None = None
    argmax_agreement: float | None = None

    @property
    def is_faster(self) -> bool:
        """Whether it was faster than float32."""
        return self.speed_ratio > 1

    def as_dict(self) -> dict[str, Any]:
        """Give the report as JSON has it."""
        return asdict(self)

    def in_words(self) -> str:
        """Say it in one line.

        Examples
        --------
        >>> print(PrecisionReport("int8", "cpu", 8, 4096, True, 1.38, 0.012).in_words())
        int8 on cpu: 1.38 x the speed of fp32; embeddings differ by 1.20% (8 random sequences, 4,096 bases)
        """
        verdict = "" if self.is_faster else ", so it is no faster for this model: use fp32"
        words = f"{self.precision} on {self.device}: {self.speed_ratio:.2f} x the speed of fp32{verdict}; "
        if self.loss is not None and self.loss_fp32 is not None:
            words += (
                f"masked loss {self.loss:.4f} against {self.loss_fp32:.4f} ({self.loss - self.loss_fp32:+.4f} nats a "
                f"base), log-probabilities differ by {self.max_log_prob_difference:.2g} at most, "
                f"{self.argmax_agreement:.1%} of the most probable bases are the same, "
            )
        kind = "random " if self.random else ""
        return (
            f"{words}embeddings differ by {self.embedding_difference:.2%} ({self.n_sequences} {kind}sequences, "
            f"{self.n_bases:,} bases)"
        )


def compare(
    predictor: SequencePredictor, codes: Sequence[Codes] | None = None, *, reporter: Reporter | None = None
) -> PrecisionReport:
    """Run sequences in a predictor's precision and in float32, in turns.

    Parameters
    ----------
    predictor
        Loaded from a folder, from which the float32 model is loaded once more.
    codes
        Sequences to compare on, best of those that will be asked about; None takes a few random ones.

    Raises
    ------
    ConfigError
        If the predictor computes in float32, was not loaded from a folder, or no base can be hidden.
    """
    if predictor.precision == "fp32":
        raise ConfigError("this model computes in fp32: there is nothing to compare. Load it with another precision")
    if predictor.source is None:
        raise ConfigError("this model was made in memory: a comparison with fp32 loads its folder once more")
    is_random = codes is None
    shown = _random_sequences(predictor) if codes is None else list(codes)
    if not any((sequence < 4).any() for sequence in shown):
        raise ConfigError("no sequence has A, C, G or T: there is nothing to compare on")
    shown = [sequence for sequence in shown if (sequence < 4).any()]
    other = type(predictor).load(predictor.source, str(predictor.device))
    other.tokens_per_batch = predictor.tokens_per_batch
    bar = reporter_or_silent(reporter).start(f"comparing {predictor.precision} with fp32", 2 * _TIMES + 2, "passes")
    seconds = {False: math.inf, True: math.inf}
    for turn in range(2 * (_TIMES + 1)):
        began = time.perf_counter()
        (other if turn % 2 else predictor).embed(shown, "forward")
        # The first pass of each compiles and fills caches.
        if turn > 1:
            seconds[bool(turn % 2)] = min(seconds[bool(turn % 2)], time.perf_counter() - began)
        bar.advance()
    mine, theirs = (each.embed(shown, "forward") for each in (predictor, other))
    gap = np.linalg.norm(mine - theirs, axis=1) / np.maximum(np.linalg.norm(theirs, axis=1), 1e-12)
    return PrecisionReport(
        predictor.precision,
        str(predictor.device),
        len(shown),
        sum(map(len, shown)),
        is_random,
        seconds[True] / seconds[False],
        float(gap.mean()),
        **({} if isinstance(predictor.tokens, BpeTokens) else _compare_probabilities(predictor, other, shown)),
    )


def _random_sequences(predictor: SequencePredictor) -> list[Codes]:
    rng = np.random.default_rng(0)
    length = max(predictor.min_bases, min(SAMPLE_BP, predictor.window_bp))
    return [rng.integers(0, 4, length).astype(np.uint8) for _ in range(SAMPLE)]


def _compare_probabilities(mine: SequencePredictor, other: SequencePredictor, codes: list[Codes]) -> dict[str, float]:
    hidden: list[Mask] = [(np.arange(len(s)) % _EVERY == _EVERY // 2) & (s < 4) for s in codes]
    hidden = [mask if mask.any() else sequence < 4 for mask, sequence in zip(hidden, codes, strict=True)]
    a, b = (np.concatenate(each.masked_log_probs(codes, hidden)) for each in (mine, other))
    truth = np.concatenate([sequence[mask] for sequence, mask in zip(codes, hidden, strict=True)])
    rows = np.arange(len(truth))
    return {
        "loss": float(-a[rows, truth].astype(np.float64).mean()),
        "loss_fp32": float(-b[rows, truth].astype(np.float64).mean()),
        "max_log_prob_difference": float(np.abs(a - b).max()),
        "argmax_agreement": float((a.argmax(1) == b.argmax(1)).mean()),
    }
