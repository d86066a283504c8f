"""What tuning cost: masked loss on held-out windows before and after, species by species."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from umbel.errors import CorpusError
from umbel.evaluate.masked_loss import RowSums, Scorer, choose_windows, score_windows, summarise_rows

if TYPE_CHECKING:
    from umbel.data.corpus.store import Corpus
    from umbel.progress import Reporter

ALL = "all species"


class Base(Scorer, Protocol):
    """The model before tuning; ``umbel.predict.predictor.Predictor`` is one."""

    def with_random_weights(self, seed: int) -> Scorer:
        """Return the same network before any training."""


def forgetting(
    base: Base,
    tuned: Scorer,
    corpus: Corpus,
    *,
    role: str = "test",
    n_windows: int = 0,
    seed: int = 0,
    mask_frac: float = 0.15,
    n_draws: int = 1000,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Compare what a base and a tuned model know of held-out windows, beside a network that knows nothing.

    All three predict the same hidden bases, so differences are paired. A loss that rises is forgetting; the row of
    random weights is where all is forgotten.

    Parameters
    ----------
    base, tuned
        The tuned one with the base's language head: ``base.with_backbone(tuned_backbone, name)``.
    corpus
        Best of species that the tuning data did not have, and of the one it had.
    role
        ``train``, ``valid`` or ``test`` windows.
    n_windows
        Most windows, 0 for all.
    seed
        Of hidden positions, random weights, choice of windows and bootstrap.
    mask_frac
        Chance that a real base is hidden, in (0, 1].
    n_draws
        Bootstrap draws over windows.

    Returns
    -------
    ``species``: for :data:`ALL` and each species with a window, ``rows`` (``base``, ``tuned``, ``random``) with loss,
    perplexity and accuracy, and ``differences`` of ``tuned`` from ``base`` and from ``random`` (loss above 0: worse),
    each over all hidden bases and over those that are not soft-masked, as value, low, high; ``n_windows`` and
    ``n_bases``. Beside it what decides the numbers: ``role``, ``corpus``, ``seed``, ``mask_frac``, ``n_draws``.

    Raises
    ------
    CorpusError
        If the corpus has no window of this role, or none of its bases was hidden.
    CheckpointError
        If a model's predictions are not finite.
    """
    ids = choose_windows(corpus.window_ids(role), n_windows, seed)
    if not len(ids):
        raise CorpusError(f"{corpus.path}: no {role} windows to measure forgetting on")
    scorers: dict[str, Scorer] = {"base": base, "tuned": tuned, "random": base.with_random_weights(seed)}
    sums = {
        name: score_windows(
            scorer, corpus, ids, seed=seed, mask_frac=mask_frac, title=f"masked loss, {name}", reporter=reporter
        )
        for name, scorer in scorers.items()
    }
    if not sums["base"].n_bases.any():
        raise CorpusError(
            f"{corpus.path}: no base of the chosen {role} windows was hidden: raise mask_frac or n_windows"
        )
    of_window = corpus.window_species(ids)
    places = {ALL: np.ones(len(ids), bool)}
    places |= {species.name: of_window == number for number, species in enumerate(corpus.species)}
    return {
        "role": role,
        "corpus": corpus.hash,
        "seed": seed,
        "mask_frac": mask_frac,
        "n_draws": n_draws,
        "species": {
            name: _compare({row: _part(of_row, here) for row, of_row in sums.items()}, n_draws, seed)
            for name, here in places.items()
            if here.any()
        },
    }


def _part(sums: RowSums, here: np.ndarray) -> RowSums:
    return RowSums(sums.loss[:, here], sums.correct[:, here], sums.n_bases[:, here])


def _compare(sums: dict[str, RowSums], n_draws: int, seed: int) -> dict[str, Any]:
    table = summarise_rows(
        {"model" if name == "tuned" else name: of_row for name, of_row in sums.items()}, n_draws=n_draws, seed=seed
    )
    table["rows"]["tuned"] = table["rows"].pop("model")
    return table


def forgetting_lines(report: dict[str, Any], bases: str = "all") -> list[str]:
    """Say a report in a line per species.

    Parameters
    ----------
    report
        What :func:`forgetting` gave.
    bases
        One of :data:`umbel.evaluate.masked_loss.BASES`.

    Examples
    --------
    >>> loss = lambda value: {"all": {"loss": {"value": value, "low": value - 0.01, "high": value + 0.01}}}
    >>> rows = {"base": loss(1.2), "tuned": loss(1.25), "random": loss(1.4)}
    >>> forgetting_lines({"species": {"Zea mays": {"rows": rows, "differences": {"base": loss(0.05)}}}})
    ['Zea mays: 1.2000 before, 1.2500 after (+0.0500, +0.0400 to +0.0600); random weights 1.4000 nats a base']
    """
    lines = []
    for species, table in report["species"].items():
        rows, difference = table["rows"], table["differences"]["base"][bases]
        if "missing" in difference:
            lines.append(f"{species}: {difference['missing']}")
            continue
        before, after, random = (rows[name][bases]["loss"]["value"] for name in ("base", "tuned", "random"))
        change = difference["loss"]
        interval = "" if change["low"] is None else f", {change['low']:+.4f} to {change['high']:+.4f}"
        lines.append(
            f"{species}: {before:.4f} before, {after:.4f} after ({change['value']:+.4f}{interval}); "
            f"random weights {random:.4f} nats a base"
        )
    return lines
