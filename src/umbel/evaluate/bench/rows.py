"""The rows of a dataset's table: the model, the same network with random weights, and what needs no network."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from umbel.config import FinetuneConfig
from umbel.config.benchmark import BenchConfig
from umbel.data.labelled.lengths import Split
from umbel.data.labelled.prepared import Splits
from umbel.data.tokenizers import describe, load_tokens
from umbel.evaluate.baselines.cnn import Cnn
from umbel.evaluate.baselines.embedding_cache import EmbeddingCache
from umbel.evaluate.baselines.interface import Baseline, Fitted
from umbel.evaluate.baselines.kmer import Kmer
from umbel.evaluate.baselines.majority import Majority
from umbel.evaluate.baselines.probe import Probe
from umbel.evaluate.bench.runs import Run, find_run
from umbel.evaluate.bench.table import MODEL
from umbel.evaluate.bench.tuned_rows import TunedRow
from umbel.evaluate.scores.predictions import Predictions
from umbel.model.checkpoint import checkpoint_folder, load_checkpoint
from umbel.model.hf import UmbelForMaskedLM, new_model
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter

RANDOM, CNN, KMER, MAJORITY = "random", "cnn", "kmer", "majority"
ROWS = (MODEL, RANDOM, CNN, KMER, MAJORITY)
"""Every table has all of them, and cannot be made without."""
_NO_SEED = (KMER, MAJORITY)


@dataclass(frozen=True)
class Bench:
    """What the rows of one dataset have in common."""

    checkpoint: Path
    weights_hash: str
    splits: Splits
    config: BenchConfig
    stranded: bool
    folder: Path
    device: torch.device
    reporter: Reporter
    dataset: str

    @property
    def finetune(self) -> FinetuneConfig:
        """Settings of fine-tuning on this dataset."""
        method: Literal["adapter", "full"] = "adapter" if self.config.method == "adapter" else "full"
        return dataclasses.replace(self.config.finetune, method=method, stranded=self.stranded)

    def runs(self, row: str) -> list[Run]:
        """Give a row's runs, one a seed; one alone where there is nothing to draw."""
        if row in (MODEL, RANDOM) and self.config.method != "probe":
            return self._tuned(row)
        seeds = (0,) if row in _NO_SEED else self.config.finetune.seeds
        # The same embeddings whatever the seed: a probe of trained weights has none.
        return [self._fitted(row, seed) for seed in ((0,) if row == MODEL else seeds)]

    def _tuned(self, row: str) -> list[Run]:
        model = load_checkpoint(self.checkpoint)
        tokens = load_tokens(checkpoint_folder(self.checkpoint), model.config.tokens)
        shape, window_bp = model.config.model, model.config.window_bp

        def base(seed: int) -> UmbelForMaskedLM:
            if row == MODEL:
                return load_checkpoint(self.checkpoint)
            return new_model(shape, window_bp, seed, describe(tokens))

        return TunedRow(
            base,
            self.weights_hash if row == MODEL else "random",
            tokens,
            self.splits,
            self.finetune,
            self.config.retries,
            self.folder / row,
            self.device,
            self.reporter,
            f"{self.dataset}, {row}",
        ).runs()

    def _fitted(self, row: str, seed: int) -> Run:
        """Fit what has no base to tune, unless it is on disk."""
        base = self.weights_hash if row == MODEL else row
        key = {"base": base, "stranded": self.stranded, "seed": seed} | self.splits.hashes
        folder = self.folder / row / f"seed-{seed}"
        if (found := find_run(folder, key, self.reporter)) is not None:
            return found
        fitted = self._fit(row, seed)
        assert self.splits.test is not None
        facts = fitted.facts | {"run": folder.name}
        run = Run(self._say(fitted, self.splits.dev, seed), self._say(fitted, self.splits.test, seed), facts)
        run.save(folder, key)
        return run

    def _fit(self, row: str, seed: int) -> Fitted:
        self.reporter.say(f"{self.dataset}, {row}, seed {seed}")
        return self._baseline(row, seed).fit(
            self.splits.train.whole, self.splits.dev.whole, seed=seed, reporter=self.reporter
        )

    def _baseline(self, row: str, seed: int) -> Baseline:
        if row == MAJORITY:
            return Majority()
        if row == KMER:
            return Kmer(stranded=self.stranded)
        if row == CNN:
            return Cnn(stranded=self.stranded, device=str(self.device))
        predictor = Predictor.load(self.checkpoint, device=str(self.device))
        network = predictor if row == MODEL else predictor.with_random_weights(seed)
        return Probe(network, stranded=self.stranded, cache=EmbeddingCache(self.folder / ".embeddings"))

    def _say(self, fitted: Fitted, split: Split, seed: int) -> Predictions:
        return Predictions.of_examples(split.whole, fitted.scores(split.whole), {"seed": seed})
