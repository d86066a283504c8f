from itertools import pairwise

import numpy as np
import pytest

from umbel.errors import ConfigError
from umbel.predict.scan.windows import Tiling, stretches

TILINGS = [Tiling(10, 4), Tiling(10, 0), Tiling(7, 6), Tiling(64, 16, 8), Tiling(50, 13, 5), Tiling(9, 3, 4)]


@pytest.mark.parametrize("tiling", TILINGS)
def test_every_base_is_spoken_for_once_by_the_window_that_sees_most_around_it(tiling):
    for length in [*range(1, 40), 63, 64, 65, 200, 331]:
        windows = list(tiling.windows(length))
        assert len(windows) == tiling.n_windows(length)
        assert windows[0].start == windows[0].kept_start == 0 and windows[-1].end == windows[-1].kept_end == length
        assert all(a.kept_end == b.kept_start for a, b in pairwise(windows))
        assert all(a.start < b.start and b.start % tiling.grain_bp == 0 for a, b in pairwise(windows))
        for number, window in enumerate(windows):
            assert window.start <= window.kept_start < window.kept_end <= window.end
            assert window.end - window.start <= tiling.window_bp
            assert number in (len(windows) - 1,) or window.kept_end % tiling.grain_bp == 0
            # Half the overlap, less what rounding to the grain takes.
            margin = tiling.overlap_bp // 2 - tiling.grain_bp
            assert window.start == 0 or window.kept_start - window.start >= margin
            assert window.end == length or window.end - window.kept_end >= tiling.overlap_bp // 2
            for base in (window.kept_start, window.kept_end - 1):
                assert tiling.speaker(base, length) == number


def test_stretches_are_parts_of_the_same_groups_whatever_is_wanted():
    tiling = Tiling(20, 6)
    whole = stretches("a", 1_000, np.array([[0, 1_000]]), tiling, 100)
    assert sum(stretch.size for stretch in whole) == 1_000
    assert [stretch.number for stretch in whole] == list(range(len(whole)))
    windows_of = {stretch.number: stretch.windows for stretch in whole}
    assert sum(map(len, windows_of.values())) == tiling.n_windows(1_000)
    rng = np.random.default_rng(0)
    for _ in range(50):
        runs = np.sort(rng.choice(1_000, 6, replace=False)).reshape(3, 2)
        found = stretches("a", 1_000, runs, tiling, 100)
        wanted = np.zeros(1_000, bool)
        for stretch in found:
            for start, end in stretch.wanted:
                assert not wanted[start:end].any()
                wanted[start:end] = True
                assert any(w.kept_start <= start < w.kept_end for w in stretch.windows)
            assert set(stretch.windows) <= set(windows_of[stretch.number])
        expected = np.zeros(1_000, bool)
        for start, end in runs:
            expected[start:end] = True
        assert (wanted == expected).all()


def test_windows_that_do_not_move_on_are_refused():
    with pytest.raises(ConfigError, match="do not move on"):
        Tiling(10, 10)
    with pytest.raises(ConfigError, match="do not move on by 8 bp"):
        Tiling(16, 9, 8)
    with pytest.raises(ConfigError, match="give whole numbers above 0"):
        Tiling(0, 0)
