"""One-sided and motif Markov models against dictionaries of words."""

from collections import Counter

import numpy as np
import pytest
from evaluation_fakes import draw_bases

from umbel.evaluate.one_sided import MotifModel, OneSidedModel

PIECES = [draw_bases((0.4, 0.2, 0.1, 0.3), 400, 0), draw_bases((0.1, 0.2, 0.3, 0.4), 300, 1)]
PIECES[0][[50, 51, 200]] = 4


def words(word_bp: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for codes in PIECES:
        text = "".join("ACGTN"[code] for code in codes)
        for strand in (text, text[::-1].translate(str.maketrans("ACGT", "TGCA"))):
            for start in range(len(strand) - word_bp + 1):
                if "N" not in strand[start : start + word_bp]:
                    counts[strand[start : start + word_bp]] += 1
    return counts


def test_one_sided_is_the_definition_read_off_dictionaries() -> None:
    order, a = 3, 7.0
    model = OneSidedModel.fit(PIECES, order, a)
    counts = [words(j + 1) for j in range(order + 1)]
    codes = draw_bases((0.25,) * 4, 120, 9)
    codes[[30, 31]] = 4
    hidden = (np.random.default_rng(2).random(120) < 0.3) & (codes < 4)
    text = "".join("ACGTN"[code] for code in codes)
    found = np.exp(model.log_probs(codes, hidden))
    for row, position in enumerate(np.flatnonzero(hidden).tolist()):
        p = [0.25] * 4
        for j in range(order + 1):
            left = range(position - j, position)
            if any(at < 0 or hidden[at] or codes[at] > 3 for at in left):
                break
            seen = [counts[j]["".join(text[at] for at in left) + base] for base in "ACGT"]
            p = [(c + a * q) / (sum(seen) + a) for c, q in zip(seen, p, strict=True)]
        np.testing.assert_allclose(found[row], p)


@pytest.mark.parametrize("motif_bp", [2, 3])
def test_motifs_are_the_definition_read_off_dictionaries(motif_bp: int) -> None:
    order, a = 2, 5.0
    model = MotifModel.fit(PIECES, motif_bp, order, a)
    codes = draw_bases((0.25,) * 4, 40, 3)
    text = "".join("ACGTN"[code] for code in codes)
    every = [words(2 * j + motif_bp) for j in range(order + 1)]
    for start in (0, 1, 17, 40 - motif_bp):
        p = 4.0**-motif_bp
        for j in range(order + 1):
            if start - j < 0 or start + motif_bp + j > 40:
                break
            left, right = text[start - j : start], text[start + motif_bp : start + motif_bp + j]
            seen = {word: n for word, n in every[j].items() if word.startswith(left) and word.endswith(right)}
            mine = every[j][left + text[start : start + motif_bp] + right]
            p = (mine + a * p) / (sum(seen.values()) + a)
        assert model.log_prob(codes, start) == pytest.approx(np.log(p))


def test_orders_that_take_too_much_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="give 0 to 8"):
        OneSidedModel.fit(PIECES, 9)
    with pytest.raises(ValueError, match="may be 11 at most"):
        MotifModel.fit(PIECES, 3, 5)
