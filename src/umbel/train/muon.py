"""Muon: momentum whose matrices are made orthogonal, each by itself, before they move the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from umbel.errors import ShapeError
from umbel.train.shards import local_part

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of the iteration X <- a X + (b A + c A A) X with A = X X^T."""
ITERATIONS = 5
ADAMW_RMS = 0.2
"""Root mean square of AdamW's usual update, in units of the learning rate; an update is scaled to have the same."""
_LEAST_NORM = 1e-7


def orthogonalise(matrices: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Bring the singular values of each matrix near 1, and keep its singular vectors.

    Each matrix is divided by its Frobenius norm, and then every singular value s goes through five rounds of
    a s + b s^3 + c s^5. What was above 0.002 ends between 0.68 and 1.21; a matrix of zeros stays one.

    Parameters
    ----------
    matrices
        ``(..., R, C)``, each matrix by itself.
    dtype
        What the products are computed in; None takes bfloat16 on a GPU and float32 elsewhere (CPUs emulate bfloat16).

    Returns
    -------
    The same shape and dtype as ``matrices``.

    References
    ----------
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.

    Examples
    --------
    >>> values = torch.linalg.svdvals(orthogonalise(torch.diag(torch.tensor([3.0, 2.0, 0.1]))))
    >>> bool((values > 0.68).all() and (values < 1.21).all())
    True
    """
    if dtype is None:
        dtype = torch.bfloat16 if matrices.device.type == "cuda" else torch.float32
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    wide = x.shape
    x = x.reshape(-1, *wide[-2:])
    x = (x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=_LEAST_NORM)).to(dtype)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.reshape(wide).to(matrices.dtype)
    return x.mT if is_tall else x


def _orthogonalise_everywhere(update: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Orthogonalise, and give what of the result lies in this process."""
    if not isinstance(update, DTensor):
        return orthogonalise(update, dtype)
    n_stacked = update.ndim - 2
    if all(p.is_replicate() or getattr(p, "dim", n_stacked) < n_stacked for p in update.placements):
        return orthogonalise(update.to_local(), dtype)
    # A part of a matrix says nothing about its singular values, so every process computes the whole.
    whole = orthogonalise(update.full_tensor(), dtype)
    mesh = update.device_mesh
    everywhere = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(placements=update.placements).to_local()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal matrix by matrix, with decoupled weight decay.

    With momentum m, gradient G and buffer B: ``B <- m B + (1 - m) G``, ``O = orthogonalise((1 - m) G + m B)``,
    ``W <- (1 - lr weight_decay) W - lr 0.2 sqrt(max(R, C)) O``. The scale gives an update the size of one of AdamW,
    so that both take the same learning rate and weight decay.

    Differs from :class:`torch.optim.Muon` in taking stacks of matrices, such as the weights of experts, and
    parameters that FSDP2 has cut up: an update whose matrices are cut is gathered, and each process computes all of it
    and keeps its part; stacks cut between matrices stay where they are.

    Parameters
    ----------
    params
        Parameters ``(..., R, C)``, or groups of them, as for any optimiser of torch.
    lr
        Learning rate.
    weight_decay
        Share, times the learning rate, by which weights shrink in a step.
    momentum
        In [0, 1).
    dtype
        Of the iteration; see :func:`orthogonalise`.

    Raises
    ------
    ShapeError
        If a parameter has fewer than two dimensions.

    References
    ----------
    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; Liu et al. 2025, "Muon is Scalable for LLM
    Training", arXiv:2502.16982, eq. 4.

    Examples
    --------
    >>> experts = torch.nn.Parameter(torch.zeros(4, 16, 9))
    >>> experts.grad = torch.randn(4, 16, 9)
    >>> Muon([experts], lr=0.1, weight_decay=0.0).step()
    >>> 0.8 < experts.square().mean().sqrt().item() / (0.1 * 0.2) < 1.2
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        # Not in the groups, which are saved: a run may go on where another one is fast.
        self._dtype = dtype

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to move; see the class."""
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if parameter.ndim < 2:
                raise ShapeError(
                    f"Muon moves matrices, and a parameter has shape {tuple(parameter.shape)}: give it to AdamW"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        local_part(buffer).lerp_(local_part(grad), 1 - group["momentum"])
        update = grad.lerp(buffer, group["momentum"])
        moved = _orthogonalise_everywhere(update, self._dtype)
        scale = ADAMW_RMS * math.sqrt(max(parameter.shape[-2:]))
        weights = local_part(parameter)
        weights.mul_(1 - group["lr"] * group["weight_decay"])
        weights.add_(moved, alpha=-group["lr"] * scale)
