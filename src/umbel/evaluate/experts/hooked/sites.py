"""The routers of a model that somebody else wrote: which of its modules they are, and how each was found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from umbel.errors import ConfigError

_LOOKS_LIKE_ONE = re.compile(r"rout|(^|[._])gat(e|ing)([._]|$)|(^|[._])(moe|experts?)([._]|$)", re.IGNORECASE)
_ROUTER_NAME = re.compile(r"rout|gat(e|ing)", re.IGNORECASE)
_MOST_NAMED = 12


@dataclass(frozen=True, eq=False)
class FoundRouter:
    """A module that decides which experts a token takes.

    Attributes
    ----------
    name
        As ``model.named_modules()`` calls it.
    module
        What is hooked.
    block
        The module that holds router and experts.
    experts
        The module beside it that holds the experts; None where it is not known.
    n_experts
        Experts that are in there; None where their shape does not tell.
    layer
        The first number in the name; 0 where it has none.
    stream
        ``encoder`` or ``decoder`` in a model that has both; else empty.
    n_shared
        Experts beside them that every token takes.
    how
        How it was found, in words.
    is_declared
        Whether a class declares it; else it has the shape of one.
    """

    name: str
    module: nn.Module
    block: nn.Module
    experts: nn.Module | None
    n_experts: int | None
    layer: int
    stream: str
    n_shared: int
    how: str
    is_declared: bool


def find_routers(model: nn.Module) -> tuple[FoundRouter, ...]:
    """Find every router of a model, by what its classes declare, and by shape.

    Classes of Hugging Face declare which of their modules report router logits (``_can_record_outputs``); each
    submodel's declaration is taken for its own modules. A module that was declared and holds another router is a
    block, of which only the router inside is taken. Beside a container of E experts for which nothing was declared, a
    router is a module with a weight ``(E, D)`` where these experts read D numbers.

    Returns
    -------
    In the order in which the model lists its modules, which need not be that of its computation.

    Raises
    ------
    ConfigError
        If there is none; it names the modules that looked like one, or says that nothing did.

    Examples
    --------
    >>> block = nn.ModuleDict({"router": nn.Linear(8, 4), "experts": nn.ModuleList(nn.Linear(8, 8) for _ in range(4))})
    >>> [(found.name, found.n_experts, found.how) for found in find_routers(nn.ModuleDict({"3": block}))]
    [('3.router', 4, 'its weight (4, 8) stands beside 4 experts in 3.experts')]
    """
    modules = dict(model.named_modules())
    declared = dict(_declared(model, "", []))
    shaped = {name: how for parent, module in modules.items() for name, how in _by_shape(parent, module)}
    how = {name: f"declared by {by}" for name, by in declared.items()}
    # A family may declare one kind of its routers and forget another; but one container of experts has one router.
    served = {name.rpartition(".")[0] for name in declared}
    for name, words in shaped.items():
        if name.rpartition(".")[0] not in served:
            how.setdefault(name, words)
    blocks = {one for one in how for other in how if other != one and other.startswith(f"{one}.")}
    names = [name for name in modules if name in how and name not in blocks]
    if not names:
        raise ConfigError(_none_found(modules))
    paths = [name.split(".") for name in names]
    has_both = all(any(part in path for path in paths) for part in ("encoder", "decoder"))
    return tuple(_found(modules, name, how[name], name in declared, has_both) for name in names)


def _declared(module: nn.Module, name: str, targets: list[tuple[str, Any]]) -> Iterator[tuple[str, str]]:
    """Walk as transformers does: within a submodel its own declaration counts, and no other."""
    if isinstance(module, PreTrainedModel):
        targets = [(type(module).__name__, target) for target in _targets(module)]
    for by, target in targets:
        kind = getattr(target, "target_class", target)
        place = getattr(target, "layer_name", None)
        if isinstance(kind, type) and isinstance(module, kind):
            if place is None or f".{place.strip('.')}." in f".{name}.":
                yield name, by
        elif isinstance(ending := getattr(target, "class_name", target), str) and name.endswith(ending):
            yield name, by
    for child_name, child in module.named_children():
        yield from _declared(child, f"{name}.{child_name}" if name else child_name, targets)


def _targets(model: PreTrainedModel) -> list[Any]:
    told = getattr(type(model), "_can_record_outputs", None) or {}
    values = [value for key, value in told.items() if "router" in key]
    return [target for value in values for target in (value if isinstance(value, list) else [value])]


def _by_shape(parent: str, module: nn.Module) -> Iterator[tuple[str, str]]:
    children = dict(module.named_children())
    place = f"{parent}." if parent else ""
    # The experts are a part of the block, or tensors of its own.
    for container, held in [*children.items(), ("", module)]:
        shape = _experts_shape(held) if container or not isinstance(held, nn.ModuleList | nn.ModuleDict) else None
        if shape is None:
            continue
        n_experts, dims = shape
        routers = []
        for name, child in children.items():
            # Of a block with tensors of its own the shape says less, so there the name counts too.
            is_out = name == container or not (container or _ROUTER_NAME.search(name))
            weight = None if is_out else _router_weight(child, n_experts, dims)
            if weight is not None:
                size = sum(parameter.numel() for parameter in child.parameters())
                routers.append((not _ROUTER_NAME.search(name), size, name, weight))
        if routers:
            *_, name, weight = min(routers)
            where = f"{place}{container}".rstrip(".")
            yield f"{place}{name}", f"its weight {weight} stands beside {n_experts} experts in {where}"


def _unwrapped(module: nn.Module) -> nn.Module:
    # Adapters keep what they wrap under this name.
    while isinstance(inner := getattr(module, "base_layer", None), nn.Module):
        module = inner
    return module


def _experts_shape(module: nn.Module) -> tuple[int, set[int]] | None:
    """Tell how many experts a module holds, and the sizes among which is that of their input."""
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        each = [child for child in module.children() if next(child.parameters(), None) is not None]
        if len(each) < 2 or len({type(one) for one in each}) > 1:
            return None
        # A stack of layers is none, whatever stands beside it.
        if any(_experts_shape(part) for part in each[0].modules() if part is not each[0]):
            return None
        sizes = {size for parameter in each[0].parameters() for size in parameter.shape if parameter.ndim >= 2}
        return (len(each), sizes) if sizes else None
    inner = _unwrapped(module)
    if isinstance(inner, nn.modules.conv._ConvNd):
        return None
    stacks = [p.shape for p in inner.parameters(recurse=False) if p.ndim == 3 and min(p.shape) > 1]
    if not stacks or len({shape[0] for shape in stacks}) > 1:
        return None
    return stacks[0][0], {size for shape in stacks for size in shape[1:]}


def _router_weight(module: nn.Module, n_experts: int, dims: set[int]) -> tuple[int, int] | None:
    for parameter in _unwrapped(module).parameters():
        if parameter.ndim == 2 and parameter.shape[0] == n_experts and parameter.shape[1] in dims:
            return int(parameter.shape[0]), int(parameter.shape[1])
    return None


def _found(modules: dict[str, nn.Module], name: str, how: str, is_declared: bool, has_both: bool) -> FoundRouter:
    path = name.split(".")
    block_name = ".".join(path[:-1])
    # What an adapter put around the router is no block.
    while block_name and getattr(modules[block_name], "base_layer", None) is not None:
        block_name = block_name.rpartition(".")[0]
    block = modules[block_name]
    experts, n_experts = _experts_beside(block, modules[name])
    number = next((int(part) for part in path if part.isdigit()), 0)
    stream = next((part for part in path if part in ("encoder", "decoder")), "") if has_both else ""
    around = modules[block_name.rpartition(".")[0]] if block_name else block
    n_shared = _shared(block, around)
    return FoundRouter(name, modules[name], block, experts, n_experts, number, stream, n_shared, how, is_declared)


def _experts_beside(block: nn.Module, router: nn.Module) -> tuple[nn.Module | None, int | None]:
    named = None
    for name, child in block.named_children():
        if child is router or "shared" in name:
            continue
        shape = _experts_shape(child)
        if shape is not None and _router_weight(router, *shape):
            return child, shape[0]
        if "expert" in name:
            named = child
    shape = _experts_shape(block if named is None else named)
    return named, None if shape is None else shape[0]


def _shared(block: nn.Module, around: nn.Module) -> int:
    """Count the experts that every token takes; several in one module are told apart by the configuration alone."""
    for place in (block, around):
        for name, child in place.named_children():
            weights = [p for p in child.parameters() if p.ndim == 2 and min(p.shape) > 1]
            if "shared" in name and weights:
                config = getattr(place, "config", None) or getattr(child, "config", None)
                return _told_shared(config)
    return 0


def _told_shared(config: Any) -> int:
    told = vars(config) if config is not None else {}
    counts = [value for key, value in told.items() if re.search(r"n(um)?_shared_experts?$", key)]
    return next((value for value in counts if isinstance(value, int) and value > 0), 1)


def _none_found(modules: dict[str, nn.Module]) -> str:
    named = [name for name in modules if _LOOKS_LIKE_ONE.search(name)]
    if not named:
        return (
            "no router was found: no class declares one, and no module's weight or name looks like one. "
            "Is this a model with experts?"
        )
    some = ", ".join(named[:_MOST_NAMED]) + (
        f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    )
    return (
        f"no router was found. By their names these modules look like parts of one: {some}; but no class declares "
        "them, and none has a weight (E, D) beside a container of E experts that read D numbers"
    )
