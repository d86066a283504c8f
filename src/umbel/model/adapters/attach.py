"""An adapter put into a model: its rank, its first weights, and its exact size."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from umbel.config.finetuning import AdapterConfig
from umbel.errors import AdapterError, ConfigError
from umbel.model.adapters.targets import Target, find_targets
from umbel.model.effective_weights import is_wrapped
from umbel.model.hf import UmbelPreTrainedModel
from umbel.model.moe import MoE

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel

NAME = "default"
"""What PEFT calls the one adapter of a model."""


@dataclass(frozen=True)
class Part:
    r"""The update :math:`B A` of a layer, or of one expert, whose factors are parts of what PEFT trains.

    Attributes
    ----------
    name
        Of the target, with the expert's number.
    layer
        Index of the block.
    expert
        Number of the expert, or None.
    of_all_a, of_all_b
        PEFT's parameters: of all experts where there are several.
    rank
        Of the update.
    """

    name: str
    layer: int
    expert: int | None
    of_all_a: nn.Parameter
    of_all_b: nn.Parameter
    rank: int

    @property
    def a(self) -> Tensor:
        """``(rank, n_in)``, a view."""
        return self._part_of_a(self.of_all_a)

    @property
    def b(self) -> Tensor:
        """``(n_out, rank)``, a view."""
        return self._part_of_b(self.of_all_b)

    @property
    def gradients(self) -> tuple[Tensor | None, Tensor | None]:
        """Those of A and B; None before a backward pass that reached them."""
        a, b = self.of_all_a.grad, self.of_all_b.grad
        return None if a is None else self._part_of_a(a), None if b is None else self._part_of_b(b)

    def _part_of_a(self, whole: Tensor) -> Tensor:
        return whole if self.expert is None else whole.view(-1, self.rank, whole.shape[1])[self.expert]

    def _part_of_b(self, whole: Tensor) -> Tensor:
        # PEFT has the expert's number vary fastest here, and slowest in A.
        return whole if self.expert is None else whole.view(whole.shape[0], self.rank, -1)[..., self.expert]


@dataclass(frozen=True)
class Adapter:
    """A model with a low-rank adapter, ready to be trained.

    Attributes
    ----------
    model
        PEFT's model around ours; the base's weights are frozen, the adapter's and the head's are not.
    config
        What was asked for.
    targets
        What is adapted.
    rank
        Rank of every update.
    n_base
        Parameters of the base: all of the backbone's. No head is counted.
    """

    model: PeftModel
    config: AdapterConfig
    targets: tuple[Target, ...]
    rank: int
    n_base: int

    @property
    def n_parameters(self) -> int:
        """Parameters that learn: those of the targets, of the chosen experts alone; the head is not counted."""
        return sum(target.n_parameters(self.rank) for target in self.targets)

    @property
    def share(self) -> float:
        """Parameters of the adapter over those of the base."""
        return self.n_parameters / self.n_base

    @property
    def n_head(self) -> int:
        """Parameters of the head, which is trained beside the adapter; 0 where the task is the base's own."""
        return sum(p.numel() for name, p in self.model.named_parameters() if ".modules_to_save." in name)

    def describe(self) -> str:
        """Say rank, exact size and share, and what is adapted, in one line.

        Experts that were not chosen have places in PEFT's tensors too: zeros that stay so and are not counted.
        """
        kinds: dict[str, int] = {}
        for target in self.targets:
            end = target.name.rpartition(".")[2]
            if target.experts is not None:
                end = f"{end} of experts {', '.join(map(str, target.experts))}"
            kinds[end] = kinds.get(end, 0) + 1
        counted = ", ".join(f"{n} x {end}" for end, n in kinds.items())
        head = f"; the head's {self.n_head:,} come on top" if self.n_head else ""
        return (
            f"adapter of rank {self.rank}: {self.n_parameters:,} parameters, {100 * self.share:.3f} % of the base's "
            f"{self.n_base:,} ({counted}){head}"
        )

    def parts(self) -> Iterator[Part]:
        """Give every update, expert by expert."""
        layers = lora_layers(self.model)
        for target in self.targets:
            lora = layers[target.name]
            factors = lora.lora_A[NAME].weight, lora.lora_B[NAME].weight
            for expert in (None,) if target.experts is None else target.experts:
                name = target.name if expert is None else f"{target.name}, expert {expert}"
                yield Part(name, target.layer, expert, *factors, self.rank)


