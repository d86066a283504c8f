"""The long convolution by Fourier transforms, in plain torch, any device: the whole length at once."""

from __future__ import annotations

import torch
from torch import Tensor

from umbel.ops.long_conv import modes
from umbel.ops.spans import live_positions


def _fast_size(least: int) -> int:
    """Give the smallest of 2**k, 3 * 2**k and 5 * 2**k that is not less: transforms of these sizes are fast."""
    sizes = []
    for size in (2, 3, 5):
        while size < least:
            size *= 2
        sizes.append(size)
    return min(sizes)


def convolve(
    z: Tensor,
    residues: Tensor,
    poles: Tensor,
    skip: Tensor,
    initial: Tensor | None,
    spans: Tensor | None,
    reverse: bool,
    cached: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Convolve as :func:`umbel.ops.long_conv.reference.convolve` does, with the same shapes.

    ``cached`` is a filter (D, L or more) to take in place of one made here. Memory is some multiples of B L D.
    """
    length = z.shape[1]
    if spans is not None:
        z = torch.where(live_positions(spans, length)[..., None], z, z.new_zeros(()))
    x2, x1, v = z.chunk(3, -1)
    u = x1 * v
    h = modes.responses(residues, poles, length) if cached is None else cached[:, :length]
    # Twice the length, so that the end of the filter never meets the beginning of the sequence again.
    size = _fast_size(2 * length)
    spectrum = torch.fft.rfft(h, n=size)
    # The conjugate spectrum is the filter turned round: it looks at the future.
    spectrum = spectrum.conj() if reverse else spectrum
    mixed = torch.fft.irfft(torch.fft.rfft(u.transpose(1, 2).contiguous(), n=size) * spectrum, n=size)
    total = mixed[..., :length].transpose(1, 2) + skip * u
    if initial is not None:
        ringing = modes.responses(modes.next_residues(residues, poles, initial), poles, length).transpose(1, 2)
        total = total + modes.placed(ringing, spans, reverse)
    return x2 * total, modes.last_states(u, poles, initial, spans, reverse)
