"""Depthwise causal convolution with SiLU, along either direction of time; plain torch, any device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    r"""Convolve every channel with its own short filter that sees only the past, then apply SiLU.

    :math:`y_t = \mathrm{SiLU}(b + \sum_{k=0}^{W-1} w_k\, x_{t-(W-1-k)})`; with ``reverse`` the filter sees only
    the future, :math:`x_{t+(W-1-k)}`. Bases outside the sequence count as zero.

    Parameters
    ----------
    x
        Input, ``(B, L, I)``, channels last.
    weight
        Filters, ``(I, W)``; the last tap meets the present base.
    bias
        ``(I,)``.
    reverse
        Look at the future in place of the past.

    Returns
    -------
    ``(B, L, I)``.

    References
    ----------
    Gu and Dao 2023, "Mamba", arXiv:2312.00752, figure 3.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1)
    >>> causal_conv(x, torch.tensor([[2.0, 0.0]]), torch.zeros(1)).argmax().item()
    2
    >>> causal_conv(x, torch.tensor([[2.0, 0.0]]), torch.zeros(1), reverse=True).argmax().item()
    0
    """
    length, taps = x.shape[1], weight.shape[1]
    # Padding on both sides and cutting one off serves both directions without flipping the sequence.
    filters = (weight.flip(1) if reverse else weight)[:, None]
    y = F.conv1d(x.mT, filters, bias, padding=taps - 1, groups=x.shape[2])
    y = y[..., taps - 1 :] if reverse else y[..., :length]
    return F.silu(y.mT)
