"""Which token of a padded batch stands for each base of its sequences, and the states of bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from umbel.errors import ConfigError
from umbel.model.pooling import FIRST_BASE_ID

FIRST_WORD_ID = 12
_FRAMING = (0, 1, 4)
_MASK, _UNKNOWN = 3, 6


@dataclass(frozen=True)
class Bases:
    """The bases of a batch's sequences, one after another; int64 ``(B, N)``, -1 where a row has no base.

    A row may begin with places that are no bases: bins are cut as if they were there.

    Attributes
    ----------
    token
        Column of the token that stands for the base; where several do (overlapping k-mers), of the last to begin.
    offset
        Place of the base in that token, from 0.
    """

    token: Tensor
    offset: Tensor

    @classmethod
    def padded(cls, tokens: Sequence[Tensor], offsets: Sequence[Tensor]) -> Bases:
        """Join the rows of a batch, ``(N_i,)`` each.

        Examples
        --------
        >>> Bases.padded([torch.tensor([1, 1]), torch.tensor([1])], [torch.tensor([0, 1]), torch.tensor([0])]).token
        tensor([[ 1,  1],
                [ 1, -1]])
        """
        return cls(*(pad_sequence(list(rows), batch_first=True, padding_value=-1) for rows in (tokens, offsets)))

    @property
    def exist(self) -> Tensor:
        """Mark what is a base and no padding, ``(B, N)`` bool."""
        return self.token >= 0

    def take(self, of_tokens: Tensor) -> Tensor:
        """Give each base what its token has, ``(B, T, ...)`` to ``(B, N, ...)``; what is no base gets zeros.

        Examples
        --------
        >>> bases = Bases(torch.tensor([[1, 1, -1]]), torch.tensor([[0, 1, -1]]))
        >>> bases.take(torch.tensor([[5.0, 7.0]]))
        tensor([[7., 7., 0.]])
        """
        return self._gathered(of_tokens, self.token)

    def take_slices(self, of_tokens: Tensor) -> Tensor:
        """Give each base the slice that belongs to its place in the token, ``(B, T, k, C)`` to ``(B, N, C)``."""
        places = torch.where(self.exist, self.token * of_tokens.shape[2] + self.offset, -1)
        return self._gathered(of_tokens.flatten(1, 2), places)

    def _gathered(self, values: Tensor, places: Tensor) -> Tensor:
        ones = (1,) * (values.ndim - 2)
        index = places.clamp(min=0).view(*places.shape, *ones).expand(*places.shape, *values.shape[2:])
        return values.gather(1, index).masked_fill(~self.exist.view(*places.shape, *ones), 0)


def to_device(inputs: Mapping[str, npt.NDArray[Any]], device: torch.device) -> dict[str, Tensor | Bases]:
    """Give what a model with a head takes, on a device, from the padded arrays of a batch.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.zeros((1, 2), np.int64)
    >>> inputs = {"input_ids": one, "token_of_base": one, "offset": one}
    >>> list(to_device(inputs, torch.device("cpu")))
    ['input_ids', 'bases']
    """
    tensors = {name: torch.from_numpy(array).to(device, non_blocking=True) for name, array in inputs.items()}
    if "token_of_base" not in tensors:
        return dict(tensors)
    bases = Bases(tensors.pop("token_of_base"), tensors.pop("offset"))
    return tensors | {"bases": bases}


def word_length(tokens: Mapping[str, Any] | None) -> int:
    """Give the bases in a k-mer; ``tokens`` is that of ``config.json``, and None is single nucleotides.

    Raises
    ------
    ConfigError
        If the tokens are learnt words.
    """
    if tokens is None:
        return 1
    if tokens.get("kind") != "kmer":
        raise ConfigError(
            "this model's tokens are learnt words (BPE), which have no fixed number of bases: a class per base needs "
            "a model of single nucleotides or k-mers. Whole sequences and bins work with learnt words"
        )
    return int(tokens["k"])


def find_bases(input_ids: Tensor, attention_mask: Tensor | None, tokens: Mapping[str, Any] | None) -> Bases:
    """Find the bases of one sequence a row, whose k-mers are as :class:`umbel.data.kmers.KmerTokens` makes them.

    Parameters
    ----------
    input_ids
        ``(B, T)``; ``[CLS]``, ``[SEP]`` and ``[PAD]`` stand for no bases.
    attention_mask
        ``(B, T)``, 0 at padding.
    tokens
        What ``config.json`` says of them.

    Raises
    ------
    ConfigError
        If the tokens are learnt words.
    ValueError
        At a token that stands for no known number of bases. A single nucleotide that is masked or unknown is one.

    Examples
    --------
    >>> ids = torch.tensor([[0, 33, 8, 1, 4], [0, 9, 11, 9, 1]])
    >>> bases = find_bases(ids, None, {"kind": "kmer", "k": 3, "overlapping": False})
    >>> bases.token.tolist(), bases.offset.tolist()
    ([[1, 1, 1, 2], [1, 2, 3, -1]], [[0, 1, 2, 0], [0, 0, 0, -1]])
    """
    if tokens is not None and tokens.get("kind") != "kmer":
        raise ConfigError("ids of learnt words (BPE) do not tell how many bases they stand for: give bases")
    k = word_length(tokens)
    first_ids = [FIRST_BASE_ID, FIRST_WORD_ID]
    for n in range(2, k + 1):
        first_ids.append(first_ids[-1] + 4**n)
    n_bases = torch.bucketize(input_ids, torch.tensor(first_ids, device=input_ids.device), right=True)
    framing = torch.isin(input_ids, torch.tensor(_FRAMING, device=input_ids.device))
    if attention_mask is not None:
        framing = framing | (attention_mask == 0)
    if k == 1:
        n_bases = torch.where((input_ids == _MASK) | (input_ids == _UNKNOWN), 1, n_bases)
    wrong = ~framing & ((n_bases == 0) | (n_bases > k))
    if bool(wrong.any()):
        row, place = wrong.nonzero()[0].tolist()
        raise ValueError(f"row {row}, token {place}: id {int(input_ids[row, place])} stands for no known bases")
    n_bases = n_bases.masked_fill(framing, 0)
    if tokens is not None and tokens.get("overlapping") and k > 1:
        # Of a word that is followed by the next one, only the first base has no later word.
        followed = torch.zeros_like(framing)
        followed[:, :-1] = (n_bases[:, :-1] == k) & (n_bases[:, 1:] == k)
        n_bases = n_bases.masked_fill(followed, 1)
    ends = n_bases.cumsum(1)
    totals = n_bases.sum(1)
    place = torch.arange(int(totals.max()) if len(totals) else 0, device=input_ids.device).expand(len(totals), -1)
    token = torch.searchsorted(ends, place.contiguous(), right=True)
    exists = place < totals[:, None]
    offset = place - (ends - n_bases).gather(1, token.clamp(max=max(0, input_ids.shape[1] - 1)))
    return Bases(token.masked_fill(~exists, -1), offset.masked_fill(~exists, -1))


def mean_in_bins(states: Tensor, counted: Tensor, bin_bp: int) -> Tensor:
    """Average states of bases over bins; zeros where a bin has nothing that counts.

    Parameters
    ----------
    states
        ``(B, N, D)``.
    counted
        ``(B, N)`` bool: the bases that count.
    bin_bp
        Bases in a bin; the last may be shorter.

    Returns
    -------
    ``(B, ceil(N / bin_bp), D)``.

    Examples
    --------
    >>> mean_in_bins(torch.tensor([[[1.0], [2.0], [9.0]]]), torch.tensor([[True, True, False]]), 2)[0, :, 0]
    tensor([1.5000, 0.0000])
    """
    rows, length, width = states.shape
    bins = -(-length // bin_bp)
    extra = bins * bin_bp - length
    states = torch.nn.functional.pad(states.masked_fill(~counted[:, :, None], 0), (0, 0, 0, extra))
    counts = torch.nn.functional.pad(counted, (0, extra)).view(rows, bins, bin_bp).sum(2)
    return states.view(rows, bins, bin_bp, width).sum(2) / counts.clamp(min=1)[:, :, None]
