"""Units never mix classes, and are clusters where there is room."""

import numpy as np
import pytest

from umbel.errors import ConfigError
from umbel.evaluate.experts.sources.units import make_units
from umbel.evaluate.experts.statistics.units import effective_units


@pytest.mark.parametrize("most", [3, 7, 20, 400])
def test_units_keep_clusters_whole_and_never_mix_classes(most):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 200))
        clusters, classes = rng.integers(0, 60, n), rng.choice(["a", "b", "c"], n, p=[0.9, 0.08, 0.02]).tolist()
        units = make_units(clusters, classes, most)
        pairs = list(zip(clusters.tolist(), classes, strict=True))
        assert 1 <= units.n_units <= most
        assert set(units.of_stretch.tolist()) == set(range(units.n_units))
        for unit in range(units.n_units):
            assert len({kind for (_, kind), own in zip(pairs, units.of_stretch, strict=True) if own == unit}) == 1
        for pair in set(pairs):
            assert len({int(own) for one, own in zip(pairs, units.of_stretch, strict=True) if one == pair}) == 1
        n_kinds = {c: len({kind for other, kind in pairs if other == c}) for c, _ in pairs}
        assert units.n_straddling == sum(number > 1 for number in n_kinds.values())
        assert units.is_joined == (len(set(pairs)) > most)
        if not units.is_joined:
            assert units.n_units == len(set(pairs))
        else:
            # As many as there may be, unless a class has too few clusters to use its share.
            assert units.n_units == most


def test_neighbours_are_put_together_in_equal_parts():
    units = make_units(range(1000), ["x"] * 1000, 400)
    sizes = np.bincount(units.of_stretch)
    assert (sizes.min(), sizes.max(), len(sizes)) == (2, 3, 400)
    assert (np.diff(units.of_stretch) >= 0).all()


def test_more_combinations_of_classes_than_units_are_refused():
    with pytest.raises(ConfigError, match="make 5 combinations of classes, and 4 units are the most"):
        make_units(range(5), list("abcde"), 4)


def test_the_effective_number_is_between_one_and_the_number_of_clusters():
    assert effective_units([7] * 9) == pytest.approx(9)
    assert effective_units([10**9, 1]) == pytest.approx(1)
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 50, 30)
    share = sizes / sizes.sum()
    # One over the chance that two draws are of the same cluster.
    assert effective_units(sizes) == pytest.approx(1 / (share**2).sum())
    assert 1 < effective_units(sizes) < 30
