"""Loss by class against a plain loop, and what is refused."""

from typing import Any

import numpy as np
import pytest
from evaluation_fakes import FixedScorer, draw_bases

from umbel.errors import CheckpointError
from umbel.evaluate.class_loss import ClassedWindow, score_classes, summarise_classes, with_total

MIX = (0.4, 0.1, 0.2, 0.3)


def windows(n: int = 20, length: int = 200) -> list[ClassedWindow]:
    rng = np.random.default_rng(0)
    return [
        ClassedWindow(
            draw_bases(MIX, length, i), rng.integers(-1, 3, length).astype(np.int16), rng.random(length) < 0.2
        )
        for i in range(n)
    ]


class Positional:
    """Knows the base where it is A, and guesses elsewhere: classes can tell rows apart."""

    def masked_log_probs(self, codes: Any, hidden: Any) -> Any:
        found = []
        for sequence, mask in zip(codes, hidden, strict=True):
            p = np.full((int(mask.sum()), 4), 0.25)
            p[sequence[mask] == 0] = (0.7, 0.1, 0.1, 0.1)
            found.append(np.log(p))
        return found


def test_sums_are_those_of_a_plain_loop() -> None:
    given = windows()
    sums = score_classes(Positional(), given, 3)
    loss, correct, n = np.zeros(3), np.zeros(3), np.zeros(3)
    for window in given:
        for base, own, hidden in zip(window.codes, window.classes, window.hidden, strict=True):
            if hidden and own >= 0:
                loss[own] -= np.log(0.7 if base == 0 else 0.25)
                correct[own] += 1.0 if base == 0 else 0.25
                n[own] += 1
    np.testing.assert_allclose(sums.loss.sum(1), loss)
    np.testing.assert_allclose(sums.correct.sum(1), correct)
    assert sums.n_bases.sum(1).tolist() == n.tolist()


def test_the_total_is_the_sum_of_classes_and_the_table_pairs_rows() -> None:
    given = windows()
    rows = {"model": with_total(score_classes(Positional(), given, 3)),
            "flat": with_total(score_classes(FixedScorer((0.25,) * 4), given, 3))}  # fmt: skip
    table = summarise_classes(rows, ("all", "a", "b", "c"), n_draws=100)
    assert table["all"]["n_bases"] == sum(table[name]["n_bases"] for name in "abc")
    mine, flat = (table["a"]["rows"][row]["loss"]["value"] for row in ("model", "flat"))
    difference = table["a"]["differences"]["flat"]["loss"]
    assert difference["value"] == pytest.approx(mine - flat)
    assert difference["high"] < 0 and flat == pytest.approx(np.log(4))


def test_a_class_of_few_windows_has_no_numbers() -> None:
    given = windows(3)
    table = summarise_classes({"model": score_classes(Positional(), given, 3)}, ("a", "b", "c"), n_draws=100)
    assert "rows" not in table["a"] and "3 windows" in table["a"]["missing"]


def test_wrong_inputs_are_refused() -> None:
    given = windows()
    with pytest.raises(ValueError, match="has class 2, and there are 2 classes"):
        score_classes(Positional(), given, 2)
    sums = score_classes(Positional(), given, 3)
    other = score_classes(Positional(), windows(19), 3)
    with pytest.raises(ValueError, match="row other did not predict the same hidden bases as model"):
        summarise_classes({"model": sums, "other": other}, ("a", "b", "c"))
    with pytest.raises(ValueError, match="2 names for 3 classes"):
        summarise_classes({"model": sums}, ("a", "b"))
    with pytest.raises(CheckpointError, match="probably diverged"):
        score_classes(FixedScorer((np.nan,) * 4), given, 3)
