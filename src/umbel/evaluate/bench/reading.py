"""What a reader must know before quoting a number of a leaderboard, as sentences."""

from __future__ import annotations

from umbel.evaluate.bench.cited import OVERALL
from umbel.evaluate.bench.leaderboard import Leaderboard
from umbel.evaluate.bench.wording import ALPHA, BASELINES
from umbel.evaluate.scores.definitions import COLLAPSED_MCC

_SHOWN = 8
"""Datasets that are named; of more, the number."""


def how_to_read(board: Leaderboard) -> list[str]:
    """List what the numbers are and what they are not, for this page."""
    draws = sorted({source.result["config"]["n_draws"] for source in board.sources})
    n_tests = len(BASELINES)
    found = [
        f"Intervals are 95 % bootstrap intervals ({' or '.join(f'{n:,}' for n in draws)} draws) over test examples and "
        "seeds together. With three seeds they show two thirds of the variance between seeds, and they hold for this "
        "test set, not for other species.",
        "A difference is of the same test examples, drawn together. “Better” and “worse” ask for both: an interval "
        f"without 0, and p below {ALPHA:g} after Holm's adjustment over the {n_tests} comparisons of a model on a "
        f"dataset. Over datasets nothing is adjusted: of {len(board.datasets)} "
        f"{'dataset' if len(board.datasets) == 1 else 'datasets'} without any true difference up to "
        f"{ALPHA * len(board.datasets):.2g} on average would be told apart by chance.",
        "“Not told apart” does not mean equal: the interval shows which differences are not ruled out.",
    ]
    if 2 * n_tests / (min(draws) + 1) >= ALPHA:
        found.append(
            f"With {min(draws):,} draws the smallest adjusted p can be {2 * n_tests / (min(draws) + 1):.3f}, so that "
            "nothing may be told apart, however large. Run again with n_draws=1000."
        )
    if board.has_parts:
        found.append(
            "Means count every dataset once and are there only where all datasets of a task were run. Their intervals "
            "combine those of the datasets as independent; they have no p. A mean over several metrics is a summary "
            "without a unit."
        )
    if len(board.sources) > 1:
        found.append(
            "Models are tested against their baselines, not against each other: intervals of two models that overlap "
            "do not show that they are equal, and such tests need the predictions, which lie beside each bench.json."
        )
    found.append(
        f"A seed counts as collapsed where all answers are the same or |MCC| (of numbers: |Pearson|) is below "
        f"{COLLAPSED_MCC:g}. Collapsed seeds are flagged and stay in the mean."
    )
    limits = [(source, source.result["config"]["max_train"]) for source in board.sources]
    for source, limit in limits:
        if limit:
            who = "All rows" if len(board.sources) == 1 else f"{source.label} and its baselines"
            found.append(
                f"{who} were fitted on at most {limit:,} training examples of a dataset, and chosen on at most "
                f"{max(1, limit // 4):,} of dev; the rest was left out, and larger samples may change the order. Test "
                "is whole."
            )
    found.append(
        "FLOP are those of one fine-tuning run, of a task those of one run on each dataset; pretraining, tried "
        "learning rates, and runs that were repeated are not in them, and of probes, CNN and k-mers none are counted."
    )
    if board.citations.footnotes:
        found.append(
            "Published numbers were not run here: other splits of dev, other settings, mostly one seed or none stated. "
            "They stand beside ours for orientation and are not ranked with them."
        )
    return found


def gaps(board: Leaderboard) -> list[str]:
    """Say which means there are not, and which datasets they lack."""
    found = []
    for each in (*board.groups, board.overall):
        lacking: dict[tuple[str, ...], list[str]] = {}
        for tag, names in each.missing.items():
            lacking.setdefault(names, []).append(tag)
        for names, tags in lacking.items():
            who = "" if len(board.sources) == 1 else f" of {', '.join(tags)}"
            what = "all datasets" if each.name == OVERALL else each.name.replace("_", " ")
            count = f"{len(names)} of {len(each.members)} {'dataset' if len(each.members) == 1 else 'datasets'}"
            which = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
            found.append(f"No mean over {what}{who}: {count} {'was' if len(names) == 1 else 'were'} not run ({which}).")
    return found
