"""HyenaLite mixer: a gated convolution as long as the sequence, whose filter is a sum of decaying oscillations.

Shapes: B batch, L length, D width, S poles, W taps of the short convolution.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from umbel.config import ModelConfig
from umbel.model.effective_weights import require_unwrapped
from umbel.ops import backends
from umbel.ops.long_conv import Backend, filter_of, long_conv, offered
from umbel.ops.spans import live_positions

LONGEST_MEMORY = 2048
"""Tokens over which the slowest pole of a new filter decays to 1/e."""


class LongFilter(nn.Module):
    r"""The poles and residues of :math:`h_d(t) = \mathrm{Re} \sum_k r_{dk} e^{\lambda_{dk} t}`.

    :math:`\mathrm{Re}\,\lambda = -e^a` with a learned a, so every filter decays, whatever is learned. A new one has
    memories spread evenly in logarithm from 1 to 2,048 tokens, each with up to two turns within its memory
    (the initial values are ours; the paper gives none).

    References
    ----------
    HyenaMoE, eq. 4.
    """

    def __init__(self, width: int, n_poles: int):
        super().__init__()
        self.log_decay = nn.Parameter(torch.empty(width, n_poles))
        self.frequency = nn.Parameter(torch.empty(width, n_poles))
        self.residues = nn.Parameter(torch.empty(width, n_poles, 2))
        self._kept: tuple[object, Tensor] | None = None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw memories, turns and residues; the filter's output varies about as much as its input."""
        memory = torch.exp(torch.rand_like(self.log_decay) * math.log(LONGEST_MEMORY))
        self.log_decay.copy_(-memory.log())
        self.frequency.copy_((4 * math.pi * torch.rand_like(memory) / memory).clamp(max=math.pi))
        self.residues.normal_().mul_((2 / (memory * memory.shape[1])).sqrt()[:, :, None])

    def poles(self) -> Tensor:
        """Give real and imaginary parts of lambda, ``(D, S, 2)``, in at least float32."""
        wide = torch.promote_types(self.log_decay.dtype, torch.float32)
        return torch.stack([-self.log_decay.to(wide).exp(), self.frequency.to(wide)], -1)

    def kept(self, length: int) -> Tensor | None:
        """Give the filter, ``(D, at least length)``, computed once as long as no weight changes.

        With gradients on there is none, and the one kept is dropped. Nor is there one under ``torch.compile``,
        which cannot see when weights change.
        """
        if torch.compiler.is_compiling():
            return None
        weights = (self.log_decay, self.frequency, self.residues)
        if torch.is_grad_enabled() or any(w.is_inference() for w in weights):
            self._kept = None
            return None
        key = tuple((w.data_ptr(), w._version, w.dtype) for w in weights)
        if self._kept is None or self._kept[0] != key or self._kept[1].shape[1] < length:
            self._kept = (key, filter_of(self.residues, self.poles(), length))
        return self._kept[1]

    def __getstate__(self) -> dict[str, object]:
        """Copy and pickle without the kept filter: its key names this object's memory."""
        return {**self.__dict__, "_kept": None}


@dataclass(frozen=True)
class HyenaState:
    """What a mixer remembers of the tokens before.

    Attributes
    ----------
    recent
        The last streams, ``(B, W - 1, 3D)``.
    filter
        The filter's poles, ``(B, D, S, 2)``.
    """

    recent: Tensor
    filter: Tensor


class HyenaLite(nn.Module):
    """Three streams x2, x1, v of one projection; ``x2 * (h conv (x1 v) + w_D x1 v)``, and a projection out.

    Causal as published. With ``hyena_bidirectional`` a second filter looks ahead (ours). With ``hyena_taps`` the
    streams first go through short convolutions that see the past, as in StripedHyena (the paper leaves it open).

    References
    ----------
    HyenaMoE, eq. 2-4; Poli et al. 2023, "StripedHyena", for the short convolution.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        width, self.taps = config.d_model, config.hyena_taps
        self.in_proj = nn.Linear(width, 3 * width, bias=False)
        self.out_proj = nn.Linear(width, width, bias=False)
        self.along = LongFilter(width, config.d_state)
        self.against = LongFilter(width, config.d_state) if config.hyena_bidirectional else None
        self.skip = nn.Parameter(torch.ones(width))
        if self.taps:
            self.conv_weight = nn.Parameter(torch.empty(self.taps, 3 * width))
            nn.init.uniform_(self.conv_weight, -(self.taps**-0.5), self.taps**-0.5)

    def forward(self, x_BLD: Tensor, spans_B2: Tensor | None = None) -> Tensor:
        """Map ``(B, L, D)`` to ``(B, L, D)``; what lies outside ``spans_B2`` is padding and enters no filter."""
        return self.out_proj(self.mix(self.in_proj(x_BLD), spans_B2, None)[0])

    def go_on(self, x_BLD: Tensor, state: HyenaState | None) -> tuple[Tensor, HyenaState]:
        """Map the next tokens of a stream, given the state after those before; None: they are the first.

        Raises
        ------
        ValueError
            If the mixer looks ahead: its stream has no end yet.
        """
        if self.against is not None:
            raise ValueError("a HyenaLite that looks ahead (hyena_bidirectional) cannot be streamed")
        y, state = self.mix(self.in_proj(x_BLD), None, state)
        return self.out_proj(y), state

    def keep_filter(self, length: int) -> None:
        """Compute the filter for up to ``length`` tokens now, where the convolution will take a kept one."""
        if backends.choose("long_conv", "auto", offered(self.skip, self.along.residues)) == "fft":
            self.along.kept(length)

    def mix(self, z: Tensor, spans: Tensor | None, state: HyenaState | None) -> tuple[Tensor, HyenaState]:
        """Filter and gate the streams ``z`` (B, L, 3D); give ``(B, L, D)`` and the state after them."""
        z, recent = self._short(z, spans, None if state is None else state.recent)
        before = None if state is None else state.filter
        y, after = self._long(z, self.along, self.skip, spans, before, reverse=False)
        if self.against is not None:
            y = y + self._long(z, self.against, torch.zeros_like(self.skip), spans, None, reverse=True)[0]
        return y, HyenaState(recent, after)

    def _long(
        self, z: Tensor, part: LongFilter, skip: Tensor, spans: Tensor | None, state: Tensor | None, *, reverse: bool
    ) -> tuple[Tensor, Tensor]:
        require_unwrapped(part, "a long filter")
        wide = torch.promote_types(part.residues.dtype, torch.float32)
        weights = part.residues.to(wide), part.poles(), skip.to(wide)
        backend = backends.choose("long_conv", "auto", offered(z, *weights))
        kept = part.kept(z.shape[1]) if backend == "fft" else None
        return long_conv(
            z, *weights, initial_state=state, spans=spans, reverse=reverse, filter=kept, backend=cast(Backend, backend)
        )

    def _short(self, z: Tensor, spans: Tensor | None, recent: Tensor | None) -> tuple[Tensor, Tensor]:
        if not self.taps:
            return z, z[:, :0]
        if spans is not None:
            z = z.masked_fill(~live_positions(spans, z.shape[1])[:, :, None], 0)
        if recent is None:
            recent = z.new_zeros(z.shape[0], self.taps - 1, z.shape[2])
        padded, length = torch.cat([recent, z], 1), z.shape[1]
        weight = self.conv_weight.to(z.dtype)
        mixed = sum(
            (padded[:, k : k + length] * weight[k] for k in range(1, self.taps)), padded[:, :length] * weight[0]
        )
        return mixed, padded[:, length:]
