"""Which optimiser moves which parameters: AdamW all of them, or Muon the matrices of layers and AdamW the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from umbel.config import OptimConfig
from umbel.train.muon import Muon

_NEVER_DECAYED = ("A_log", "conv_weight", "log_decay", "frequency", "residues")
_FUSED = ("cpu", "cuda")


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether weight decay acts on a parameter: on matrices only.

    Never on A_log, D and a HyenaLite filter's poles and residues (their zero is no neutral value), norms, biases,
    convolution filters or the embedding.

    Examples
    --------
    >>> is_decayed("layers.0.mixer.along.A_log", nn.Parameter(torch.zeros(2, 2)))
    False
    """
    last = name.rsplit(".", 1)[-1]
    return parameter.ndim >= 2 and last not in _NEVER_DECAYED and "embedding" not in name


def is_orthogonalised(name: str, parameter: nn.Parameter) -> bool:
    """Tell whether Muon moves a parameter, where it is asked for: a matrix that is decayed and stands in a layer.

    These are the projections of mixers and FFNs, each expert's matrices, and the router, as in the models that were
    trained so at scale, all of them with experts: they leave norms, biases, the embedding and the output head to AdamW.
    Here heads, that of span placement too, lie outside the layers.

    References
    ----------
    Liu et al. 2025, arXiv:2502.16982, section 2.2; GLM-4.5 Team 2025, arXiv:2508.06471.

    Examples
    --------
    >>> matrix = nn.Parameter(torch.zeros(4, 8))
    >>> is_orthogonalised("backbone.layers.1.ffn.router.weight", matrix), is_orthogonalised("head.weight", matrix)
    (True, False)
    """
    return is_decayed(name, parameter) and "layers" in name.split(".")


def make_optimizers(model: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """Make the optimisers of a run, one or two; the learning rate of their groups is set before every step.

    Parameters that take no gradient are left out. AdamW is torch's fused one on CPUs and CUDA. Parameters that are cut
    up over different processes (FSDP2, experts) are in groups of their own.

    Parameters
    ----------
    model
        After it was moved to its device and cut up, since the optimisers hold its parameters.
    config
        Its ``kind``, ``lr``, betas, ``eps``, ``weight_decay`` and ``muon_momentum`` are read.

    Returns
    -------
    ``[AdamW]``, or with ``kind="muon"`` ``[Muon, AdamW]``.

    References
    ----------
    Loshchilov and Hutter 2017, arXiv:1711.05101.

    Examples
    --------
    >>> model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 4)]), "head": nn.Linear(4, 2)})
    >>> [type(optimizer).__name__ for optimizer in make_optimizers(model, OptimConfig(kind="muon"))]
    ['Muon', 'AdamW']
    """
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    optimizers: list[torch.optim.Optimizer] = []
    if config.kind == "muon":
        matrices = [p for name, p in named if is_orthogonalised(name, p)]
        named = [(name, p) for name, p in named if not is_orthogonalised(name, p)]
        optimizers.append(Muon(matrices, config.lr, config.weight_decay, config.muon_momentum))
    decayed = [p for name, p in named if is_decayed(name, p)]
    free = [p for name, p in named if not is_decayed(name, p)]
    groups = [*_groups(decayed, config.weight_decay), *_groups(free, 0.0)]
    is_fused = all(p.device.type in _FUSED for _, p in named)
    betas = config.beta1, config.beta2
    return [*optimizers, torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, fused=is_fused)]


def _groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters by where they are cut up: one call of a fused kernel takes tensors of one kind."""
    by_mesh: dict[Any, list[nn.Parameter]] = {}
    for parameter in parameters:
        mesh = parameter.device_mesh if isinstance(parameter, DTensor) else None
        by_mesh.setdefault(mesh, []).append(parameter)
    return [{"params": ours, "weight_decay": weight_decay} for ours in by_mesh.values()]
