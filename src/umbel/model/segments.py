"""Sequences that share rows: where each stands, and how a mixer gets each in a row of its own.

Shapes: B rows, L their length, S sequences, M the longest of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """The way from packed rows to sequences and back.

    What acts on single tokens works on packed rows; what mixes along a sequence gets :meth:`alone`, so nothing can
    pass from one sequence to another.

    Attributes
    ----------
    places
        ``(S, M)`` int64, the token, counted over all rows, at each place of each sequence; 0 beyond its end.
    spans
        ``(S, 2)`` int64: 0 and the sequence's length.
    back
        ``(B, L)`` int64, the place, counted over ``(S, M)``, of each token; 0 at padding.
    """

    places: Tensor
    spans: Tensor
    back: Tensor

    def alone(self, x: Tensor) -> Tensor:
        """Turn packed ``(B, L, D)`` into ``(S, M, D)``; beyond a sequence's end stands anything."""
        return x.flatten(0, 1)[self.places]

    def together(self, y: Tensor) -> Tensor:
        """Undo :meth:`alone`; at padding stands anything."""
        return y.flatten(0, 1)[self.back]


def find_segments(segment_ids: Tensor, real: Tensor | None) -> Segments:
    """Find the sequences: neighbours in a row that have one id and are no padding.

    Parameters
    ----------
    segment_ids
        ``(B, L)`` integers; only whether neighbours are equal counts.
    real
        ``(B, L)`` bool, False at padding; None: there is none.

    Examples
    --------
    >>> segments = find_segments(torch.tensor([[0, 0, 1], [5, 5, 5]]), None)
    >>> segments.spans[:, 1].tolist(), segments.places.tolist()
    ([2, 1, 3], [[0, 1, 0], [2, 0, 0], [3, 4, 5]])
    """
    real = torch.ones_like(segment_ids, dtype=torch.bool) if real is None else real
    begins = real.clone()
    begins[:, 1:] &= (segment_ids[:, 1:] != segment_ids[:, :-1]) | ~real[:, :-1]
    flat, place = real.flatten(), torch.arange(real.numel(), device=real.device)
    sequence = begins.flatten().cumsum(0) - 1
    firsts = place[begins.flatten()]
    lengths = torch.bincount(sequence[flat], minlength=len(firsts))
    if not len(firsts):  # nothing but padding: one sequence of no tokens, so that a mixer has a row to work on
        nothing = torch.zeros_like(segment_ids)
        return Segments(nothing[:1, :1], nothing.new_zeros(1, 2), nothing)
    longest = int(lengths.max())
    within = sequence[flat] * longest + place[flat] - firsts[sequence[flat]]
    places = place.new_zeros(len(firsts) * longest)
    places[within] = place[flat]
    back = torch.zeros_like(place)
    back[flat] = within
    spans = torch.stack([torch.zeros_like(lengths), lengths], 1)
    return Segments(places.view(len(firsts), longest), spans, back.view(real.shape))
