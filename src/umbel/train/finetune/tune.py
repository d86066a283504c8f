"""From a base, examples and settings to one tuned model: head, adapter, audit, and the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from umbel.config import FinetuneConfig, ModelConfig
from umbel.data.labelled.batches import LabelledBatch
from umbel.data.labelled.examples import Examples, is_known
from umbel.data.labelled.lengths import Split
from umbel.data.tokenizers import Tokens
from umbel.model.adapters.attach import Adapter, attach
from umbel.model.adapters.audit import probe_gradients
from umbel.model.bases import to_device
from umbel.model.flops import count_flops
from umbel.model.hf import UmbelForMaskedLM
from umbel.model.recomputation import checkpoint_blocks
from umbel.model.routing import Routing
from umbel.model.tuned import Tuned as TunedModel
from umbel.model.tuned import with_head
from umbel.progress import Reporter, reporter_or_silent
from umbel.train.finetune.fitting import Fitted, Judge, fit
from umbel.train.speed import FORWARD_AND_BACKWARD

_MEASURED = 1_000


@dataclass(frozen=True)
class Tuned:
    """A fitted model, with its best weights.

    Attributes
    ----------
    model
        Backbone and head; with an adapter, the adapter is in it and not merged.
    adapter
        What was attached, or None where all weights were trained.
    n_trained
        Parameters that were trained, the head's among them.
    flops
        Of training: forward passes over all tokens seen, times 3, or 2 where the base is frozen; dev is not in it.
    """

    model: TunedModel
    fitted: Fitted
    adapter: Adapter | None
    n_trained: int
    flops: float

    @property
    def network(self) -> nn.Module:
        """What is called: the model, or PEFT's around it."""
        return self.model if self.adapter is None else self.adapter.model


def target_spread(examples: Examples) -> tuple[list[float], list[float]] | None:
    """Give mean and standard deviation of each output over the examples that have it; None where nothing is a number.

    An output that never varies has deviation 1.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> task, codes = Task("regression", ("y",)), (np.zeros(4, np.uint8),) * 2
    >>> target_spread(Examples(task, ("a", "b"), codes, np.array([[1.0], [3.0]]), "a.csv", np.arange(2)))
    ([2.0], [1.0])
    """
    task = examples.task
    if not task.is_numbers:
        return None
    flat = np.concatenate([np.asarray(t, np.float64).reshape(-1, task.n_outputs) for t in examples.targets])
    means, spreads = [], []
    for column in flat.T:
        known = column[~np.isnan(column)]
        means.append(float(known.mean()) if len(known) else 0.0)
        spread = float(known.std()) if len(known) else 0.0
        spreads.append(spread if spread > 0 else 1.0)
    return means, spreads


def class_weights(examples: Examples, kind: str) -> list[float] | None:
    """Give what an example of each class weighs in the loss: n / (classes * examples of it), or None for ``none``.

    Examples
    --------
    >>> from umbel.data.labelled.task import Task
    >>> task, codes = Task("binary", ("a", "b")), (np.zeros(4, np.uint8),) * 4
    >>> class_weights(Examples(task, tuple("wxyz"), codes, np.array([0, 0, 0, 1]), "a.csv", np.arange(4)), "balanced")
    [0.6666666666666666, 2.0]
    """
    task = examples.task
    if kind == "none" or not task.is_classes:
        return None
    flat = np.concatenate([np.asarray(target).reshape(-1) for target in examples.targets])
    flat = flat[is_known(task, flat)] if task.kind == "bases" else flat
    counts = np.bincount(flat, minlength=task.n_outputs)
    return [float(len(flat) / (task.n_outputs * max(1, count))) for count in counts]


def tune(
    base: UmbelForMaskedLM,
    tokens: Tokens,
    train: Examples,
    dev: Split,
    config: FinetuneConfig,
    *,
    lr: float,
    seed: int,
    folder: Path,
    judge: Judge,
    device: torch.device,
    reporter: Reporter | None = None,
    title: str = "fine-tuning",
) -> Tuned:
    """Put a head (and an adapter) on a base, and fit; see :func:`umbel.train.finetune.fitting.fit`.

    Parameters
    ----------
    base
        Used up: its backbone becomes the tuned model's.
    seed
        Of head, adapter, order and strands.

    Raises
    ------
    AdapterError
        If an adapter's target matches nothing, or some part of it gets no gradient.
    """
    reporter = reporter_or_silent(reporter)
    spread = target_spread(train)
    model = with_head(
        base,
        asdict(train.task),
        pooling=config.pooling,
        seed=seed,
        class_weights=class_weights(train, config.class_weights),
        output_mean=None if spread is None else spread[0],
        output_scale=None if spread is None else spread[1],
    ).to(device)
    shape = model.config.model
    adapter = attach(model, config.adapter, seed=seed) if config.method == "adapter" else None
    if config.activation_checkpointing:
        checkpoint_blocks(model)

    def audit(batches: Sequence[LabelledBatch]) -> None:
        assert adapter is not None
        reporter.say(probe_gradients(adapter, lambda net: loss_of(net, batches), seed=seed).describe())

    if adapter is not None:
        reporter.say(adapter.describe())
    fitted = fit(
        model if adapter is None else adapter.model,
        tokens,
        train,
        dev,
        config,
        lr=lr,
        seed=seed,
        folder=folder,
        judge=judge,
        before_first_step=None if adapter is None else audit,
        reporter=reporter,
        title=title,
    )
    if adapter is None:
        n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    else:
        n_trained = adapter.n_parameters + adapter.n_head
    flops = training_flops(shape, train, tokens, fitted.n_tokens, full=adapter is None)
    return Tuned(model, fitted, adapter, n_trained, flops)


def loss_of(model: nn.Module, batches: Sequence[LabelledBatch]) -> tuple[Tensor, list[Routing]]:
    """Give the loss of some micro-batches, and all routings, for an audit."""
    device = next(model.parameters()).device
    losses, routings = [], []
    for batch in batches:
        output = model(**to_device(batch.inputs, device), labels=torch.from_numpy(batch.targets).to(device))
        losses.append((output.losses.values * output.losses.weights).sum())
        routings += output.routings
    return torch.stack(losses).sum(), routings


def training_flops(shape: ModelConfig, train: Examples, tokens: Tokens, n_tokens: int, *, full: bool) -> float:
    """Count the operations of training on ``n_tokens`` tokens of sequences as long as the first thousand on average."""
    mean_length = float(np.mean([len(tokens.encode(codes).ids) for codes in train.codes[:_MEASURED]]))
    passes = FORWARD_AND_BACKWARD if full else FORWARD_AND_BACKWARD - 1
    return float(passes * count_flops(shape, round(mean_length)).total * n_tokens)