def attach(model: UmbelPreTrainedModel, config: AdapterConfig, *, seed: int) -> Adapter:
    """Put a LoRA adapter into a model, and freeze the rest but for its head.

    B is 0, so the model computes what it did. A is drawn from ``seed`` and the name of its target: it depends neither
    on the global generator nor on what else is adapted. Layers that both directions of a tied Mamba mixer use are one
    layer, and get one update. Embedding and language head are never adapted.

    Parameters
    ----------
    model
        Any of our models; it is changed in place.
    config
        Targets, and rank or share.
    seed
        Of A.

    Returns
    -------
    The model within PEFT's, and exact numbers; see :meth:`Adapter.describe`.

    Raises
    ------
    AdapterError
        If a target matches nothing, or the model has an adapter already.
    ConfigError
        If its experts are spread over processes.

    Examples
    --------
    >>> from umbel.config import ModelConfig
    >>> from umbel.model.hf import new_model
    >>> model = new_model(ModelConfig(n_layers=2, d_model=32, ffn_hidden=64, n_experts=2), 256, seed=0)
    >>> adapter = attach(model, AdapterConfig(), seed=0)
    >>> adapter.rank, adapter.n_parameters, round(adapter.share, 4)
    (2, 2384, 0.0513)
    """
    if any(is_wrapped(module) for module in model.modules()) or hasattr(model, "peft_config"):
        raise AdapterError("this model has an adapter already: merge it first, or load the base again")
    if any(isinstance(module, MoE) and module.exchange is not None for module in model.modules()):
        raise ConfigError("adapters need all experts in one process: set parallel.expert_processes to 1")
    targets = find_targets(model.backbone, config.targets)
    n_base = sum(p.numel() for p in model.backbone.parameters())
    rank = config.rank or nearest_rank(targets, config.share * n_base)
    wrapped = wrap(model, lora_config(model, targets, rank, config.scale))
    adapter = Adapter(wrapped, config, targets, rank, n_base)
    _draw(adapter, seed)
    return adapter


def nearest_rank(targets: tuple[Target, ...], n_wanted: float) -> int:
    """Find the rank whose number of parameters is nearest to what is wanted; at least 1, the smaller of two as near.

    Examples
    --------
    >>> nearest_rank((Target("a", 0, n_in=10, n_out=10),), 75)
    4
    """
    per_rank = sum(target.n_parameters(1) for target in targets)
    low = max(1, int(n_wanted // per_rank))
    return low if n_wanted - low * per_rank <= (low + 1) * per_rank - n_wanted else low + 1


def lora_config(model: UmbelPreTrainedModel, targets: tuple[Target, ...], rank: int, scale: float) -> LoraConfig:
    """Write down for PEFT what is adapted; the head's modules are trained whole and saved with the adapter."""
    from peft import LoraConfig

    alpha = scale * rank
    return LoraConfig(
        r=rank,
        # Whole where it can be: PEFT's files have whole numbers there.
        lora_alpha=int(alpha) if float(alpha).is_integer() else cast(Any, alpha),
        lora_dropout=0.0,
        bias="none",
        target_modules=sorted(target.name for target in targets if target.experts is None),
        target_parameters=sorted(target.name for target in targets if target.experts is not None) or None,
        modules_to_save=head_modules(model) or None,
    )


def head_modules(model: UmbelPreTrainedModel) -> list[str]:
    """Name the modules that begin with random weights in a new task."""
    new = model._new_keys or "\0"
    return [name for name, part in model.named_children() if f"{name}.".startswith(new) and [*part.parameters()]]


def wrap(model: UmbelPreTrainedModel, config: LoraConfig) -> PeftModel:
    """Have PEFT put its layers in; the global generator is as it was before."""
    from peft import get_peft_model

    with torch.random.fork_rng(devices=[]), expected_warnings():
        return cast("PeftModel", get_peft_model(cast(Any, model), config, adapter_name=NAME))


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Hide what PEFT warns of that is no concern of its users: names in transformers that will change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing. is deprecated", category=FutureWarning)
        yield


def lora_layers(model: nn.Module) -> dict[str, Any]:
    """Find PEFT's layers by the names of what they adapt, as in the model without them."""
    found = {}
    for path, module in model.named_modules():
        if is_wrapped(module):
            name = path.removeprefix("base_model.model.").replace(".base_layer", "")
            parameter = getattr(module, "parameter_name", None)
            found[name if parameter is None else f"{name}.{parameter}"] = module
    return found


@torch.no_grad()
def _draw(adapter: Adapter, seed: int) -> None:
    """Draw A as LoRA does, uniform within 1 / sqrt(n_in), and set B to 0; both of experts not chosen are 0."""
    for lora in lora_layers(adapter.model).values():
        lora.lora_A[NAME].weight.zero_()
        lora.lora_B[NAME].weight.zero_()
    for part in adapter.parts():
        key = hashlib.sha256(f"{seed}:{part.name}".encode()).digest()[:8]
        generator = torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)
        drawn = torch.rand(part.a.shape, generator=generator) * 2 - 1
        part.a.copy_(drawn * part.a.shape[1] ** -0.5)
