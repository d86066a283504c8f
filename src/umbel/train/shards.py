"""Tensors that may be cut up over processes."""

from __future__ import annotations

from torch import Tensor
from torch.distributed.tensor import DTensor


def local_part(tensor: Tensor) -> Tensor:
    """Give what of a tensor lies in this process, sharing its memory: all of it, unless FSDP2 has cut it up.

    Examples
    --------
    >>> import torch
    >>> local_part(torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    plain = tensor.detach()
    return plain.to_local() if isinstance(plain, DTensor) else plain
