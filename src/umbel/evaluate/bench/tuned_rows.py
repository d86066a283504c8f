"""Rows that are fine-tuned: a learning rate chosen on dev, one run a seed, and another try where one collapsed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from umbel.config import FinetuneConfig, to_dict
from umbel.data.labelled.lengths import Split
from umbel.data.labelled.prepared import Splits
from umbel.data.tokenizers import Tokens
from umbel.errors import RunError
from umbel.evaluate.bench.runs import Run, find_run
from umbel.evaluate.judging import judge_by, metric_for, quality
from umbel.evaluate.scores.definitions import why_collapsed
from umbel.evaluate.scores.predictions import Predictions
from umbel.model.hf import UmbelForMaskedLM
from umbel.progress import Reporter
from umbel.train.finetune.outputs import say_outputs
from umbel.train.finetune.tune import Tuned, tune

_SLOWER = 3.0


@dataclass(frozen=True)
class TunedRow:
    """A network that is fine-tuned on one dataset.

    Attributes
    ----------
    base
        From a seed to a fresh base: the trained one for any seed, or one with random weights of that seed.
    base_hash
        What the weights are told by; random ones also by the seed.
    folder
        Where the row's runs go.
    keep
        Called with a folder and each run's tuned model before it is forgotten; what it writes stays beside the run.
    """

    base: Callable[[int], UmbelForMaskedLM]
    base_hash: str
    tokens: Tokens
    splits: Splits
    config: FinetuneConfig
    retries: int
    folder: Path
    device: torch.device
    reporter: Reporter
    title: str
    keep: Callable[[Path, Tuned], None] = lambda folder, tuned: None

    def runs(self) -> list[Run]:
        """Give one run per seed, computing those that are not on disk."""
        lr = self.config.lr[0] if len(self.config.lr) == 1 else self._best_rate()
        return [self._run(lr, seed) for seed in self.config.seeds]

    def _best_rate(self) -> float:
        """Try every rate with the first seed, and give that with the best dev score; of equals the lowest."""
        metric = metric_for(self.splits.task, self.config.select_by)
        tried = {lr: quality(self._run(lr, self.config.seeds[0]).dev, metric) for lr in sorted(self.config.lr)}
        return max(tried, key=lambda lr: -math.inf if math.isnan(tried[lr]) else tried[lr])

    def _key(self, lr: float, seed: int) -> dict[str, Any]:
        free = ("seeds", "lr", "micro_batch_tokens", "save_every_steps", "activation_checkpointing")
        settings = {name: value for name, value in to_dict(self.config).items() if name not in free}
        return {"base": self.base_hash, "settings": settings, "lr": lr, "seed": seed} | self.splits.hashes

    def _run(self, lr: float, seed: int) -> Run:
        folder, key = self.folder / f"seed-{seed}-lr-{lr:g}", self._key(lr, seed)
        if (found := find_run(folder, key, self.reporter)) is not None:
            return found
        states = folder.with_name(f".{folder.name}.states")
        tried: list[dict[str, Any]] = []
        for number in range(self.retries + 1):
            rate = lr / _SLOWER**number
            run, tuned, why = self._try(rate, seed, states / f"try-{number}")
            if why is None:
                break
            tried.append({"lr": rate, "why": why})
            self.reporter.say(f"{self.title}, seed {seed}: collapsed at a learning rate of {rate:g} ({why})")
        if run is None:
            raise RunError(f"{self.title}, seed {seed}: no try gave finite numbers ({tried[-1]['why']}). Lower lr")
        run.facts.update(collapsed_tries=tried, run=folder.name)
        run.save(folder, key, lambda temporary: self.keep(temporary, tuned))
        shutil.rmtree(states, ignore_errors=True)
        return run

    def _try(self, lr: float, seed: int, states: Path) -> tuple[Run | None, Tuned, str | None]:
        """Tune once; give what came of it, and why it counts as collapsed on dev."""
        splits, config = self.splits, self.config
        tuned = tune(
            self.base(seed),
            self.tokens,
            splits.train.shown,
            splits.dev,
            config,
            lr=lr,
            seed=seed,
            folder=states,
            judge=judge_by(metric_for(splits.task, config.select_by)),
            device=self.device,
            reporter=self.reporter,
            title=f"{self.title}, seed {seed}",
        )
        fitted = tuned.fitted
        if fitted.best is None:
            return None, tuned, fitted.problem or "no epoch ended with a dev score"
        facts = {
            "lr": lr,
            "seed": seed,
            "best": fitted.best,
            "history": fitted.history,
            "steps": fitted.n_steps,
            "tokens": fitted.n_tokens,
            "seconds": fitted.seconds,
            "flops": tuned.flops,
            "n_parameters": tuned.n_trained,
            "problem": fitted.problem,
            "adapter": None if tuned.adapter is None else tuned.adapter.describe(),
        }
        test = None if splits.test is None else self._say(tuned, splits.test, seed)
        run = Run(self._say(tuned, splits.dev, seed), test, facts)
        return run, tuned, why_collapsed(run.dev)

    def _say(self, tuned: Tuned, split: Split, seed: int) -> Predictions:
        config, whole = self.config, split.whole
        outputs = say_outputs(
            tuned.network, self.tokens, split.shown, stranded=config.stranded, budget=config.micro_batch_tokens
        )
        facts = {"row": self.title, "seed": seed}
        return Predictions.from_logits(whole.task, whole.ids, whole.targets, split.fold(outputs), facts)
