import numpy as np
import pytest

from umbel.predict.embed.read_ahead import read_ahead
from umbel.predict.embed.windows import Windows


def by_loop(length, window_bp, stride_bp, min_bases):
    """Windows of one sequence, one after another."""
    found = []
    for start in range(0, length, stride_bp):
        is_last = start + window_bp >= length or length - start - stride_bp < min_bases
        found.append((start, length if is_last else start + window_bp))
        if is_last:
            return found
    return found


@pytest.mark.parametrize("seed", range(20))
def test_windows_are_those_of_the_loop(seed):
    rng = np.random.default_rng(seed)
    window_bp = int(rng.integers(1, 30))
    stride_bp, min_bases = int(rng.integers(1, window_bp + 1)), int(rng.integers(1, window_bp + 1))
    lengths = rng.integers(min_bases, 100, 40)
    windows = Windows(lengths, window_bp, stride_bp, min_bases)
    wanted = [(i, *w) for i, n in enumerate(lengths) for w in by_loop(int(n), window_bp, stride_bp, min_bases)]
    cuts = windows.cuts(0, len(windows))
    assert list(zip(*(x.tolist() for x in (cuts.sequence, cuts.start, cuts.end)), strict=True)) == wanted
    assert windows.longest == max(end - start for _, start, end in wanted)
    first, last = sorted(rng.integers(0, len(wanted) + 5, 2).tolist())
    part = windows.cuts(first, last)
    assert list(zip(*(x.tolist() for x in (part.sequence, part.start, part.end)), strict=True)) == wanted[first:last]
    runs = [(int(part.sequence[run.start]), run.stop - run.start) for run in part.runs()]
    assert sum(n for _, n in runs) == len(part)
    assert len({sequence for sequence, _ in runs}) == len(runs)


def test_a_genome_of_17_gb_is_planned_without_a_list():
    windows = Windows([800_000_000] * 21, 512, 512)
    assert len(windows) == 21 * 1_562_500
    assert windows.cuts(20_000_000, 20_000_001).start.tolist() == [(20_000_000 % 1_562_500) * 512]
    assert len(Windows([], 4, 4)) == 0


def test_items_come_in_order_and_errors_in_their_turn():
    def items():
        yield from (1, 2, 3)
        raise ValueError("four is missing")

    ahead = read_ahead(items(), 2)
    assert [next(ahead) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(ValueError, match="four is missing"):
        next(ahead)


def test_what_nobody_takes_is_not_made():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    ahead = read_ahead(items(), 2)
    assert next(ahead) == 0
    ahead.close()
    assert len(made) <= 4
