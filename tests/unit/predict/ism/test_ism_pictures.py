"""The logo and its table: heights against scipy's entropy, letters as drawn, and pictures that are the same again."""

import numpy as np
import pytest
from scipy.stats import entropy

from umbel.genome.interval import Interval
from umbel.predict.ism import pictures
from umbel.predict.ism.pictures import draw, information_bits, letter_places, write_pictures
from umbel.predict.ism.result import IsmResult

matplotlib_image = pytest.importorskip("matplotlib.image", reason="pictures need umbel[tracks]")


def result_of(n, deletions=False, sharp=0.3, seed=0):
    rng = np.random.default_rng(seed)
    ref = rng.integers(0, 4, n).astype(np.uint8)
    logs = np.log(rng.dirichlet([sharp] * 4, n) + 1e-6).astype(np.float32)
    ref[2], logs[2] = 4, np.nan
    own = np.take_along_axis(logs, np.minimum(ref, 3).astype(int)[:, None], axis=1)
    llr, kinds = logs - own, ("A", "C", "G", "T")
    if deletions:
        llr, kinds = np.column_stack([llr, rng.normal(5, 1, n)]).astype(np.float32), (*kinds, "del")
    region = Interval("chr1", 1000, 1000 + n)
    return IsmResult(region, ref, kinds, llr, logs, {}, 1, 0, 0, 0, {})


def test_heights_are_information():
    result = result_of(50)
    bits = information_bits(result.log_probs)
    # The mean of two strands' logs does not add up to 1.
    np.testing.assert_allclose(information_bits(result.log_probs - 1), bits, atol=1e-5)
    for i, logs in enumerate(result.log_probs):
        if i == 2:
            assert (bits[i] == 0).all()
            continue
        p = np.exp(logs.astype(float)) / np.exp(logs.astype(float)).sum()
        np.testing.assert_allclose(bits[i], p * (2 - entropy(p, base=2)), atol=1e-9)


def test_letters_stand_on_each_other_the_highest_on_top():
    result = result_of(20)
    logo = draw(result).axes[0]
    bits = information_bits(result.log_probs)
    places = letter_places(bits, 0.006)
    for i in range(20):
        mine = [(bottom, height, base) for base, column, bottom, height in places if column == i]
        shown = np.sort(bits[i][bits[i] >= 0.006])
        np.testing.assert_allclose([height for _, height, _ in mine], shown)
        np.testing.assert_allclose([bottom for bottom, _, _ in mine], np.cumsum([0, *shown])[: len(shown)])
        assert all(bits[i, base] == height for _, height, base in mine)
    # A colour for each base, from the lowest of its letters to the highest.
    for base, patch in enumerate(logo.patches):
        box = patch.get_path().get_extents()
        mine = [(column, bottom, bottom + height) for b, column, bottom, height in places if b == base]
        assert box.y0 == pytest.approx(min(low for _, low, _ in mine), abs=1e-6)
        assert box.y1 == pytest.approx(max(high for _, _, high in mine), abs=1e-6)
        assert box.x0 == pytest.approx(min(column for column, _, _ in mine) + 0.04, abs=1e-6)


def test_the_axis_fits_what_is_known():
    weak = result_of(30)
    flat = IsmResult(**{**vars(weak), "log_probs": weak.log_probs * 0.01})
    assert draw(flat).axes[0].get_ylim() == (0, 0.25)
    assert draw(weak).axes[0].get_ylim() == (0, 2)


def test_rows_of_a_hundred_with_their_positions():
    figure = draw(result_of(250, deletions=True))
    logos, tables = figure.axes[0:6:2], figure.axes[1:6:2]
    assert [axes.get_xlim() for axes in logos] == [(0, 100), (0, 100), (0, 50)]
    ticks = [(label.get_position()[0], label.get_text()) for label in tables[1].get_xticklabels()]
    assert ticks[0] == (9.5, "1,110")
    letters = "".join(text.get_text() for text in tables[0].texts)
    assert letters == "".join("ACGTN"[base] for base in result_of(250).ref[:100])
    assert [label.get_text() for label in tables[0].get_yticklabels()] == ["A", "C", "G", "T", "del"]
    title = figure.texts[0].get_text()
    assert title.startswith("chr1:1001-1250 · letters: information")
    assert f"del: less the region's median, {np.median(result_of(250, deletions=True).llr[:, 4]):.2f}" in title


def test_a_long_region_is_drawn_in_part_and_says_so(monkeypatch):
    assert pictures.ROW_BP * pictures.MAX_ROWS == 2_000
    monkeypatch.setattr(pictures, "MAX_ROWS", 2)
    figure = draw(result_of(2_100))
    assert figure.texts[0].get_text().startswith("chr1:1001-3100, the first 200 bases of 2,100")
    assert len(figure.axes) == 2 * 2 + 1


def test_the_same_result_gives_the_same_bytes(tmp_path):
    first = write_pictures(result_of(30), tmp_path / "a")
    second = write_pictures(result_of(30), tmp_path / "b")
    for kind in ("png", "svg"):
        assert first[kind].read_bytes() == second[kind].read_bytes()
    image = matplotlib_image.imread(first["png"])
    assert (image[..., :3] < 0.9).any(axis=2).mean() > 0.05
    assert "<svg" in first["svg"].read_text()
