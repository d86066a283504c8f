"""Names of an adapter's targets, turned into the weights of a backbone that they mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from umbel.errors import AdapterError
from umbel.model.backbone import Backbone
from umbel.model.moe import MoE, Router

_MIXER = re.compile(r"mixer(\.(along|against))?\.(in_proj|out_proj|x_proj)(_backward)?")
_FFN = re.compile(r"ffn\.(shared\.)?(gate|up|down)")
_GROUPS = ("mixers", "ffn", "router")
_EXPERTS = re.compile(r"experts(:(?P<chosen>\d+(,\d+)*))?")


@dataclass(frozen=True)
class Target:
    """One weight that gets a low-rank update.

    Attributes
    ----------
    name
        Of a linear layer, or of the parameter that holds a layer's experts, as seen from the model.
    layer
        Index of the block.
    n_in, n_out
        Width of inputs and outputs, of one expert where there are several.
    experts
        Those of the layer that are adapted; None where the weight is no experts'.
    """

    name: str
    layer: int
    n_in: int
    n_out: int
    experts: tuple[int, ...] | None = None

    def n_parameters(self, rank: int) -> int:
        """Count the numbers in A and B of all chosen experts, or of the layer.

        Examples
        --------
        >>> Target("ffn.gate", 0, n_in=8, n_out=12, experts=(0, 3)).n_parameters(rank=2)
        80
        """
        return rank * (self.n_in + self.n_out) * (1 if self.experts is None else len(self.experts))


def find_targets(backbone: Backbone, names: Sequence[str], prefix: str = "backbone.") -> tuple[Target, ...]:
    """Find what each name means, in the order of the network.

    ``mixers``: in, out and x projections of Mamba (of both directions where they have their own), in and out
    projections of HyenaLite and attention. ``ffn``: dense FFNs and shared experts. ``experts``: all routed experts,
    ``experts:0,3`` those of these numbers in every layer. ``router``. Anything else is the end of a dotted name, such
    as ``dt_proj`` or ``layers.0.mixer.in_proj``.

    Parameters
    ----------
    names
        As in :attr:`umbel.config.finetuning.AdapterConfig.targets`.
    prefix
        What the model calls the backbone, with a dot.

    Raises
    ------
    AdapterError
        If there are no names, one of them matches nothing or something that can have no low-rank update, or an expert
        does not exist.

    Examples
    --------
    >>> from umbel.config import ModelConfig
    >>> backbone = Backbone(ModelConfig(pattern="Ad", n_layers=1, d_model=16, ffn_hidden=24))
    >>> [target.name for target in find_targets(backbone, ["mixers"])]
    ['backbone.layers.0.mixer.in_proj', 'backbone.layers.0.mixer.out_proj']
    """
    linears, experts = _adaptable(backbone)
    chosen: dict[str, set[int] | None] = {}
    if not names:
        raise AdapterError(f"adapter.targets is empty: name some of {_what_there_is(linears, experts)}")
    for name in names:
        found = _matching(name, linears, experts)
        if not found:
            raise AdapterError(_nothing(name, backbone, linears, experts))
        for path, numbers in found.items():
            chosen[path] = None if numbers is None else (chosen.get(path) or set()) | numbers
    return tuple(
        Target(f"{prefix}{path}", *widths, None if chosen[path] is None else tuple(sorted(chosen[path] or ())))
        for path, widths in _places(backbone, linears, experts).items()
        if path in chosen
    )


def _adaptable(backbone: Backbone) -> tuple[dict[str, nn.Linear], dict[str, MoE]]:
    """Give the linear layers by name, and each parameter that holds experts with its layer."""
    linears: dict[str, nn.Linear] = {}
    experts: dict[str, MoE] = {}
    for path, module in backbone.named_modules():
        if isinstance(module, nn.Linear):
            linears[path] = module
        if isinstance(module, MoE):
            experts |= {f"{path}.{part}": module for part in ("gate", "up", "down")}
    return linears, experts


def _places(
    backbone: Backbone, linears: dict[str, nn.Linear], experts: dict[str, MoE]
) -> dict[str, tuple[int, int, int]]:
    """Give block, input and output width of all that can be adapted, in the order of the network."""
    places = {}
    for path, _ in backbone.named_parameters():
        name = path.removesuffix(".weight")
        if name in linears:
            places[name] = (int(name.split(".")[1]), linears[name].in_features, linears[name].out_features)
        elif path in experts:
            n_out, n_in = getattr(experts[path], path.rpartition(".")[2]).shape[1:]
            places[path] = (int(path.split(".")[1]), n_in, n_out)
    return places


def _matching(name: str, linears: dict[str, nn.Linear], experts: dict[str, MoE]) -> dict[str, set[int] | None]:
    """Give the names of what ``name`` means, with the chosen experts, or None where there are none."""
    if name in ("mixers", "ffn"):
        pattern = _MIXER if name == "mixers" else _FFN
        return {path: None for path in linears if pattern.fullmatch(path.split(".", 2)[2])}
    if name == "router":
        return {path: None for path, module in linears.items() if isinstance(module, Router)}
    if match := _EXPERTS.fullmatch(name):
        return {path: _numbers(name, match["chosen"], moe) for path, moe in experts.items()}
    end = name.removesuffix(".weight")
    found: dict[str, set[int] | None] = {path: None for path in linears if f".{path}".endswith(f".{end}")}
    return found | {path: _numbers(name, None, moe) for path, moe in experts.items() if f".{path}".endswith(f".{name}")}


def _numbers(name: str, chosen: str | None, moe: MoE) -> set[int]:
    n_experts = len(moe.gate)
    numbers = set(range(n_experts)) if chosen is None else {int(number) for number in chosen.split(",")}
    if missing := sorted(number for number in numbers if number >= n_experts):
        raise AdapterError(
            f"adapter.targets: {name!r} names expert {', '.join(map(str, missing))}, and each layer has {n_experts}, "
            f"numbered 0 to {n_experts - 1}"
        )
    return numbers


def _what_there_is(linears: dict[str, nn.Linear], experts: dict[str, MoE]) -> str:
    groups = [name for name in _GROUPS if _matching(name, linears, {})]
    if experts:
        n_experts = len(next(iter(experts.values())).gate)
        groups += ["experts", f"experts:0,... (of 0 to {n_experts - 1})"]
    ends = sorted({path.rpartition(".")[2] for path in linears})
    return f"{', '.join(groups)}; or by the end of a name: {', '.join(ends)}"


def _nothing(name: str, backbone: Backbone, linears: dict[str, nn.Linear], experts: dict[str, MoE]) -> str:
    there = f"Here are {_what_there_is(linears, experts)}"
    others = [path for path, _ in [*backbone.named_parameters(), *backbone.named_modules()] if path]
    hit = next((path for path in others if f".{path}".endswith(f".{name}")), None)
    if hit and name not in _GROUPS:
        return (
            f"adapter.targets: {name!r} is {hit}, which can have no low-rank update: only linear layers and experts "
            f"can. {there}"
        )
    return f"adapter.targets: {name!r} matches nothing in this model ({backbone.config.pattern!r}). {there}"
