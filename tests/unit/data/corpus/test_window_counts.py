import numpy as np
import pytest

from umbel.data.corpus import window_counts
from umbel.data.corpus.window_counts import count_windows, find_gaps
from umbel.genome.sequence import decode, pack


@pytest.fixture(params=[1 << 24, 64, 62])
def piece_bp(request, monkeypatch):
    monkeypatch.setattr(window_counts, "PIECE_BP", request.param)
    return request.param


def planted(tmp_path, length, seed):
    """A packed contig behind another one, and its letters."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, length).astype(np.uint8)
    for start in rng.integers(0, length, 12):
        codes[start : start + rng.integers(1, 40)] = 4
    soft_mask = rng.random(length) < 0.3
    path = tmp_path / "a.nibbles"
    path.write_bytes(bytes(7) + pack(codes, soft_mask).tobytes())
    return path, decode(codes, soft_mask)


@pytest.mark.parametrize("length", [501, 640])
def test_windows_hold_what_counting_letters_says(tmp_path, piece_bp, length):
    path, text = planted(tmp_path, length, seed=length)
    starts = np.arange(3, length - 50, 29)
    spans = np.column_stack((starts, starts + 50))
    counts = np.concatenate([part for part, _ in count_windows(path, 7, spans)])
    for (start, end), row in zip(spans, counts, strict=True):
        piece = text[start:end]
        wanted = [piece.upper().count("N"), sum(map(str.islower, piece)), sum(x in "GC" for x in piece.upper())]
        assert row.tolist() == wanted


@pytest.mark.parametrize("min_bp", [1, 10, 30])
def test_gaps_are_the_runs_of_n_also_over_the_edges_of_pieces(tmp_path, piece_bp, min_bp):
    path, text = planted(tmp_path, 777, seed=min_bp)
    gaps, start = [], None
    for place, letter in enumerate(text.upper() + "A"):
        if letter == "N" and start is None:
            start = place
        if letter != "N" and start is not None:
            gaps.append([start, place])
            start = None
    assert find_gaps(path, 7, 777, min_bp).tolist() == [gap for gap in gaps if gap[1] - gap[0] >= min_bp]


def test_a_contig_without_gaps_has_none(tmp_path):
    path = tmp_path / "a.nibbles"
    path.write_bytes(pack(np.zeros(9, np.uint8), np.zeros(9, bool)).tobytes())
    assert find_gaps(path, 0, 9, 1).shape == (0, 2)
