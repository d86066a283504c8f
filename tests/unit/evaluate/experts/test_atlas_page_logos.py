import math
import re
from itertools import pairwise

import numpy as np
import pytest
from atlas_fakes import small_atlas
from html_tree import read_html

from umbel.errors import RunError
from umbel.evaluate.experts.atlas import SCHEMAS, Atlas, make_table
from umbel.evaluate.experts.page import render_atlas
from umbel.evaluate.experts.page.logo import MIN_BASES, letter_outlines, logos, relative_bits
from umbel.evaluate.experts.page.views import site_views


def plain_bits(rows, site, expert):
    """Heights of an expert's letters by loops over the table: offset to base to bits."""
    found = {}
    for offset in range(-10, 11):
        mine, everyone = dict.fromkeys("ACGT", 0), dict.fromkeys("ACGT", 0)
        for row in rows:
            if row["site"] == site and row["offset"] == offset:
                everyone[row["base"]] += row["n"]
                if row["expert"] == expert:
                    mine[row["base"]] += row["n"]
        n = sum(mine.values())
        information = -3 / (2 * n * math.log(2))
        for base in "ACGT":
            if mine[base]:
                p, q = mine[base] / n, everyone[base] / sum(everyone.values())
                information += p * math.log2(p / q)
        found[offset] = {base: mine[base] / n * max(information, 0.0) for base in "ACGT"}
    return found


def drawn_letters(svg):
    """Letters of a logo: base, column, foot and height, in units of the axis."""
    tops = [float(text.text) for text in svg.all("text", "end")]
    grid = [float(re.match(r"M[\d.]+ ([\d.]+)", path.attributes["d"])[1]) for path in svg.all("path", "grid")]
    per_bit = (grid[0] - grid[2]) / tops[2]
    found = []
    for use in svg.all("use"):
        a, _, _, d, x, y = map(float, re.findall(r"-?[\d.]+", use.attributes["transform"]))
        column = (x - 0.6 - 40) / 20
        found.append((use.attributes["href"][-1], round(column), (grid[0] - y) / per_bit, d / per_bit, a))
    return found, tops[2], per_bit


@pytest.fixture(scope="module")
def atlas():
    return small_atlas()


@pytest.fixture(scope="module")
def page(atlas):
    return read_html(render_atlas(atlas))


@pytest.mark.parametrize(("site", "expert"), [(0, 0), (0, 3), (1, 1), (1, 2)])
def test_heights_of_letters_follow_the_definition(atlas, page, site, expert):
    wanted = plain_bits(atlas.rows("logos"), site, expert)
    card = next(c for c in page.one("section", id=f"site-{site}").all("article") if f"Expert {expert}" in c.words())
    letters, top, per_bit = drawn_letters(card.one("svg", "logo"))
    shown = {(base, column): height for base, column, _, height, _ in letters}
    for offset, bits in wanted.items():
        for base, height in bits.items():
            if height >= 0.004 * top:
                assert shown.pop((base, offset + 10)) == pytest.approx(height, abs=0.06 / per_bit)
    assert not shown
    for column in range(21):
        stack = sorted((foot, height) for _, c, foot, height, _ in letters if c == column)
        for (foot, height), (above, taller) in pairwise(stack):
            assert above == pytest.approx(foot + height, abs=0.2 / per_bit) and taller >= height - 0.1 / per_bit
    around = sum(sum(bits.values()) for offset, bits in wanted.items() if offset)
    assert f"{sum(wanted[0].values()):.3f} at the base itself, {around:.3f} around it; 4,000 bases" in card.words()


def test_logos_of_a_layer_share_a_scale_that_holds_the_highest(atlas, page):
    for site in (0, 1):
        tops = {drawn_letters(svg)[1] for svg in page.one("section", id=f"site-{site}").all("svg", "logo")}
        experts = {row["expert"] for row in atlas.rows("logos") if row["site"] == site}
        columns = [sum(bits.values()) for e in experts for bits in plain_bits(atlas.rows("logos"), site, e).values()]
        assert len(tops) == 1 and max(columns) <= min(tops) <= 2.5 * max(columns)


def test_letters_fill_their_boxes():
    for letter, outline in zip("ACGT", letter_outlines(), strict=True):
        numbers = [float(n) for n in re.findall(r"-?\d*\.?\d+", outline)]
        x, y = numbers[::2], numbers[1::2]
        assert (min(x), max(x)) == pytest.approx((0, 1), abs=0.02), letter
        assert (min(y), max(y)) == pytest.approx((-1, 0), abs=0.02), letter


def test_what_chance_alone_tells_is_taken_off():
    rng = np.random.default_rng(0)
    background = np.array([[30_000_000, 20_000_000, 20_000_000, 30_000_000]])
    uncorrected, corrected = [], []
    for _ in range(4_000):
        counts = rng.multinomial(200, background[0] / background.sum())
        p, q = counts / 200, background[0] / background.sum()
        uncorrected.append(float((p * np.log2(p / q)).sum()))
        corrected.append(uncorrected[-1] - 3 / (2 * 200 * math.log(2)))
        assert relative_bits(counts[None], background).sum() == pytest.approx(max(corrected[-1], 0.0))
    assert np.mean(uncorrected) == pytest.approx(0.0108, abs=0.0006)
    assert abs(np.mean(corrected)) < 0.0006


def test_an_expert_like_its_layer_has_no_letters_and_an_empty_column_is_empty():
    same = np.array([[400, 100, 100, 400], [0, 0, 0, 0]])
    assert relative_bits(same, 5 * same).tolist() == [[0.0] * 4] * 2


def test_few_bases_make_no_logo(atlas):
    rows = [
        row | {"n": row["n"] // 200 if row["expert"] == 0 else row["n"]}
        for row in atlas.rows("logos")
        if row["site"] == 1
    ]
    table = make_table("logos", {name: [row[name] for row in rows] for name in SCHEMAS["logos"].names})
    few = Atlas(atlas.facts, atlas.tables | {"logos": table})
    found = logos(site_views(few)[1], [0, 1])
    assert found[0]["n"] < MIN_BASES and "svg" not in found[0] and "svg" in found[1]
    assert f"no logo: {found[0]['n']} bases, fewer than 100" in read_html(render_atlas(few)).words()


def test_other_letters_are_refused(atlas):
    rows = atlas.rows("logos")
    rows[0]["base"] = "N"
    table = make_table("logos", {name: [row[name] for row in rows] for name in SCHEMAS["logos"].names})
    with pytest.raises(RunError, match="table logos, column base: must be A, C, G or T, not 'N'"):
        render_atlas(Atlas(atlas.facts, atlas.tables | {"logos": table}))
