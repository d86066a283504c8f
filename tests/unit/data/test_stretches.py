import numpy as np
import pytest

from umbel.data.bpe import FIXED, BpeTokens
from umbel.data.kmers import KmerTokens
from umbel.data.stretches import encode_contig, stretches

WORDS = BpeTokens([*FIXED, "AC", "ACG", "GT"], [("A", "C"), ("AC", "G"), ("G", "T")])


def contig(length, seed, n_frac):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, length).astype(np.uint8)
    codes[rng.random(length) < n_frac] = 4
    return codes


@pytest.mark.parametrize("tokens", [*(KmerTokens(k, o) for k in (1, 2, 3, 6) for o in (False, True)), WORDS])
@pytest.mark.parametrize("n_frac", [0.0, 0.01, 0.3, 1.0])
def test_stretches_give_the_tokens_of_the_whole_contig(tokens, n_frac, monkeypatch):
    from umbel.data import stretches as module

    rng = np.random.default_rng(0)
    about = 600 if tokens is WORDS else 30
    monkeypatch.setattr(module.stretches, "__defaults__", (about,))
    for seed in range(30):
        codes = contig(int(rng.integers(6, 6 * about)), seed, n_frac)
        ids, starts = encode_contig(tokens, codes)
        wanted = tokens.encode(codes)
        np.testing.assert_array_equal(ids, wanted.ids)
        np.testing.assert_array_equal(starts, wanted.starts)
        assert (ids.dtype, starts.dtype) == (np.int32, np.uint32)


def test_stretches_cover_every_base_once_and_none_is_short():
    for seed in range(20):
        codes = contig(1_000, seed, 0.05)
        found = list(stretches(codes, unit=6, shortest=6, about=40))
        assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])]
        assert found[-1][1] == 1_000
        assert all(6 <= b - a <= 60 for a, b in found)


def test_a_contig_shorter_than_a_token_is_refused():
    with pytest.raises(ValueError, match="2 bases is shorter than one 3-mer"):
        encode_contig(KmerTokens(3), np.zeros(2, np.uint8))
