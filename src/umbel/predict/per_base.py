"""From words to bases: what k-mers say about each hidden base, so that models of any k answer the same question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from umbel.data.kmers import Encoding
from umbel.genome.sequence import Codes, Mask


@dataclass(frozen=True)
class Reading:
    """From which token each hidden base is read; n hidden bases.

    Attributes
    ----------
    token
        ``(n,)`` index of the token in the framed sequence.
    length, place
        ``(n,)`` bases of that token, and which of them (from 0) the hidden base is.
    known
        ``(n, k)`` codes of the token's bases, -1 where hidden; beyond ``length`` without meaning.
    """

    token: np.ndarray
    length: np.ndarray
    place: np.ndarray
    known: np.ndarray

    def part(self, which: slice) -> Reading:
        """Take some of the hidden bases."""
        return Reading(self.token[which], self.length[which], self.place[which], self.known[which])


def joined(readings: Sequence[Reading]) -> Reading:
    """Put the hidden bases of several sequences one after another."""
    names = ("token", "length", "place", "known")
    return Reading(*(np.concatenate([getattr(reading, name) for reading in readings]) for name in names))


def read_hidden_bases(encoding: Encoding, codes: Codes, hidden: Mask, k: int) -> Reading:
    """Choose for each hidden base the token that stands for it.

    Of overlapping ones it is that in which the base is nearest to the middle; of two equally near, the earlier.

    Parameters
    ----------
    encoding, codes, hidden
        Of one sequence; ``codes`` and ``hidden`` are ``(L,)``.
    k
        Bases of the longest token.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> codes = np.array([0, 1, 2, 3, 0])
    >>> encoding = KmerTokens(3, overlapping=True).encode(codes)
    >>> read_hidden_bases(encoding, codes, codes == 0, 3).token.tolist()
    [1, 3]
    """
    bases = np.flatnonzero(hidden)
    starts, ends = encoding.starts[1:-1], encoding.ends[1:-1]
    first = np.searchsorted(ends, bases, side="right")
    last = np.searchsorted(starts, bases, side="right") - 1
    # Tokens that share a base begin one base after another, so the wished start tells the token.
    wished = bases - (ends - starts)[first] // 2
    chosen = first + np.clip(wished - starts[first], 0, last - first)
    length = (ends - starts)[chosen]
    around = np.minimum(starts[chosen][:, None] + np.arange(k), len(codes) - 1)
    known = np.where(hidden[around], -1, codes[around].astype(np.int64))
    return Reading(chosen + 1, length, bases - starts[chosen], known)


def base_log_probs(logits: Tensor, first_of_length: list[int], reading: Reading) -> np.ndarray:
    r"""Give natural-log probabilities of A, C, G, T at each hidden base.

    Over the words w of the token's own length n that agree with those of its bases that are not hidden, with
    logits z,

    .. math:: P(\text{base} = b) = \frac{\sum_{w: w_\text{place} = b} e^{z_w}}{\sum_w e^{z_w}}.

    Parameters
    ----------
    logits
        ``(n, V)`` of each hidden base's token.
    first_of_length
        Id of the first word of each length.

    Returns
    -------
    ``(n, 4)`` float32.
    """
    result = np.empty((len(logits), 4), np.float32)
    is_hidden = (reading.known < 0) & (np.arange(reading.known.shape[1]) < reading.length[:, None])
    counts = is_hidden.sum(1)
    for n, h in np.unique(np.stack([reading.length, counts]), axis=1).T.tolist():
        rows = np.flatnonzero((reading.length == n) & (counts == h))
        # Words count in base 4, the first base slowest.
        worth = 4 ** np.arange(n - 1, -1, -1)
        hidden = np.nonzero(is_hidden[rows, :n])[1].reshape(len(rows), h)
        visible = np.where(is_hidden[rows, :n], 0, reading.known[rows, :n]) @ worth
        letters = np.stack(np.unravel_index(np.arange(4**h), (4,) * h))
        words = first_of_length[n] + visible[:, None] + worth[hidden] @ letters
        agreeing = torch.from_numpy(words).to(logits.device)
        logs = logits[torch.from_numpy(rows).to(logits.device)].gather(1, agreeing).float().log_softmax(-1)
        slots = (hidden < reading.place[rows, None]).sum(1)
        for slot in np.unique(slots).tolist():
            here = np.flatnonzero(slots == slot)
            apart = logs[torch.from_numpy(here).to(logits.device)].view(len(here), 4**slot, 4, 4 ** (h - 1 - slot))
            result[rows[here]] = apart.logsumexp((1, 3)).cpu().numpy()
    return result
