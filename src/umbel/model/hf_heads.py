"""Hugging Face classes for labelled sequences: whole sequences, single bases, and tracks of bins."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from umbel.errors import ConfigError
from umbel.model.backbone import PAD_ID, Backbone
from umbel.model.bases import Bases, find_bases, mean_in_bins, word_length
from umbel.model.heads import IGNORED, NumberHead, apply_head
from umbel.model.hf_config import UmbelConfig
from umbel.model.hf_model import UmbelLogitsOutput, UmbelPreTrainedModel
from umbel.model.losses import Losses, class_losses, label_set_losses, number_losses, require_numbers
from umbel.model.pooling import Pool, real_bases

HEAD_STD = 0.02
"""Standard deviation of a new head's weights; its biases are zero."""


class _WithHead(UmbelPreTrainedModel):
    """What the heads share: how they begin, and the form of what they give."""

    def __init__(self, config: UmbelConfig, backbone: Backbone | None = None):
        super().__init__(config, backbone)
        self.num_labels = config.num_labels
        _require_class_weights(config)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Draw a new head, and leave alone what was loaded, and the backbone, which draws its own weights."""
        if module is not self._head and not isinstance(module, Pool):
            return
        starts = {"bias": 0.0, "query": 0.0, "output_mean": 0.0, "output_scale": 1.0}
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if getattr(value, "_is_hf_initialized", False):
                continue
            if name == "weight":
                nn.init.normal_(value, std=HEAD_STD)
            else:
                nn.init.constant_(value, starts[name])

    @property
    def _head(self) -> nn.Module:
        """The linear layer."""
        raise AttributeError

    def _finish(self, output: Any, logits: Tensor, losses: Losses | None, return_dict: bool | None) -> Any:
        loss = None if losses is None else losses.mean()
        # Pipelines cut what a model gives into examples, and cannot cut these.
        routings = output.routings if torch.is_grad_enabled() else None
        values = UmbelLogitsOutput(loss, logits, output.stream or None, routings, losses=losses)
        return self._give(values, return_dict)


def _require_class_weights(config: UmbelConfig) -> None:
    weights = config.class_weights
    if weights is None:
        return
    if len(weights) != config.num_labels:
        raise ConfigError(f"class_weights has {len(weights)} numbers, and there are {config.num_labels} classes")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise ConfigError(f"class_weights is {weights}: give finite numbers, 0 or more, and not all 0")


class UmbelForSequenceClassification(_WithHead):
    """Backbone, pooling over real bases, and a linear layer; the loss follows ``config.problem_type``.

    ``single_label_classification``: cross-entropy, each example counting what its class weighs in
    ``config.class_weights``. ``multi_label_classification``: binary cross-entropy. ``regression``: squared error in
    units of ``score.output_scale`` (1 unless set), over the targets that are not NaN; logits are in the units of the
    target. Where the config leaves it open, the first labels decide, as in transformers: one output is regression,
    whole numbers are classes, anything else labels.

    Examples
    --------
    >>> from umbel.config import ModelConfig
    >>> import dataclasses
    >>> shape = dataclasses.asdict(ModelConfig(n_layers=2, d_model=8, ffn_hidden=16))
    >>> model = UmbelForSequenceClassification(UmbelConfig(shape=shape, num_labels=3, pooling="attention"))
    >>> model(torch.tensor([[0, 7, 8, 9, 1]]), labels=torch.tensor([2])).logits.shape
    torch.Size([1, 3])
    """

    _new_keys = ("score.", "pool.")
    _old_keys = ("score.output_",)

    def __init__(self, config: UmbelConfig, backbone: Backbone | None = None):
        super().__init__(config, backbone)
        # Kept: PEFT may put something around the head, which then is no NumberHead but has all that one has.
        self.is_numbers = config.problem_type == "regression" or (
            config.problem_type is None and config.num_labels == 1
        )
        if config.class_weights is not None and config.problem_type in ("regression", "multi_label_classification"):
            raise ConfigError(f"class_weights are for classes, and problem_type is {config.problem_type}")
        self.pool = Pool(config.pooling, config.hidden_size)
        self.score = (NumberHead if self.is_numbers else nn.Linear)(config.hidden_size, config.num_labels)
        self.post_init()

    @property
    def _head(self) -> nn.Module:
        return self.score

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map ``(B, L)`` ids to logits ``(B, num_labels)``.

        Parameters
        ----------
        labels
            Classes: whole numbers ``(B,)`` or ``(B, 1)``. Labels: ``(B, num_labels)`` from 0 to 1. Numbers:
            ``(B, num_labels)``, or ``(B,)`` for one; of several outputs, those that are NaN are left out.

        Raises
        ------
        ValueError
            If labels have another shape, or one of them is impossible.
        """
        output = self._run(input_ids, attention_mask, output_hidden_states)
        pooled = self.pool(output.hidden, self._without_padding(input_ids, attention_mask))
        raw = apply_head(self.score, pooled)
        losses = None if labels is None else self._losses(raw, labels)
        logits = self._numbers.in_units(raw) if self.is_numbers else raw
        return self._finish(output, logits, losses, return_dict)

    @property
    def _numbers(self) -> NumberHead:
        return cast(NumberHead, self.score)

    def _losses(self, raw: Tensor, labels: Tensor) -> Losses:
        config = self.config
        if config.problem_type is None:
            whole = "multi" if labels.is_floating_point() or labels.dtype == torch.bool else "single"
            config.problem_type = "regression" if self.num_labels == 1 else f"{whole}_label_classification"
        if config.problem_type == "single_label_classification":
            return class_losses(raw, labels, config.class_weights)
        if config.problem_type == "multi_label_classification":
            return label_set_losses(raw, labels)
        if not self.is_numbers:
            raise ConfigError("problem_type became regression after the model was made: set it in the config before")
        targets = require_numbers(labels.to(raw.device), tuple(raw.shape), all_known=self.num_labels == 1)
        return number_losses(raw, self._numbers.standardised(targets))


