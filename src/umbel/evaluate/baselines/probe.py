"""A linear model of frozen embeddings: what a network knows of a task that it was never trained for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.examples import Examples
from umbel.errors import ConfigError
from umbel.evaluate.baselines.embedding_cache import EmbeddingCache, embedding_key
from umbel.evaluate.baselines.interface import finite, require_splits
from umbel.evaluate.baselines.linear import LOSS, LinearFit, fit_linear
from umbel.evaluate.scores.predictions import Scores
from umbel.genome.sequence import Codes
from umbel.progress import Reporter, reporter_or_silent

Features = npt.NDArray[np.float32]

_EMBED_WINDOWS = 64
_POOLING = "mean"


class Embedder(Protocol):
    """The part of the predictor that a probe uses."""

    def embed(self, codes: Sequence[Codes], strand: Literal["forward", "revcomp", "both"]) -> npt.NDArray[Any]:
        """Mean embedding over the real bases of each sequence, ``(n, D)``."""


class HashedEmbedder(Embedder, Protocol):
    """An embedder that says which weights it has."""

    @property
    def weights_hash(self) -> str:
        """Identifies the weights."""


def embed_sequences(
    embedder: Embedder,
    codes: Sequence[Codes],
    strand: Literal["forward", "revcomp", "both"] = "both",
    on_done: Callable[[int], None] | None = None,
) -> Features:
    """Embed sequences a few at a time, ``(n, D)`` float32; ``on_done`` is told how many more are done."""
    found = []
    for first in range(0, len(codes), _EMBED_WINDOWS):
        chunk = codes[first : first + _EMBED_WINDOWS]
        found.append(np.asarray(embedder.embed(chunk, strand=strand), np.float32))
        if on_done is not None:
            on_done(len(chunk))
    return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Probe:
    """Logistic regression or ridge on mean embeddings, the penalty chosen on dev.

    Attributes
    ----------
    embedder
        A predictor; with random weights it makes the row that tells what the training was for.
    stranded
        Embed the strand given; otherwise the mean of both strands.
    select
        What dev chooses by: ``loss``, or a metric of :func:`umbel.evaluate.scores.definitions.score`.
    cache
        Where embeddings are kept, by sequences, weights, strand and pooling.
    """

    embedder: HashedEmbedder
    stranded: bool = False
    select: str = LOSS
    cache: EmbeddingCache | None = None
    name: str = "probe"

    def fit(self, train: Examples, dev: Examples, *, seed: int = 0, reporter: Reporter | None = None) -> FittedProbe:
        """Fit each penalty on train, and keep what is best on dev; no seed matters.

        Raises
        ------
        ConfigError
            If the task is of bases or bins, or there is no such metric as ``select``.
        LabelError
            If train or dev is empty, or they are of two tasks.
        """
        if train.task.is_along_sequence:
            raise ConfigError(
                f"a probe of frozen embeddings has one embedding a sequence, and this task is of {train.task.kind}: "
                "leave the probe out, or tune the model with a head of every base or bin"
            )
        require_splits(train, dev)
        started = time.perf_counter()
        features = [self.embed(each, reporter) for each in (train, dev)]
        fit = fit_linear(train.task, features[0], train.targets, features[1], dev.targets, select=self.select)  # type: ignore[arg-type]
        facts = {
            "chosen": {"penalty": fit.penalty, "by": self.select, "dev": finite(fit.dev_score)},
            "weights": self.embedder.weights_hash,
            "strand": self._strand,
            "n_features": fit.n_features,
            "n_parameters": fit.n_parameters,
            "is_converged": fit.is_converged,
            "seconds": time.perf_counter() - started,
        }
        return FittedProbe(self, fit, facts, reporter)

    @property
    def _strand(self) -> Literal["forward", "both"]:
        return "forward" if self.stranded else "both"

    def embed(self, examples: Examples, reporter: Reporter | None = None) -> Features:
        """Embeddings of all examples, ``(n, D)``, from the cache where they are in it."""

        def compute() -> Features:
            progress = reporter_or_silent(reporter).start("embed", len(examples), "sequences")
            found = embed_sequences(self.embedder, examples.codes, self._strand, progress.advance)
            progress.close()
            return found

        if self.cache is None:
            return compute()
        key = embedding_key(examples.codes, self.embedder.weights_hash, self._strand, _POOLING)
        return self.cache.get(key, compute)


@dataclass(frozen=True, eq=False)
class FittedProbe:
    """The linear model on one embedder."""

    probe: Probe
    fit: LinearFit
    facts: dict[str, Any]
    reporter: Reporter | None = None

    def scores(self, examples: Examples) -> Scores:
        """Scores of every example, ``(n, outputs)``."""
        return self.fit.scores(self.probe.embed(examples, self.reporter))
