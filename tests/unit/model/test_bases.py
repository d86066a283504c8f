"""Bases found in token ids, against what the encoder says; means over bins against plain loops."""

import numpy as np
import pytest
import torch

from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe
from umbel.errors import ConfigError
from umbel.model.bases import Bases, find_bases, mean_in_bins

PAD = 4
ALL_TOKENS = [KmerTokens(1)] + [KmerTokens(k, overlapping) for k in (2, 3, 6) for overlapping in (False, True)]


def padded(rows, left, extra=0, fill=PAD):
    width = max(map(len, rows)) + extra
    ids, mask = np.full((len(rows), width), fill), np.zeros((len(rows), width), np.int64)
    for i, row in enumerate(rows):
        here = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, here], mask[i, here] = row, 1
    return torch.from_numpy(ids), torch.from_numpy(mask)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("tokens", ALL_TOKENS, ids=lambda t: f"{t.k}{'+' if t.overlapping else ''}")
def test_bases_are_those_of_the_encoder(tokens, left):
    draws = np.random.default_rng(tokens.k)
    sequences = [draws.choice(5, n, p=[0.23, 0.23, 0.23, 0.23, 0.08]) for n in (6, 7, 23, 60, 41)]
    sequences += [np.full(7, 4), np.array([0, 1, 2, 3, 0, 4, 4]), np.array([4, 0, 1, 2, 3, 0, 1])]
    encodings = [tokens.encode(sequence) for sequence in sequences]
    # A base under the mask: what the mask leaves out is no base.
    ids, mask = padded([encoding.ids for encoding in encodings], left, extra=3, fill=9)
    found = find_bases(ids, mask, describe(tokens))
    for row, (sequence, encoding) in enumerate(zip(sequences, encodings, strict=True)):
        n, shift = len(sequence), ids.shape[1] - len(encoding.ids) if left else 0
        token = encoding.token_of_base(n)
        assert found.exist[row].sum() == n
        assert found.token[row, :n].tolist() == (token + shift).tolist()
        assert found.offset[row, :n].tolist() == (np.arange(n) - encoding.starts[token]).tolist()
        assert found.token[row, n:].eq(-1).all()
        assert found.offset[row, n:].eq(-1).all()


def test_unknown_and_masked_single_nucleotides_are_bases():
    found = find_bases(torch.tensor([[0, 7, 3, 6, 11, 1]]), None, None)
    assert found.token.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(("token", "k"), [(3, 3), (6, 3), (5, 1), (92, 3), (12, 1)])
def test_a_token_of_unknown_length_is_refused(token, k):
    ids = torch.tensor([[0, 7, 1, 4], [0, 7, token, 1]])
    with pytest.raises(ValueError, match=f"row 1, token 2: id {token} stands for no known bases"):
        find_bases(ids, None, {"kind": "kmer", "k": k, "overlapping": False})


def test_learnt_words_need_their_bases():
    tokens = BpeTokens([*FIXED, "AC"], [("A", "C")])
    with pytest.raises(
        ConfigError, match=r"learnt words \(BPE\) do not tell how many bases they stand for: give bases"
    ):
        find_bases(torch.tensor([[0, 12, 1]]), None, describe(tokens))


def test_slices_and_states_by_loop():
    values = torch.randn(2, 5, 3, 4)
    bases = Bases(torch.tensor([[1, 1, 1, 3], [2, 4, -1, -1]]), torch.tensor([[0, 1, 2, 0], [2, 1, -1, -1]]))
    sliced, taken = bases.take_slices(values), bases.take(values[:, :, 0])
    for row in range(2):
        for base in range(4):
            token, offset = int(bases.token[row, base]), int(bases.offset[row, base])
            assert torch.equal(sliced[row, base], values[row, token, offset] if token >= 0 else torch.zeros(4))
            assert torch.equal(taken[row, base], values[row, token, 0] if token >= 0 else torch.zeros(4))


@pytest.mark.parametrize("bin_bp", [1, 3, 4, 50])
def test_means_in_bins_by_loop(bin_bp):
    states, counted = torch.randn(2, 11, 3), torch.rand(2, 11) > 0.4
    counted[1, 3:9] = False
    states[~counted] = torch.nan
    found = mean_in_bins(states, counted, bin_bp)
    assert found.shape == (2, -(-11 // bin_bp), 3)
    for row in range(2):
        for number in range(found.shape[1]):
            inside = [i for i in range(number * bin_bp, min(11, (number + 1) * bin_bp)) if counted[row, i]]
            wanted = sum((states[row, i] for i in inside), torch.zeros(3)) / max(1, len(inside))
            torch.testing.assert_close(found[row, number], wanted)
