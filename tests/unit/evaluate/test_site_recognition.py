"""Areas against scikit-learn, a scorer that knows the sites, and a probe that can find a planted signal."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from umbel.evaluate.site_recognition import (
    fit_site_probe,
    motif_log_probs,
    position_weights,
    site_states,
    site_table,
    weigh,
)
from umbel.genome.gene_sites import SiteWindows


def planted(n: int = 120, seed: int = 0) -> SiteWindows:
    """Sites have A behind the letters, and decoys T."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (2 * n, 14)).astype(np.uint8)
    codes[:, 6:8] = (2, 3)
    codes[::2, 8], codes[1::2, 8] = 0, 3
    return SiteWindows("donor", codes, np.tile([True, False], n), np.repeat(np.arange(n), 2), 6, 2)


class Knowing:
    """Expects GT where an A follows, and flat letters elsewhere; sees that only the letters are hidden."""

    def masked_log_probs(self, codes: Any, hidden: Any) -> Any:
        found = []
        for sequence, mask in zip(codes, hidden, strict=True):
            assert np.flatnonzero(mask).tolist() == [6, 7]
            p = np.full((2, 4), 0.25)
            if sequence[8] == 0:
                p[0], p[1] = (0.1, 0.1, 0.7, 0.1), (0.1, 0.1, 0.1, 0.7)
            found.append(np.log(p))
        return found

    def embed_bases(self, codes: Any, places: Any) -> Any:
        return np.stack([np.eye(4)[sequence[list(own)]] for sequence, own in zip(codes, places, strict=True)])


def test_scores_are_the_chance_of_the_letters() -> None:
    found = motif_log_probs(Knowing(), planted(3))
    assert found[::2] == pytest.approx(2 * np.log(0.7)) and found[1::2] == pytest.approx(2 * np.log(0.25))


def test_areas_are_those_of_scikit_learn() -> None:
    windows = planted()
    noisy = windows.is_site + np.random.default_rng(1).normal(0, 1.5, len(windows))
    ties = np.round(noisy)
    table = site_table({"model": noisy, "ties": ties}, windows, n_draws=200)
    for row, scores in (("model", noisy), ("ties", ties)):
        found = table["rows"][row]
        assert found["auroc"]["value"] == pytest.approx(roc_auc_score(windows.is_site, scores))
        assert found["auprc"]["value"] == pytest.approx(average_precision_score(windows.is_site, scores))
        assert found["auroc"]["low"] < found["auroc"]["value"] < found["auroc"]["high"]
    assert table["n_sites"] == 120 and table["n_loci"] == 120
    with pytest.raises(ValueError, match="row bad has scores that are not finite"):
        site_table({"model": noisy, "bad": noisy * np.nan}, windows)


def test_probe_and_position_weights_find_what_was_planted() -> None:
    train, test = planted(), planted(60, seed=1)
    probe = fit_site_probe(train, site_states(Knowing(), train))
    scores = {
        "model": np.asarray(probe.scores(site_states(Knowing(), test)), float)[:, 1],
        "pwm": weigh(position_weights(train, 4), test),
    }
    table = site_table(scores, test, n_draws=100)
    assert table["rows"]["model"]["auroc"]["value"] == 1.0
    assert table["rows"]["pwm"]["auroc"]["value"] > 0.95
    with pytest.raises(ValueError, match="20 flanking bases are asked for, and the windows have 6"):
        position_weights(train)
