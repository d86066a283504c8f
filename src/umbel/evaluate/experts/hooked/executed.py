"""How many tokens each expert really computed, where every expert is a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from umbel.evaluate.experts.hooked.sites import FoundRouter


class Executed:
    """Count the rows that each expert gets while a ``with`` block runs.

    Experts that share one tensor cannot be told apart in this way, and are left out.
    """

    def __init__(self, routers: Sequence[FoundRouter]):
        self._routers = tuple(routers)
        self._rows = [np.zeros(router.n_experts or 0, np.int64) for router in self._routers]
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for router, rows in zip(self._routers, self._rows, strict=True):
            for e, expert in enumerate(_modules(router)):
                self._handles.append(expert.register_forward_pre_hook(_count(rows, e)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def difference(self, i: int, chosen: np.ndarray, n_tokens: int) -> str:
        """Say how the ith router's experts ran on other rows than it chose; empty where they did not.

        Parameters
        ----------
        chosen
            ``(R, K)`` experts, -1 for none.
        n_tokens
            R; experts that all compute every token, of which the router then picks, are no difference.
        """
        rows = self._rows[i]
        if not rows.any() or (rows == n_tokens).all():
            return ""
        expected = np.bincount(chosen[chosen >= 0], minlength=len(rows))
        if (rows == expected).all():
            return ""
        return (
            f"it chose its experts for {expected.tolist()} tokens, and they computed {rows.tolist()}: this version of "
            "the model does not run what its router chooses, and the record is of the choice"
        )


def _modules(router: FoundRouter) -> list[nn.Module]:
    if not isinstance(router.experts, nn.ModuleList | nn.ModuleDict) or router.n_experts is None:
        return []
    return [child for child in router.experts.children() if next(child.parameters(), None) is not None]


def _count(rows: np.ndarray, e: int) -> Any:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            rows[e] += args[0].numel() // max(1, args[0].shape[-1])

    return hook
