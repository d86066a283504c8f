"""Our models as Hugging Face classes: ``AutoModel`` and its kin load a saved folder offline and strictly."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from umbel.config import ModelConfig
from umbel.errors import ConfigError
from umbel.model.heads import at_least_float32, masked_cross_entropy
from umbel.model.hf_config import MODEL_TYPE, UmbelConfig
from umbel.model.hf_heads import UmbelForSequenceClassification, UmbelForTokenClassification, UmbelForTracks
from umbel.model.hf_model import UmbelLogitsOutput, UmbelModelOutput, UmbelPreTrainedModel
from umbel.model.placement import SpanPlacement

__all__ = [
    "MODEL_TYPE",
    "UmbelConfig",
    "UmbelForMaskedLM",
    "UmbelForSequenceClassification",
    "UmbelForTokenClassification",
    "UmbelForTracks",
    "UmbelLogitsOutput",
    "UmbelModel",
    "UmbelModelOutput",
    "UmbelPreTrainedModel",
    "new_model",
]


class UmbelModel(UmbelPreTrainedModel):
    """The backbone alone, as ``AutoModel`` gives it."""

    def __init__(self, config: UmbelConfig):
        super().__init__(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        segment_ids: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map ``(B, L)`` ids to hidden states ``(B, L, D)``; for ``segment_ids`` see the backbone."""
        output = self._run(input_ids, attention_mask, output_hidden_states, segment_ids)
        values = UmbelModelOutput(output.hidden, output.stream or None, output.routings)
        return self._give(values, return_dict)


class UmbelForMaskedLM(UmbelPreTrainedModel):
    """Backbone and a linear head over the vocabulary, tied to the embedding by default.

    With ``config.placement`` there is a head for span placement too, for training on.
    """

    _tied_weights_keys = {"lm_head.weight": "backbone.embedding.weight"}  # noqa: RUF012

    def __init__(self, config: UmbelConfig):
        super().__init__(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        # Last, so that the other weights of a seed are the same with it and without.
        self.placement = SpanPlacement(config.hidden_size) if config.placement else None
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        """Give the head."""
        return self.lm_head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        segment_ids: Tensor | None = None,
        placement: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map ``(B, L)`` ids to logits ``(B, L, V)``; ``labels`` count where they are not -100.

        Raises
        ------
        ValueError
            If ``placement`` (see :class:`~umbel.model.placement.SpanPlacement`) is given to a model without that head.
        """
        if placement is not None and self.placement is None:
            raise ValueError("this model has no head of span placement: make it with placement=True in its config")
        output = self._run(input_ids, attention_mask, output_hidden_states, segment_ids)
        logits = at_least_float32(self.lm_head(output.hidden))
        loss = None if labels is None else masked_cross_entropy(logits, labels)
        placed = None if placement is None or self.placement is None else self.placement(output.hidden, placement)
        values = UmbelLogitsOutput(loss, logits, output.stream or None, output.routings, placed)
        return self._give(values, return_dict)


def new_model(
    config: ModelConfig, window_bp: int, seed: int, tokens: dict[str, Any] | None = None, *, placement: bool = False
) -> UmbelForMaskedLM:
    """Make a model with weights drawn from ``seed``, whatever the state of the global generator.

    Parameters
    ----------
    window_bp, tokens, placement
        What ``config.json`` is to remember, see :class:`UmbelConfig`.

    Raises
    ------
    ConfigError
        If the vocabulary is smaller than the tokens that exist.
    """
    if config.vocab_size < 12:
        raise ConfigError(f"model.vocab_size is {config.vocab_size}, and there are 12 tokens: set 12 or more")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UmbelForMaskedLM(
            UmbelConfig(shape=dataclasses.asdict(config), window_bp=window_bp, tokens=tokens, placement=placement)
        )


# ``import umbel`` sees to it that this module is loaded as soon as transformers is.
AutoConfig.register(MODEL_TYPE, UmbelConfig, exist_ok=True)
AutoModel.register(UmbelConfig, UmbelModel, exist_ok=True)
AutoModelForMaskedLM.register(UmbelConfig, UmbelForMaskedLM, exist_ok=True)
AutoModelForSequenceClassification.register(UmbelConfig, UmbelForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(UmbelConfig, UmbelForTokenClassification, exist_ok=True)
