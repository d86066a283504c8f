"""Which weights moved between two checkpoints, and how far: the router, each expert, or what stands around them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from umbel.errors import ConfigError
from umbel.evaluate.experts.routes import Site

GROUPS = ("router", "experts", "shared experts", "dense FFN", "mixer", "embedding", "norms", "other")

_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|blocks|h)\.(\d+)\.")
_EXPERT = re.compile(r"(?:^|\.)experts\.(\d+)\.")
_MIXERS = ("mixer", "attn", "attention", "self_attn", "mamba", "linear_attn", "conv", "hyena")
_FFNS = ("ffn", "mlp", "feed_forward", "block_sparse_moe")
# Our experts lie in three tensors, one row of matrices each.
_STACKED = ("gate", "up", "down", "gate_up_proj", "down_proj", "gate_proj", "up_proj")

Key = tuple[str, int | None, int | None]


@dataclass
class Change:
    """Sums over the weights of a group, from which its drift follows."""

    n: int = 0
    n_moved: int = 0
    before: float = 0.0
    after: float = 0.0
    product: float = 0.0
    difference: float = 0.0

    def add(self, a: Tensor, b: Tensor) -> None:
        """Take in a tensor as it was and as it is."""
        one, other = a.detach().cpu(), b.detach().cpu()
        self.n += one.numel()
        self.n_moved += int((one != other).sum())
        x, y = one.double().flatten(), other.double().flatten()
        self.before += float(x @ x)
        self.after += float(y @ y)
        self.product += float(x @ y)
        self.difference += float((y - x) @ (y - x))

    def row(self) -> dict[str, Any]:
        """Say it: ``n_parameters``, ``relative_change``, ``cosine``, ``moved_share``, ``is_frozen``."""
        norms = math.sqrt(self.before) * math.sqrt(self.after)
        return {
            "n_parameters": self.n,
            "relative_change": math.sqrt(self.difference / self.before) if self.before else None,
            "cosine": min(1.0, max(-1.0, self.product / norms)) if norms else None,
            "moved_share": self.n_moved / self.n,
            "is_frozen": self.n_moved == 0,
        }


def group_of(name: str, n_dims: int, sites: Sequence[Site] = ()) -> tuple[str, int | None]:
    """Tell to which of :data:`GROUPS` a weight belongs, and in which layer it is.

    Parameters
    ----------
    n_dims
        Of the tensor: several matrices in one are the experts of a layer.
    sites
        Routers of the model, whose modules are known by name.

    Examples
    --------
    >>> group_of("layers.3.ffn.router.weight", 2), group_of("layers.3.ffn.up", 3)
    (('router', 3), ('experts', 3))
    >>> group_of("layers.2.mixer_norm.weight", 1), group_of("layers.0.ffn.up.weight", 2)
    (('norms', 2), ('dense FFN', 0))
    """
    found = _LAYER.search(name)
    layer = int(found[1]) if found else None
    parts = name.split(".")
    if "router" in parts or any(name.startswith(f"{site.name}.") for site in sites if site.name):
        return "router", layer
    if any("norm" in part for part in parts):
        return "norms", layer
    if any("embed" in part for part in parts):
        return "embedding", layer
    if any("shared" in part for part in parts):
        return "shared experts", layer
    if "experts" in parts or (n_dims == 3 and parts[-1] in _STACKED):
        return "experts", layer
    if any(part in _MIXERS for part in parts):
        return "mixer", layer
    return ("dense FFN" if any(part in _FFNS for part in parts) else "other"), layer


def drift_rows(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], sites: Sequence[Site] = ()
) -> list[dict[str, Any]]:
    r"""One row for each group of weights, for each group in each layer, and for each expert.

    ``relative_change`` is :math:`\|b - a\| / \|a\|` in Frobenius norms, ``cosine`` that of the two as vectors,
    ``moved_share`` the share of numbers that are not exactly what they were: a group of which none moved was frozen.
    ``layer`` and ``expert`` are None in rows over all of them.

    Parameters
    ----------
    before, after
        Effective weights by name: with adapters added, so that what they do is counted where they do it.

    Raises
    ------
    ConfigError
        If the two are networks of other shapes, which have no difference, or an adapter is still apart.

    Examples
    --------
    >>> import torch
    >>> a = {"layers.0.ffn.router.weight": torch.tensor([[3.0, 4.0]]), "norm.weight": torch.ones(2)}
    >>> b = a | {"layers.0.ffn.router.weight": torch.tensor([[3.0, 3.0]])}
    >>> [(r["group"], r["relative_change"], r["moved_share"]) for r in drift_rows(a, b) if r["layer"] is None]
    [('router', 0.2, 0.5), ('norms', 0.0, 0.0)]
    """
    _require_same(before, after)
    changes: dict[Key, Change] = {}
    for name, a in before.items():
        group, layer = group_of(name, a.dim(), sites)
        for expert, one, other in _experts(name, group, a, after[name]):
            places: list[Key] = [(group, None, None), (group, layer, None)]
            if expert is not None:
                places.append((group, layer, expert))
            for place in dict.fromkeys(places):
                changes.setdefault(place, Change()).add(one, other)
    order = sorted(changes, key=lambda key: (GROUPS.index(key[0]), *(-1 if x is None else x for x in key[1:])))
    return [
        {"group": group, "layer": layer, "expert": expert} | changes[group, layer, expert].row()
        for group, layer, expert in order
    ]


def _experts(name: str, group: str, a: Tensor, b: Tensor) -> Iterator[tuple[int | None, Tensor, Tensor]]:
    """Take a tensor apart by expert, where it has several."""
    found = _EXPERT.search(name)
    if group == "experts" and found:
        yield int(found[1]), a, b
    elif group == "experts" and a.dim() >= 2:
        for expert in range(len(a)):
            yield expert, a[expert], b[expert]
    else:
        yield None, a, b


def _require_same(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
    apart = next((name for name in (*before, *after) if ".base_layer." in name or "lora_" in name), None)
    if apart is not None:
        raise ConfigError(f"{apart}: an adapter stands apart from its weights: merge it (umbel.model.adapters.merge)")
    one, other = ({name: tuple(x.shape) for name, x in weights.items()} for weights in (before, after))
    if one != other:
        wrong = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        name = wrong[0]
        raise ConfigError(
            f"networks of other shapes have no difference: {len(wrong)} weights do not fit, such as {name} "
            f"{one.get(name, 'missing')} and {other.get(name, 'missing')}"
        )
