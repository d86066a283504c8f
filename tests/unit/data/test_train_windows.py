"""Windows by species: complete, without replacement, and as many of them as a pool holds."""

import dataclasses

import numpy as np
import pytest
from toys import SPECIES

from umbel.config import BalanceConfig
from umbel.data.train_windows import choose_windows
from umbel.errors import ConfigError, CorpusError


def test_every_train_window_is_there_under_its_species(species_corpus):
    corpus = species_corpus
    windows = choose_windows(corpus, BalanceConfig(), 0)
    assert sorted(windows.ids.tolist()) == corpus.window_ids("train").tolist()
    for species, found in enumerate(windows.species):
        ids = windows.of(species)
        assert (np.diff(ids) > 0).all() and len(ids) == windows.n_windows[species]
        assert (corpus.window_species(ids) == species).all()
        assert found.name == SPECIES[species]
        bases = sum((corpus.read_window(int(i))[0] < 4).sum() for i in ids)
        assert windows.n_bases[species] == windows.n_bases_there[species] == bases
    assert windows.chances == pytest.approx(windows.n_bases / windows.n_bases.sum())


def test_a_species_shows_each_window_once_an_epoch_in_an_order_of_its_own(species_corpus):
    corpus = species_corpus
    windows = choose_windows(corpus, BalanceConfig(), 3)
    orders = []
    for species, n in enumerate(windows.n_windows.tolist()):
        for epoch in (0, 1, 7):
            shown = [windows.drawn(species, epoch * n + place) for place in range(n)]
            assert sorted(shown) == windows.of(species).tolist()
            assert windows.order(species, epoch).dtype == np.int32
            orders.append(tuple(windows.order(species, epoch)))
    assert len(set(orders)) == 9
    again = choose_windows(corpus, BalanceConfig(), 3)
    assert [again.drawn(1, i) for i in (30, 2, 11)] == [windows.drawn(1, i) for i in (30, 2, 11)]


def test_the_largest_species_alone(species_corpus):
    corpus = species_corpus
    windows = choose_windows(corpus, BalanceConfig(n_species=1), 0)
    assert windows.n_windows[1:].tolist() == [0, 0]
    assert windows.of(0).tolist() == choose_windows(corpus, BalanceConfig(), 0).of(0).tolist()
    assert windows.chances.tolist() == [1, 0, 0]
    with pytest.raises(ConfigError, match=r"n_species asks for 4 species and 3 have"):
        choose_windows(corpus, BalanceConfig(n_species=4), 0)


def test_a_pool_has_whole_windows_and_about_the_bases_asked_for(species_corpus):
    corpus = species_corpus
    even = BalanceConfig(alpha=0, beta=0, pool_bp=3_000)
    windows = choose_windows(corpus, even, 0)
    assert set(windows.ids.tolist()) <= set(corpus.window_ids("train").tolist())
    assert len(set(windows.ids.tolist())) == len(windows.ids)
    assert (abs(windows.n_bases - 1_000) <= 128).all()
    assert windows.chances == pytest.approx([1 / 3] * 3)
    other = choose_windows(corpus, even, 1)
    assert windows.ids.tolist() != other.ids.tolist()
    assert windows.ids.tolist() == choose_windows(corpus, even, 0).ids.tolist()
    # The smaller species give all they have, and the first the rest.
    most = choose_windows(corpus, dataclasses.replace(even, pool_bp=9_000), 0)
    assert most.n_bases[1:].tolist() == most.n_bases_there[1:].tolist()
    assert abs(most.n_bases.sum() - 9_000) <= 128


@pytest.mark.parametrize("pool_bp", [1_150, 1_200, 3_456, 5_000])
def test_a_pool_of_odd_shares_is_within_a_window_of_what_was_asked(species_corpus, pool_bp):
    """Shares of one and a half windows each would add up to a third too few, were each rounded by itself."""
    windows = choose_windows(species_corpus, BalanceConfig(alpha=0, beta=0, pool_bp=pool_bp), 0)
    assert abs(windows.n_bases.sum() - pool_bp) <= 128
    assert (windows.n_windows >= 1).all()


def test_the_smallest_share_of_a_pool_is_one_window(species_corpus):
    windows = choose_windows(species_corpus, BalanceConfig(alpha=1, beta=3, pool_bp=3_000), 0)
    assert windows.chances.min() * 3_000 < 100
    assert windows.n_windows.min() == 1 and abs(windows.n_bases.sum() - 3_000) <= 128
    assert choose_windows(species_corpus, BalanceConfig(pool_bp=700), 0).n_windows.tolist() == [1, 1, 1]
    with pytest.raises(
        ConfigError, match=r"pool_bp asks for 30 bases, and one window of each species drawn makes \d+:"
    ):
        choose_windows(species_corpus, BalanceConfig(alpha=0, beta=0, pool_bp=30), 0)
    with pytest.raises(ConfigError, match=r"pool_bp asks for 50,000 different bases and the species drawn have 1\d,\d"):
        choose_windows(species_corpus, BalanceConfig(pool_bp=50_000), 0)


def test_bases_that_are_all_n_are_told(species_corpus):
    corpus = species_corpus

    class Blank(type(corpus)):
        def window_sizes(self, ids):
            lengths, n_bases = super().window_sizes(ids)
            return lengths, 0 * n_bases

    with pytest.raises(CorpusError, match="train windows hold nothing but N, so there is nothing to train on"):
        choose_windows(Blank(corpus.path, corpus.facts), BalanceConfig(), 0)
