"""Splice donors and acceptors, start and stop codons: told from decoys by mini without training, and by a linear probe.

    python benchmarks/mini/sites.py CKPT --data DIR -o benchmarks/results/mini_sites.json

A decoy has the same letters, in the same gene, on the same strand. Without training a row's score is the
log-probability of the letters with all of them hidden; probes and position weights are fitted on sites of *Arabidopsis
thaliana* chromosome 1, which mini has seen without labels, and tested on contigs that it never saw.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from held_out import CHR5, CHR5_ELSEWHERE, FILES, HeldOut, begin, finish, held_out, parser, training_pieces

from umbel.data.labelled.examples import Examples
from umbel.evaluate.baselines.kmer import Kmer
from umbel.evaluate.one_sided import MotifModel
from umbel.evaluate.site_recognition import (
    DEV_EVERY,
    TASK,
    fit_site_probe,
    flank_log_probs,
    motif_log_probs,
    position_weights,
    site_states,
    site_table,
    weigh,
)
from umbel.genome.gene_sites import SITE_KINDS, SiteWindows, draw_sites, read_introns
from umbel.genome.reference import Reference
from umbel.genome.transcripts import Transcript, read_transcripts
from umbel.predict.predictor import Predictor

KMER_FLANK_BP = 30
Tables = dict[str, Any]


def transcripts_of(words: argparse.Namespace, name: str) -> tuple[Transcript, ...]:
    if name == "chr5":
        return read_introns(words.data / FILES["introns"], {CHR5_ELSEWHERE: CHR5})
    with Reference.open(words.data / FILES[name]) as genome:
        return read_transcripts(words.data / FILES[f"{name}_genes"], genome.lengths).transcripts


def windows_of(words: argparse.Namespace, held: HeldOut) -> dict[tuple[str, str], SiteWindows]:
    """Draw the sites of every kind on the training chromosome and on what is held out."""
    found = {}
    contigs = {"chr1": (), "napus": held.test["napus"], "chr5": (CHR5,)}
    numbers = {"chr1": words.n_train, "napus": words.n_test, "chr5": words.n_test}
    for name, only in contigs.items():
        transcripts = transcripts_of(words, name)
        with Reference.open(words.data / FILES[name]) as genome:
            for kind in SITE_KINDS:
                if name == "chr5" and "codon" in kind:
                    continue
                # Two sites at most of one gene: more genes mean narrower intervals.
                found[name, kind] = draw_sites(
                    genome,
                    transcripts,
                    kind,
                    numbers[name],
                    words.flank_bp,
                    per_locus=2,
                    contigs=only,
                    avoid=held.avoid,
                    seed=words.seed,
                )
    return found


def best_motif_model(whole: MotifModel, train: SiteWindows) -> tuple[MotifModel, int]:
    """Markov model of the motif whose order tells the sites of the training chromosome best."""
    orders = range(1, len(whole.tables))
    models = {order: MotifModel(whole.tables[: order + 1], whole.motif_bp, whole.strength) for order in orders}
    areas = {
        order: site_table({"model": flank_log_probs(one, train)}, train, n_draws=100)["rows"]["model"]["auroc"]["value"]
        for order, one in models.items()
    }
    best = max(areas, key=lambda order: areas[order])
    return models[best], best


def examples(windows: SiteWindows) -> Examples:
    start = windows.flank_bp - KMER_FLANK_BP
    codes = tuple(np.ascontiguousarray(one[start : len(one) - start]) for one in windows.codes)
    ids = tuple(f"site-{i}" for i in range(len(windows)))
    return Examples(TASK, ids, codes, windows.is_site.astype(np.int64), windows.kind, np.arange(len(windows)) + 1)


def kmer_scores(train: SiteWindows, test: SiteWindows) -> np.ndarray:
    every = examples(train)
    is_dev = train.locus % DEV_EVERY == 0
    fitted = Kmer(word_sizes=(1, 2, 3, 4), stranded=True).fit(
        every.take(np.flatnonzero(~is_dev)), every.take(np.flatnonzero(is_dev))
    )
    return np.asarray(fitted.scores(examples(test)), float)[:, 1]


def main() -> None:
    words = parser(__doc__, "mini_sites.json")
    words.add_argument("--n-train", type=int, default=800)
    words.add_argument("--n-test", type=int, default=400)
    words.add_argument("--flank-bp", type=int, default=96)
    words.add_argument("--fit-bp", type=int, default=30_000_000)
    words = words.parse_args()
    predictor, began = begin(words)
    held = held_out(words)
    windows = windows_of(words, held)
    pieces = list(training_pieces(words, held, words.fit_bp))
    counted = {motif_bp: MotifModel.fit(pieces, motif_bp) for motif_bp in (2, 3)}
    nets: dict[str, Predictor] = {"model": predictor, "random": predictor.with_random_weights(words.seed)}
    results: Tables = {"zero_shot": {}, "probe": {}}
    for kind in SITE_KINDS:
        train = windows["chr1", kind]
        markov, order = best_motif_model(counted[train.motif_bp], train)
        weights = position_weights(train)
        probes = {name: fit_site_probe(train, site_states(net, train)) for name, net in nets.items()}
        for name in ("napus", "chr5"):
            if (name, kind) not in windows:
                continue
            test = windows[name, kind]
            scores = {row: motif_log_probs(net, test) for row, net in nets.items()}
            scores["markov_both_flanks"] = flank_log_probs(markov, test)
            zero = site_table(scores, test, n_draws=words.n_draws, seed=words.seed) | {"markov_order": order}
            results["zero_shot"].setdefault(name, {})[kind] = zero
            scores = {
                row: np.asarray(probe.scores(site_states(nets[row], test)), float)[:, 1]
                for row, probe in probes.items()
            }
            scores |= {"kmer": kmer_scores(train, test), "pwm": weigh(weights, test)}
            fitted = site_table(scores, test, n_draws=words.n_draws, seed=words.seed)
            results["probe"].setdefault(name, {})[kind] = fitted | {"n_train": int(train.is_site.sum())}
            for how, found in (("zero-shot", zero), ("probe", fitted)):
                shown = "  ".join(f"{row} {one['auroc']['value']:.3f}" for row, one in found["rows"].items())
                print(f"{name} {kind} {how}: {found['n_sites']} sites  {shown}", flush=True)
    finish(words, began, {"held_out": held.told, **results}, predictor)


if __name__ == "__main__":
    main()
