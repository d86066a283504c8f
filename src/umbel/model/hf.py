"""Our models as Hugging Face classes: ``AutoModel`` and its kin load a saved folder offline and strictly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.loss.loss_utils import ForSequenceClassificationLoss
from transformers.utils import ModelOutput

from umbel.config import ModelConfig, from_dict
from umbel.errors import CheckpointError, ConfigError
from umbel.model.backbone import Backbone, Output
from umbel.model.heads import masked_cross_entropy, mean_over_bases
from umbel.model.placement import Placed, SpanPlacement
from umbel.model.routing import Routing

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
    """

    model_type = MODEL_TYPE

    shape: dict[str, Any] | None = None
    window_bp: int = 32_768
    tokens: dict[str, Any] | None = None
    placement: bool = False
    pad_token_id: int | None = 4
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Check the shape, and fill in what it leaves out."""
        config = from_dict(ModelConfig, self.shape or {}, "config.json, shape")
        self.shape = dataclasses.asdict(config)
        self.tie_word_embeddings = config.tie_head
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


@dataclass
class UmbelModelOutput(ModelOutput):
    """``last_hidden_state`` (B, L, D) after the final norm, the residual ``hidden_states``, and ``routings``."""

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    routings: tuple[Routing, ...] | None = None


@dataclass
class UmbelLogitsOutput(ModelOutput):
    """``loss`` and ``placed`` where asked for, float32 ``logits``, and as in :class:`UmbelModelOutput`."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    routings: tuple[Routing, ...] | None = None
    placed: Placed | None = None


class UmbelPreTrainedModel(PreTrainedModel):
    """Loading and saving that all our models share; a backbone that does not fit whole is refused."""

    config_class = UmbelConfig
    base_model_prefix = "backbone"
    _no_split_modules = ("Block",)
    _keys_to_ignore_on_load_unexpected = [r"^placement\."]  # noqa: RUF012
    _new_keys: tuple[str, ...] = ()
    """Parameters that a checkpoint may lack, because a new task begins with them."""

    def __init__(self, config: UmbelConfig):
        super().__init__(config)
        self.backbone = Backbone(config.model)

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the parts alone: each of them draws its own weights when it is made."""

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a folder; as in transformers, but nothing may be missing, unexpected or of another shape.

        A head that belongs to another task (such as ``lm_head`` in a backbone) is left out, and a new
        task's head starts from random weights. Everything else must fit.

        Raises
        ------
        CheckpointError
            Listing every key that does not fit, or saying that the file is damaged.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        try:
            model, info = super().from_pretrained(
                name, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{name}: the weights cannot be read ({error})") from error
        problems = [
            f"missing {key}" for key in sorted(info["missing_keys"]) if not key.startswith(cls._new_keys or "\0")
        ]
        problems += [f"unexpected {key}" for key in sorted(info["unexpected_keys"]) if key.startswith("backbone.")]
        problems += [f"{key} has shape {tuple(a)}, must be {tuple(b)}" for key, a, b in info["mismatched_keys"]]
        if problems:
            raise CheckpointError(f"{name}: {len(problems)} keys do not fit: " + "; ".join(problems))
        return (model, info) if wants_info else model

    def get_input_embeddings(self) -> nn.Module:
        """Give the token embedding."""
        return self.backbone.embedding

    def _run(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        output_hidden_states: bool | None,
        segment_ids: Tensor | None = None,
    ) -> Output:
        keep = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return self.backbone(input_ids, attention_mask, segment_ids, keep_stream=bool(keep))

    def _give(self, values: ModelOutput, return_dict: bool | None) -> Any:
        return values if return_dict or return_dict is None else values.to_tuple()


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
        logits = (
            self.lm_head(output.hidden).float() if output.hidden.dtype != torch.float64 else self.lm_head(output.hidden)
        )
        loss = None if labels is None else masked_cross_entropy(logits, labels)
        placed = None if placement is None or self.placement is None else self.placement(output.hidden, placement)
        values = UmbelLogitsOutput(loss, logits, output.stream or None, output.routings, placed)
        return self._give(values, return_dict)


class UmbelForSequenceClassification(UmbelPreTrainedModel):
    """Backbone, mean over real bases, and a linear layer; the loss follows ``config.problem_type``."""

    _new_keys = ("score.",)

    def __init__(self, config: UmbelConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is self.score and not getattr(module.weight, "_is_hf_initialized", False):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Map ``(B, L)`` ids to logits ``(B, num_labels)``."""
        output = self._run(input_ids, attention_mask, output_hidden_states)
        if attention_mask is not None:
            input_ids = input_ids.masked_fill(attention_mask == 0, self.config.pad_token_id)
        logits = self.score(mean_over_bases(output.hidden, input_ids))
        loss = None if labels is None else ForSequenceClassificationLoss(labels, logits, self.config)
        return self._give(UmbelLogitsOutput(loss, logits, output.stream or None, output.routings), return_dict)


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