class UmbelForTokenClassification(_WithHead):
    """Backbone and a linear layer that gives each base its class.

    The layer has ``num_labels`` outputs for each base of a k-mer: base j of a token has slice j, and is gathered from
    the token that stands for it. The loss is cross-entropy over the labels that are not -100, each counting what its
    class weighs in ``config.class_weights``.

    Raises
    ------
    ConfigError
        If the model's tokens are learnt words.
    """

    _new_keys = ("classifier.",)

    def __init__(self, config: UmbelConfig, backbone: Backbone | None = None):
        super().__init__(config, backbone)
        self.k = word_length(config.tokens)
        self.classifier = nn.Linear(config.hidden_size, self.k * config.num_labels)
        self.post_init()

    @property
    def _head(self) -> nn.Module:
        return self.classifier

    def base_logits(self, hidden: Tensor, bases: Bases) -> Tensor:
        """Map states of tokens ``(B, T, D)`` to logits of bases ``(B, N, num_labels)``; zeros where there is no base.

        Parameters
        ----------
        bases
            As :func:`~umbel.model.bases.find_bases` finds them.
        """
        sliced = apply_head(self.classifier, hidden).unflatten(2, (self.k, self.num_labels))
        return bases.take_slices(sliced)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        bases: Bases | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map ``(B, T)`` ids to logits ``(B, N, num_labels)`` of the N bases of the longest row, from the first on.

        Single nucleotides without ``bases`` are as everywhere in transformers: N is T, tokens stay in their columns,
        and framing has logits that mean nothing.

        Parameters
        ----------
        labels
            ``(B, N)`` whole numbers, -100 where there is no class.
        bases
            Found in the ids unless given.

        Raises
        ------
        ValueError
            If labels have another shape, one is no class, or one stands at padding.
        """
        output = self._run(input_ids, attention_mask, output_hidden_states)
        padding = self._without_padding(input_ids, attention_mask) == PAD_ID
        # What stands at padding is never looked at, not even times zero.
        hidden = output.hidden.masked_fill(padding[:, :, None], 0)
        if bases is None and self.k > 1:
            bases = find_bases(input_ids, attention_mask, self.config.tokens)
        logits = apply_head(self.classifier, hidden) if bases is None else self.base_logits(hidden, bases)
        if labels is None:
            return self._finish(output, logits, None, return_dict)
        losses = class_losses(logits, labels, self.config.class_weights)
        _refuse_beyond(labels.to(logits.device) != IGNORED, padding if bases is None else ~bases.exist, "-100")
        return self._finish(output, logits, losses, return_dict)


class UmbelForTracks(_WithHead):
    """Backbone, mean over the real bases of each bin of ``config.bin_bp``, and a linear layer.

    Each base has the state of the token that stands for it. The last bin may be shorter; one without any real base
    gives what the linear layer makes of zeros. The loss is squared error in units of ``tracks.output_scale`` (1 unless
    set), over the targets that are not NaN; logits are in the units of the target.
    """

    _new_keys = ("tracks.",)

    def __init__(self, config: UmbelConfig, backbone: Backbone | None = None):
        super().__init__(config, backbone)
        if config.class_weights is not None:
            raise ConfigError("class_weights are for classes, and tracks are numbers")
        self.tracks = NumberHead(config.hidden_size, config.num_labels)
        self.post_init()

    @property
    def _head(self) -> nn.Module:
        return self.tracks

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        bases: Bases | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map ``(B, T)`` ids to logits ``(B, bins, num_labels)`` for the bins of the longest row, from the first on.

        Parameters
        ----------
        labels
            Of the shape of the logits, NaN where nothing was measured.
        bases
            Found in the ids unless given, which learnt words need.

        Raises
        ------
        ConfigError
            If the tokens are learnt words, and ``bases`` is not given.
        ValueError
            If labels have another shape, one is infinite, or one stands after the end of its sequence.
        """
        output = self._run(input_ids, attention_mask, output_hidden_states)
        if bases is None:
            bases = find_bases(input_ids, attention_mask, self.config.tokens)
        counted = bases.take(real_bases(self._without_padding(input_ids, attention_mask))[:, :, None])[:, :, 0]
        bin_bp = self.config.bin_bp
        hidden = output.hidden if output.hidden.dtype == torch.float64 else output.hidden.float()
        raw = apply_head(self.tracks, mean_in_bins(bases.take(hidden), counted, bin_bp))
        losses = None
        if labels is not None:
            targets = require_numbers(labels.to(raw.device), tuple(raw.shape), all_known=False)
            ends = -(-bases.exist.sum(1) // bin_bp)
            beyond = torch.arange(raw.shape[1], device=raw.device) >= ends[:, None]
            _refuse_beyond(~targets.isnan().all(2), beyond, "NaN")
            losses = number_losses(raw, self.tracks.standardised(targets))
        return self._finish(output, self.tracks.in_units(raw), losses, return_dict)


def _refuse_beyond(labelled: Tensor, beyond: Tensor, nothing: str) -> None:
    wrong = labelled & beyond
    if bool(wrong.any()):
        row, place = wrong.nonzero()[0].tolist()
        raise ValueError(f"row {row}: a label at {place}, which is padding; it must be {nothing} there")
