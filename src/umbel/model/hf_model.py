"""What our Hugging Face classes share: strict loading, activation checkpointing, and what they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from umbel.errors import CheckpointError
from umbel.model.backbone import PAD_ID, Backbone, Output
from umbel.model.hf_config import UmbelConfig
from umbel.model.losses import Losses
from umbel.model.placement import Placed
from umbel.model.recomputation import Recompute, checkpoint_blocks, keep_all
from umbel.model.routing import Routing


@dataclass
class UmbelModelOutput(ModelOutput):
    """``last_hidden_state`` (B, L, D) after the final norm, the residual ``hidden_states``, and ``routings``."""

    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    routings: tuple[Routing, ...] | None = None


@dataclass
class UmbelLogitsOutput(ModelOutput):
    """``loss`` and ``placed`` where asked for, float32 ``logits``, and as in :class:`UmbelModelOutput`.

    Heads for labelled sequences also give ``losses``, whose mean is ``loss``, and ``routings`` with gradients only.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    routings: tuple[Routing, ...] | None = None
    placed: Placed | None = None
    losses: Losses | None = None


class UmbelPreTrainedModel(PreTrainedModel):
    """Loading and saving that all our models share; a backbone that does not fit whole is refused."""

    config_class = UmbelConfig
    base_model_prefix = "backbone"
    _no_split_modules = ("Block",)
    _keys_to_ignore_on_load_unexpected = [r"^placement\."]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _new_keys: tuple[str, ...] = ()
    """Parameters that a checkpoint of another class may lack, because a new task begins with them."""
    _old_keys: tuple[str, ...] = ()
    """Parameters that an older checkpoint of this class may lack."""

    def __init__(self, config: UmbelConfig, backbone: Backbone | None = None):
        super().__init__(config)
        self.gradient_checkpointing = False
        self.backbone = Backbone(config.model) if backbone is None else backbone

    def _init_weights(self, module: nn.Module) -> None:
        """Leave the parts alone: each of them draws its own weights when it is made."""

    @classmethod
    def from_pretrained(cls, name: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a folder; as in transformers, but nothing may be missing, unexpected or of another shape.

        A head that belongs to another task (such as ``lm_head`` in a backbone) is left out, and a new
        task's head starts from random weights. Everything else must fit, and the head of a checkpoint that this class
        has saved. Weights become float32, however they are stored, unless ``dtype`` says otherwise: training steps are
        lost in anything coarser.

        Raises
        ------
        CheckpointError
            Listing every key that does not fit, or saying that the file is damaged.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        if not kwargs.keys() & {"dtype", "torch_dtype"}:
            kwargs["dtype"] = torch.float32
        try:
            model, info = super().from_pretrained(
                name, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
            )
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{name}: the weights cannot be read ({error})") from error
        is_ours = cls.__name__ in (model.config.architectures or ())
        may_lack = (cls._old_keys if is_ours else cls._new_keys) or "\0"
        problems = [f"missing {key}" for key in sorted(info["missing_keys"]) if not key.startswith(may_lack)]
        problems += [f"unexpected {key}" for key in sorted(info["unexpected_keys"]) if key.startswith("backbone.")]
        problems += [f"{key} has shape {tuple(a)}, must be {tuple(b)}" for key, a, b in info["mismatched_keys"]]
        if problems:
            raise CheckpointError(f"{name}: {len(problems)} keys do not fit: " + "; ".join(problems))
        return (model, info) if wants_info else model

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Recompute = checkpoint, every_n_layers: int = 1
    ) -> None:
        """Do the work of ``activation_checkpointing_enable`` (before: ``gradient_checkpointing_enable``)."""
        if enable:
            checkpoint_blocks(self, gradient_checkpointing_func, every_n_layers)
        else:
            keep_all(self)
        self.gradient_checkpointing = enable

    def enable_input_require_grads(self) -> None:
        """Do nothing: blocks are computed again without a gradient at the input, which frozen weights would pay for."""

    def get_input_embeddings(self) -> nn.Module:
        """Give the token embedding."""
        return self.backbone.embedding

    def _without_padding(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Put ``[PAD]`` wherever the mask says that there is padding."""
        return input_ids if attention_mask is None else input_ids.masked_fill(attention_mask == 0, PAD_ID)

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
