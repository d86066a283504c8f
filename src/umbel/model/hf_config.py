"""``config.json`` of our models: the shape of the backbone, its tokens, and what a tuned model was tuned for."""

from __future__ import annotations

import dataclasses
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from umbel.config import ModelConfig, from_dict
from umbel.errors import ConfigError
from umbel.model.pooling import require_pooling

MODEL_TYPE = "umbel"


@strict
class UmbelConfig(PreTrainedConfig):
    """``config.json`` of an umbel model: ``shape`` holds a :class:`~umbel.config.ModelConfig` by name.

    Parameters
    ----------
    shape
        The fields of a ModelConfig.
    window_bp
        Longest window seen in training, in bases.
    tokens
        What the tokens are, as :func:`umbel.data.tokenizers.describe` says it; None is single nucleotides.
    placement
        The masked language model has a head of span placement, see :class:`~umbel.model.placement.SpanPlacement`.
    pooling
        How a head for whole sequences makes one vector of their bases, see :class:`~umbel.model.pooling.Pool`.
    task
        What a tuned model says of a sequence: the fields of :class:`umbel.data.labelled.task.Task`.
    bin_bp
        Bases in a bin of :class:`~umbel.model.hf_heads.UmbelForTracks`.
    class_weights
        What an example (or base) of each class counts in the loss; None is 1 for all.
    """

    model_type = MODEL_TYPE
    # Trainer takes whatever else a model gives for predictions, and cannot gather these.
    keys_to_ignore_at_inference = ["hidden_states", "routings", "placed", "losses"]  # noqa: RUF012

    shape: dict[str, Any] | None = None
    window_bp: int = 32_768
    tokens: dict[str, Any] | None = None
    placement: bool = False
    pooling: str = "mean"
    task: dict[str, Any] | None = None
    bin_bp: int = 1
    class_weights: list[float] | None = None
    pad_token_id: int | None = 4
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the shape, and fill in what it leaves out."""
        config = from_dict(ModelConfig, self.shape or {}, "config.json, shape")
        self.shape = dataclasses.asdict(config)
        self.tie_word_embeddings = config.tie_head
        require_pooling(self.pooling)
        if self.bin_bp < 1:
            raise ConfigError(f"bin_bp is {self.bin_bp}: a bin has 1 base or more")
        super().__post_init__(**kwargs)

    @property
    def model(self) -> ModelConfig:
        """The shape as a ModelConfig."""
        return from_dict(ModelConfig, self.shape or {}, "config.json, shape")

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary."""
        return self.model.vocab_size

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return self.model.d_model

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the backbone."""
        return self.model.n_layers
