"""A small convolutional network trained from scratch on the task alone: what pretraining has to beat.

Adam, one learning rate, and early stopping on dev. The bases that training may see are bounded, so that a baseline
takes minutes on a CPU; how many it saw stands in its facts.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from umbel.data.labelled.examples import Examples, is_known
from umbel.data.labelled.task import IGNORED, Task
from umbel.errors import RunError
from umbel.evaluate.baselines.cnn_network import WIDTH, new_network
from umbel.evaluate.baselines.interface import Array, finite, require_splits
from umbel.evaluate.baselines.linear import LOSS, dev_score, spread_of
from umbel.evaluate.scores.predictions import Scores, flattened, sigmoid, softmax
from umbel.genome.sequence import revcomp
from umbel.progress import Reporter, reporter_or_silent

PADDING = 5
_EXAMPLES_AT_ONCE = 32
_BASES_AT_ONCE = 1 << 16
_SCORED_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Cnn:
    """A network of about 90,000 parameters on one-hot bases.

    Attributes
    ----------
    stranded
        Show and score the strand given. Otherwise half of the train sequences are shown as their reverse complement,
        and scores are the mean of both strands. Along sequences it is always the strand given.
    select
        What dev chooses the epoch by: ``loss``, or a metric of :func:`umbel.evaluate.scores.definitions.score`.
    epochs, patience
        Most epochs, and how many without a better dev score end the training.
    budget_bp
        Most bases of train that are shown, all epochs together.
    lr, width
        Learning rate of Adam, and channels.
    device
        Where torch computes.
    """

    stranded: bool = False
    select: str = LOSS
    epochs: int = 20
    patience: int = 4
    budget_bp: int = 60_000_000
    lr: float = 2e-3
    width: int = WIDTH
    device: str = "cpu"
    name: str = "cnn"

    def fit(self, train: Examples, dev: Examples, *, seed: int = 0, reporter: Reporter | None = None) -> FittedCnn:
        """Train, and keep the weights of the epoch that dev likes best.

        An epoch ends after all of train, or a tenth of the budget if that comes first; each shows other examples then.

        Raises
        ------
        LabelError
            If train or dev is empty, or they are of two tasks.
        ConfigError
            If there is no such metric as ``select``.
        RunError
            If the loss is NaN or infinite.
        """
        require_splits(train, dev)
        started = time.perf_counter()
        task, rng = train.task, np.random.default_rng(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = new_network(task, self.width).to(self.device)
        targets, _ = flattened(task, train.targets)
        spread = spread_of(task, targets)
        centre = _centre(task, targets)
        fitted = FittedCnn(network, task, centre, np.sqrt(spread), self._turns(task), self.device, {})
        optimiser = torch.optim.Adam(network.parameters(), lr=self.lr)
        dev_targets, _ = flattened(task, dev.targets)
        order = _Order(train, rng, self.budget_bp)
        best, best_epoch, best_weights = -np.inf, 0, copy.deepcopy(network.state_dict())
        dev_of_epoch: list[float | None] = []
        progress = reporter_or_silent(reporter).start("CNN", self.epochs, "epochs")
        for epoch in range(1, self.epochs + 1):
            network.train()
            for batch in order.epoch():
                optimiser.zero_grad()
                loss = self._loss(fitted, train, batch, rng)
                if not torch.isfinite(loss):
                    raise RunError(f"the loss of the CNN baseline is {loss.item()} in epoch {epoch}: are targets huge?")
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
            found = dev_score(task, dev_targets, fitted.scores(dev), self.select, spread)
            dev_of_epoch.append(finite(found))
            if epoch == 1 or found > best:
                best, best_epoch, best_weights = found, epoch, copy.deepcopy(network.state_dict())
            progress.advance(note=f"dev {found:.4f}")
            if epoch - best_epoch >= self.patience or order.n_bases_left <= 0:
                break
        progress.close()
        network.load_state_dict(best_weights)
        fitted.facts.update(
            chosen={"epoch": best_epoch, "by": self.select, "dev": finite(best)},
            dev_of_epoch=dev_of_epoch,
            n_parameters=sum(parameter.numel() for parameter in network.parameters()),
            n_bases_seen=order.n_bases_seen,
            n_train_bases=order.n_train_bases,
            stranded=not self._turns(task),
            seconds=time.perf_counter() - started,
        )
        return fitted

    def _turns(self, task: Task) -> bool:
        return not (self.stranded or task.is_along_sequence)

    def _loss(self, fitted: FittedCnn, train: Examples, batch: Array, rng: np.random.Generator) -> Tensor:
        turned = rng.random(len(batch)) < 0.5 if self._turns(train.task) else np.zeros(len(batch), bool)
        sequences = [
            revcomp(train.codes[i]) if is_turned else train.codes[i] for i, is_turned in zip(batch, turned, strict=True)
        ]
        outputs = fitted.forward(sequences)
        if isinstance(train.targets, tuple):
            outputs = torch.cat([out[: len(train.targets[i])] for out, i in zip(outputs, batch, strict=True)])
            targets = np.concatenate([train.targets[i] for i in batch])
        else:
            targets = train.targets[batch]
        return _loss(train.task, outputs, targets, fitted.centre, fitted.scale)


class FittedCnn:
    """A trained network, and how its outputs become scores."""

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        centre: Array,
        scale: Array,
        turns: bool,
        device: str,
        facts: dict[str, Any],
    ):
        self.network, self.task, self.centre, self.scale = network, task, centre, scale
        self.turns, self._device, self.facts = turns, device, facts

    def forward(self, sequences: list[npt.NDArray[np.uint8]]) -> Tensor:
        """Run one padded batch, ``(B, outputs)`` or ``(B, rows, outputs)``."""
        width = max(1, max(len(sequence) for sequence in sequences))
        codes = np.full((len(sequences), width), PADDING, np.uint8)
        for row, sequence in enumerate(sequences):
            codes[row, : len(sequence)] = sequence
        shown = torch.from_numpy(codes).to(self._device)
        return self.network(shown, shown != PADDING)

    @torch.no_grad()
    def scores(self, examples: Examples) -> Scores:
        """Scores of every example, base or bin, ``(rows, outputs)``."""
        self.network.eval()
        lengths = np.array([len(sequence) for sequence in examples.codes], np.int64)
        order = np.argsort(lengths, kind="stable")[::-1]
        found: list[Array] = [np.empty((0, self.task.n_outputs))] * len(examples)
        first = 0
        while first < len(order):
            size = max(1, _SCORED_AT_ONCE // max(1, int(lengths[order[first]])))
            batch = order[first : first + size]
            sequences = [examples.codes[i] for i in batch]
            said = self._said(sequences)
            if self.turns:
                said = (said + self._said([revcomp(sequence) for sequence in sequences])) / 2
            for i, row in zip(batch, said, strict=True):
                found[i] = row[: len(examples.targets[i])] if self.task.is_along_sequence else row[None]
            first += size
        return np.concatenate([np.empty((0, self.task.n_outputs)), *found]).astype(np.float32)

    def _said(self, sequences: list[npt.NDArray[np.uint8]]) -> Array:
        outputs = self.forward(sequences).double().cpu().numpy()
        if self.task.is_numbers:
            return outputs * self.scale + self.centre
        return softmax(outputs) if self.task.is_classes else sigmoid(outputs)


class _Order:
    """Which examples are shown when, and how many bases that was."""

    def __init__(self, train: Examples, rng: np.random.Generator, budget_bp: int):
        self._lengths = np.array([len(sequence) for sequence in train.codes], np.int64)
        self._rng = rng
        self.n_train_bases = int(self._lengths.sum())
        self.n_bases_left = budget_bp
        self.n_bases_seen = 0
        self._epoch_bp = max(1, budget_bp // 10)
        self._waiting: list[int] = []

    def epoch(self) -> Iterator[Array]:
        """Batches of indices: all of train, or what a tenth of the budget allows."""
        seen = 0
        n_left = len(self._lengths)
        while n_left and seen < self._epoch_bp and self.n_bases_left > 0:
            if not self._waiting:
                self._waiting = self._rng.permutation(len(self._lengths)).tolist()
            longest = int(self._lengths[self._waiting[:_EXAMPLES_AT_ONCE]].max())
            size = max(1, min(_EXAMPLES_AT_ONCE, _BASES_AT_ONCE // max(1, longest), n_left))
            batch = np.array(self._waiting[:size])
            del self._waiting[:size]
            n_bases = int(self._lengths[batch].sum())
            seen += n_bases
            n_left -= len(batch)
            self.n_bases_seen += n_bases
            self.n_bases_left -= n_bases
            yield batch


def _centre(task: Task, targets: Array) -> Array:
    """Mean of each number in train, so that the network starts from it."""
    if not task.is_numbers:
        return np.zeros(task.n_outputs)
    known = is_known(task, targets)
    return np.where(known, targets, 0).sum(axis=0, dtype=np.float64) / np.maximum(known.sum(axis=0), 1)


def _loss(task: Task, outputs: Tensor, targets: Array, centre: Array, scale: Array) -> Tensor:
    """Mean loss over the targets that there are; 0 where there are none."""
    if task.is_classes:
        truth = torch.from_numpy(np.ascontiguousarray(targets)).to(outputs.device)
        n_known = int((truth != IGNORED).sum())
        return F.cross_entropy(outputs, truth, ignore_index=IGNORED, reduction="sum") / max(1, n_known)
    known = torch.from_numpy(is_known(task, targets)).to(outputs.device)
    filled = np.nan_to_num(targets) if task.is_numbers else np.where(is_known(task, targets), targets, 0)
    if task.is_numbers:
        filled = (filled - centre) / scale
    truth = torch.from_numpy(filled).to(outputs.device, outputs.dtype)
    losses = (
        (outputs - truth) ** 2
        if task.is_numbers
        else F.binary_cross_entropy_with_logits(outputs, truth, reduction="none")
    )
    return (losses * known).sum() / known.sum().clamp(min=1)
