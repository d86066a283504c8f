"""What routers answered in the passes of a block of code: forward hooks, put on and always taken off again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.sites import FoundRouter

Leaf = Tensor | tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One call of a router.

    Attributes
    ----------
    output, inputs
        The tensors that it returned, and that it got, in order; a list of numbers is a tuple.
    given
        The tensors that the module with the experts got after it; empty where there is none, or it was not called.
    """

    output: tuple[Leaf, ...]
    inputs: tuple[Leaf, ...]
    given: tuple[Leaf, ...] = ()


class Recorder:
    """Keep every call of some routers while its ``with`` block runs.

    Nothing is copied: the tensors are those that the model computed, without their graph.

    Examples
    --------
    >>> block = nn.ModuleDict({"gate": nn.Linear(4, 2), "experts": nn.ModuleList(nn.Linear(4, 4) for _ in range(2))})
    >>> from umbel.evaluate.experts.hooked.sites import find_routers
    >>> with Recorder(find_routers(block)) as recorder:
    ...     _ = block["gate"](torch.zeros(3, 4))
    >>> [tuple(leaf.shape) for leaf in recorder.calls(0)[0].output]
    [(3, 2)]
    """

    def __init__(self, routers: Sequence[FoundRouter]):
        self._routers = tuple(routers)
        self._calls: list[list[Call]] = [[] for _ in self._routers]
        self._order: list[int] = []
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        try:
            for i, router in enumerate(self._routers):
                self._handles.append(router.module.register_forward_hook(self._keep(i), with_kwargs=True))
                if router.experts is not None:
                    hook = self._keep_given(i)
                    self._handles.append(router.experts.register_forward_pre_hook(hook, with_kwargs=True))
        except BaseException:
            self._take_off()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_off()

    def _take_off(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _keep(self, i: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self._calls[i].append(Call(leaves(output), leaves([*args, *kwargs.values()])))
            self._order.append(i)

        return hook

    def _keep_given(self, i: int) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # A container may be called in parts, after one call of its router: the first tells.
            if self._calls[i] and not self._calls[i][-1].given:
                last = self._calls[i][-1]
                self._calls[i][-1] = Call(last.output, last.inputs, leaves([*args, *kwargs.values()]))

        return hook

    @property
    def order(self) -> list[int]:
        """The routers that were called, each once, in the order of their first call."""
        return list(dict.fromkeys(self._order))

    def calls(self, i: int) -> list[Call]:
        """Every call of the ith router."""
        return self._calls[i]

    def single(self, i: int) -> Call | None:
        """Give the one call of the ith router in a pass, or None if it was not called.

        A call that is repeated with the same answer, as gradient checkpointing does, counts once.

        Raises
        ------
        ConfigError
            If it was called several times with different answers, as where layers share their weights.
        """
        calls = self._calls[i]
        if not calls:
            return None
        if any(not _same(calls[0].output, call.output) for call in calls[1:]):
            raise ConfigError(
                f"{self._routers[i].name} was called {len(calls)} times in one pass, with different answers, so it is "
                "not told which layer took which. Layers that share one router cannot be recorded"
            )
        return calls[0]

    def clear(self) -> None:
        """Forget all calls."""
        self._order.clear()
        for calls in self._calls:
            calls.clear()


def leaves(value: Any) -> tuple[Leaf, ...]:
    """Give the tensors of an answer in order; lists of whole numbers stay, all else is left out.

    Examples
    --------
    >>> [leaf if isinstance(leaf, tuple) else tuple(leaf.shape) for leaf in leaves((torch.ones(2), [3, 4], None, "a"))]
    [(2,), (3, 4)]
    """
    if isinstance(value, Tensor):
        return (value.detach(),)
    if isinstance(value, Mapping):
        value = list(value.values())
    elif is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in fields(value)]
    if not isinstance(value, list | tuple):
        return ()
    if value and all(isinstance(each, int) and not isinstance(each, bool) for each in value):
        return (tuple(value),)
    return tuple(leaf for each in value for leaf in leaves(each))


def _same(a: tuple[Leaf, ...], b: tuple[Leaf, ...]) -> bool:
    if len(a) != len(b):
        return False
    return all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x == y
        for x, y in zip(a, b, strict=True)
    )
