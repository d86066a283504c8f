"""Attention mixer: every token of a sequence sees every other; order comes in by rotary positions.

Shapes: B batch, L length, D width, H heads, P width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.ops.spans import live_positions


def rotary_table(length: int, width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    r"""Cosines and sines of the angles :math:`t\,b^{-2i/P}`, ``(L, P / 2)`` float32 each.

    Angles are taken in float64: at position 100,000 float32 is wrong by a hundredth of a radian.
    """
    rates = base ** (-torch.arange(0, width, 2, dtype=torch.float64, device=device) / width)
    angles = torch.arange(length, dtype=torch.float64, device=device)[:, None] * rates
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + P / 2) of each head, ``(B, H, L, P)``, by the angles of their positions.

    References
    ----------
    Su et al. 2021, "RoFormer", arXiv:2104.09864, eq. 34; pairs stand half a head apart, as in GPT-NeoX.

    Examples
    --------
    >>> cos, sin = rotary_table(6, 4, 1e4, torch.device("cpu"))
    >>> q, k = torch.randn(2, 1, 1, 1, 4)
    >>> at = lambda x, t: rotate(x, cos[t : t + 1], sin[t : t + 1])
    >>> torch.allclose((at(q, 3) * at(k, 1)).sum(), (at(q, 5) * at(k, 3)).sum(), atol=1e-5)
    True
    """
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Attention(nn.Module):
    """Bidirectional multi-head attention with rotary positions, without biases.

    References
    ----------
    HyenaMoE: "rotary, bidirectional"; Vaswani et al. 2017, arXiv:1706.03762, section 3.2.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_heads, self.base = config.n_heads, config.rope_base
        self.in_proj = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(self, x_BLD: Tensor, spans_B2: Tensor | None = None) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``; what lies outside ``spans_B2`` is padding, neither seen nor counted."""
        batch, length, width = x_BLD.shape
        mask = None
        if spans_B2 is not None:
            real = live_positions(spans_B2, length)
            # A weight of 0 does not stop a NaN.
            x_BLD = x_BLD.masked_fill(~real[:, :, None], 0)
            # A row without any sequence sees its padding, so that no softmax is over nothing.
            mask = (real | ~real.any(1, keepdim=True))[:, None, None, :]
        q, k, v = self.in_proj(x_BLD).view(batch, length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        cos, sin = rotary_table(length, width // self.n_heads, self.base, x_BLD.device)
        y = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=mask)
        return self.out_proj(y.transpose(1, 2).reshape(batch, length, width))
