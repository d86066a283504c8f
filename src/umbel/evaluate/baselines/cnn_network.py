"""A small convolutional network on one-hot bases, for whole sequences or for every base or bin of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from umbel.data.labelled.task import Task

WIDTH = 64
POOL_BP = 4
"""Neighbours of which only the largest goes on, in each of the first two layers (whole sequences)."""


class RealBatchNorm(nn.Module):
    """Batch normalisation whose statistics are of places inside sequences alone, so that padding changes nothing.

    References
    ----------
    Ioffe & Szegedy 2015, "Batch normalization", algorithm 2.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, momentum: float = 0.1, epsilon: float = 1e-5):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self._momentum, self._epsilon = momentum, epsilon

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` is ``(B, D, L)`` and ``mask`` ``(B, 1, L)``, 1 at places inside the sequence."""
        mean, variance = self.mean, self.variance
        if self.training:
            n = mask.sum().clamp(min=1)
            mean = (x * mask).sum((0, 2)) / n
            variance = ((x - mean[:, None]) ** 2 * mask).sum((0, 2)) / n
            with torch.no_grad():
                self.mean.lerp_(mean, self._momentum)
                self.variance.lerp_(variance, self._momentum)
        gain = self.scale * torch.rsqrt(variance + self._epsilon)
        return (x - mean[:, None]) * gain[:, None] + self.shift[:, None]


class Convolution(nn.Module):
    """Convolution, maximum of neighbours, batch norm, ReLU; what is no place inside is 0 before and after."""

    def __init__(self, d_in: int, d_out: int, kernel: int, *, pool: int = 1, dilation: int = 1, residual: bool = False):
        super().__init__()
        self.conv = nn.Conv1d(d_in, d_out, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False)
        self.norm = RealBatchNorm(d_out)
        self._pool, self._residual = pool, residual

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` is ``(B, D, L)`` and ``mask`` ``(B, 1, L)``; both come back ``ceil(L / pool)`` long."""
        y = self.conv(x)
        if self._pool > 1:
            y, mask = pooled_max(y, mask, self._pool)
        y = F.relu(self.norm(y, mask)) * mask
        return (x + y if self._residual else y), mask


def one_hot(codes: Tensor) -> Tensor:
    """``(B, L)`` base codes to float ``(B, 4, L)``; N (4) and padding (5) have no base.

    Examples
    --------
    >>> one_hot(torch.tensor([[2, 4]])).squeeze(0).T.tolist()
    [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    return F.one_hot(codes.long(), 6)[..., :4].transpose(1, 2).float()


def pooled_max(x: Tensor, mask: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Keep the largest of each ``size`` neighbours that are inside; the mask of the result has its own length."""
    short = -x.shape[-1] % size
    lowest = torch.finfo(x.dtype).min
    x = F.max_pool1d(F.pad(x.masked_fill(mask == 0, lowest), (0, short), value=lowest), size)
    mask = F.max_pool1d(F.pad(mask, (0, short)), size)
    return x * mask, mask


def pooled_mean(x: Tensor, mask: Tensor, size: int) -> Tensor:
    """Mean of each ``size`` neighbours over those that are inside; 0 where none is."""
    short = -x.shape[-1] % size
    sums = F.pad(x * mask, (0, short)).unflatten(-1, (-1, size)).sum(-1)
    counts = F.pad(mask, (0, short)).unflatten(-1, (-1, size)).sum(-1)
    return sums / counts.clamp(min=1)


class SequenceCnn(nn.Module):
    """Three convolutions with max-pooling between, mean and maximum over the sequence, and two dense layers."""

    def __init__(self, n_outputs: int, width: int = WIDTH):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                Convolution(4, width, 11, pool=POOL_BP),
                Convolution(width, width, 7, pool=POOL_BP),
                Convolution(width, 2 * width, 5),
            ]
        )
        self.head = nn.Sequential(nn.Linear(4 * width, width), nn.GELU(), nn.Linear(width, n_outputs))

    def forward(self, codes: Tensor, mask: Tensor) -> Tensor:
        """``(B, L)`` codes and ``(B, L)`` mask to ``(B, outputs)``."""
        x, mask = one_hot(codes), mask[:, None].float()
        for layer in self.layers:
            x, mask = layer(x, mask)
        largest, _ = pooled_max(x, mask, x.shape[-1])
        mean = pooled_mean(x, mask, x.shape[-1])
        return self.head(torch.cat([largest, mean], dim=1).squeeze(-1))


class PositionCnn(nn.Module):
    """A convolution and three dilated residual ones, which see 68 bases to either side, then each base or bin."""

    def __init__(self, n_outputs: int, bin_bp: int, width: int = WIDTH):
        super().__init__()
        self.bin_bp = bin_bp
        self.first = Convolution(4, width, 11)
        self.layers = nn.ModuleList(
            [Convolution(width, width, 7, dilation=dilation, residual=True) for dilation in (1, 4, 16)]
        )
        self.head = nn.Linear(width if bin_bp == 1 else 2 * width, n_outputs)

    def forward(self, codes: Tensor, mask: Tensor) -> Tensor:
        """``(B, L)`` codes and mask to ``(B, ceil(L / bin_bp), outputs)``."""
        mask = mask[:, None].float()
        x, _ = self.first(one_hot(codes), mask)
        for layer in self.layers:
            x, _ = layer(x, mask)
        if self.bin_bp > 1:
            largest, _ = pooled_max(x, mask, self.bin_bp)
            x = torch.cat([largest, pooled_mean(x, mask, self.bin_bp)], dim=1)
        return self.head(x.transpose(1, 2))


def new_network(task: Task, width: int = WIDTH) -> nn.Module:
    """Build the network of a task; its first weights come from torch's generator.

    Examples
    --------
    >>> network = new_network(Task("binary", ("0", "1")))
    >>> sum(parameter.numel() for parameter in network.parameters())
    89538
    """
    if task.is_along_sequence:
        return PositionCnn(task.n_outputs, task.bin_bp if task.kind == "bins" else 1, width)
    return SequenceCnn(task.n_outputs, width)
