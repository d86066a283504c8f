"""What composition alone says of a substitution: every score is higher where more harm is expected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from umbel.evaluate.markov import FlankModel, OrderChoice, choose_order, count_flanks_of
from umbel.evaluate.zero_shot.rows import KEYS, Drawn, Ints, Rows
from umbel.genome.reference import Reference
from umbel.genome.runs import as_runs, fill, merge
from umbel.genome.sequence import C, Codes, G, N
from umbel.predict.phases import strided
from umbel.progress import Reporter

Floats = npt.NDArray[np.float64]

PIECE_BP = 1 << 20
_CHOICE_EVERY, _CHOICE_BP = 16, 20_000
_FLANK_BP = 5
_HIDDEN_EVERY = 11


def gc_loss(rows: Rows) -> Floats:
    """Loss of G and C, ``(n,)``: 1 where G or C becomes A or T, -1 the other way round, else 0."""
    is_gc = [(codes == C) | (codes == G) for codes in (rows.ref, rows.alt)]
    return is_gc[0].astype(np.float64) - is_gc[1]


def outside_cpg(rows: Rows) -> Floats:
    """Whether the base is not in a CpG, ``(n,)``: 0 in one, where mutations are frequent, else 1."""
    in_cpg = ((rows.own_ref == C) & (rows.right == G)) | ((rows.own_ref == G) & (rows.left == C))
    return 1.0 - in_cpg


def fitted(drawn: Drawn, key: str, positive: int, negative: int) -> Floats:
    """Log odds of the positive class among substitutions of the same key in genes of the other folds, ``(n,)``.

    With p and m substitutions of the two classes and share s of the positive one over all keys, it is
    ``ln((p + s) / (m + 1 - s))``: what was never seen gets the odds of all.

    Parameters
    ----------
    drawn
        Of which all counts are used, except those of a row's own fold.
    key
        Name of ``KEYS``.
    positive, negative
        Indices of classes.
    """
    counts = drawn.counts[key][:, :, [positive, negative]].astype(np.float64)
    others = counts.sum(0) - counts
    share = others.sum(1)[:, 0] / np.maximum(others.sum((1, 2)), 1)
    odds = np.log(others[:, :, 0] + share[:, None] + 1e-9) - np.log(others[:, :, 1] + 1 - share[:, None] + 1e-9)
    return odds[drawn.rows.fold, KEYS[key](drawn.rows)]


@dataclass(frozen=True)
class FittedMarkov:
    """A two-flank Markov model of the genome without the tested places.

    Attributes
    ----------
    model
        What it says.
    choice
        How its order was chosen.
    n_bp
        Bases it was counted on.
    """

    model: FlankModel
    choice: OrderChoice
    n_bp: int

    def scores(self, reference: Reference, rows: Rows) -> Floats:
        """Log-likelihood ratio of the reference against the allele, ``(n,)``."""
        found = np.empty(len(rows))
        for i, (contig, position) in enumerate(zip(rows.contig.tolist(), rows.position.tolist(), strict=True)):
            name = rows.contigs[contig]
            start = max(0, position - _FLANK_BP)
            codes = reference.fetch(name, start, min(reference.lengths[name], position + _FLANK_BP + 1))
            hidden = np.zeros(len(codes), bool)
            hidden[position - start] = True
            logs = self.model.log_probs(codes, hidden)[0]
            found[i] = logs[rows.ref[i]] - logs[rows.alt[i]]
        return found


def fit_markov(
    reference: Reference, tested: Mapping[str, list[tuple[int, int]]], fit_bp: int, reporter: Reporter
) -> FittedMarkov:
    """Fit the Markov model on a genome whose tested places are hidden from it.

    It reads from the start of the file up to ``fit_bp`` bases. The first 20,000 bases of every sixteenth piece of
    1 Mi bases are not counted: order and back-off strength are chosen there.
    """
    known: list[int] = []
    held_out: list[tuple[Codes, npt.NDArray[np.bool_]]] = []

    def pieces() -> Iterator[Codes]:
        for number, codes in enumerate(_pieces(reference, tested, fit_bp)):
            if number % _CHOICE_EVERY == 0:
                # A small genome keeps most of itself for counting.
                size = min(_CHOICE_BP, len(codes) // 4)
                held_out.append((codes[:size], (strided(size, _HIDDEN_EVERY) == _FLANK_BP) & (codes[:size] < N)))
                codes = codes[size:]
            known.append(int((codes < N).sum()))
            task.advance(len(codes))
            yield codes

    total = min(fit_bp, sum(reference.lengths.values()))
    task = reporter.start("Markov counts", total, "bases")
    counts = count_flanks_of(pieces())
    task.close()
    choice = choose_order(counts, held_out)
    return FittedMarkov(FlankModel(counts, choice.order, choice.strength), choice, sum(known))


def _pieces(reference: Reference, tested: Mapping[str, list[tuple[int, int]]], fit_bp: int) -> Iterator[Codes]:
    left = fit_bp
    for contig, length in reference.lengths.items():
        hidden = merge(as_runs(tested.get(contig, [])))
        for start in range(0, length, PIECE_BP):
            end = min(start + PIECE_BP, length, start + left)
            if end <= start:
                return
            codes = reference.fetch(contig, start, end)
            fill(codes, hidden, start, np.uint8(N))
            left -= end - start
            yield codes


def composition_scores(drawn: Drawn, positive: int, negative: int) -> dict[str, Floats]:
    """Give every baseline that needs no model: name to score ``(n,)``."""
    found = {"gc": gc_loss(drawn.rows), "cpg": outside_cpg(drawn.rows)}
    return found | {name: fitted(drawn, name, positive, negative) for name in drawn.counts}


def strata(rows: Rows, matching: str) -> Ints:
    """Give the strata within which rows are compared, ``(n,)``; ``all`` is one stratum."""
    return np.zeros(len(rows), np.int64) if matching == "all" else KEYS[matching](rows)
