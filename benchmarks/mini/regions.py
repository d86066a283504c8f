"""Masked loss and accuracy of mini by class of base, on sequence that it never saw, beside its baselines.

    python benchmarks/mini/regions.py CKPT --data DIR -o benchmarks/results/mini_regions.json

15 % of the bases, drawn evenly, are hidden behind [MASK] all at once (training also puts random letters, and leaves
some as they are; an evaluation does not). Every row predicts the same bases.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from held_out import (
    CHR5,
    CHR5_ELSEWHERE,
    FILES,
    begin,
    draw_places,
    finish,
    held_out,
    is_clear,
    parser,
    training_pieces,
)

from umbel.data.masking import hidden_positions
from umbel.evaluate.class_loss import ClassedWindow, score_classes, summarise_classes, with_total
from umbel.evaluate.experts.labels.genes import CDS, FIVE_UTR, INTERGENIC, INTRON, THREE_UTR, gene_labels
from umbel.evaluate.markov import FlankModel, choose_order, count_flanks_of
from umbel.evaluate.masked_loss import Scorer
from umbel.evaluate.one_sided import OneSidedModel
from umbel.genome.gene_sites import loci_of, read_introns
from umbel.genome.reference import Reference
from umbel.genome.runs import as_runs, fill, merge
from umbel.genome.transcripts import read_transcripts
from umbel.genome.transposons import read_transposons
from umbel.model.checkpoint import load_checkpoint
from umbel.predict.predictor import Predictor, load
from umbel.progress import Reporter

MASK_FRAC = 0.15
NAPUS_CLASSES = (
    *(f"CDS, codon position {place}" for place in (1, 2, 3)),
    "intron",
    "5' UTR",
    "3' UTR",
    "intergenic, not repeat",
    "repeat (soft-masked, intergenic)",
)
CHR5_CLASSES = ("intron", "transposable element", "other")
Places = list[tuple[str, int]]


def napus_windows(words: argparse.Namespace, held: Any) -> tuple[list[ClassedWindow], int]:
    """Windows over the genome, and around genes; and how many are of the first sort."""
    genes = words.data / FILES["napus_genes"]
    with Reference.open(words.data / FILES["napus"]) as genome:
        labels = gene_labels(genes, genome.lengths, 0)
        places = draw_places(genome, held.test["napus"], words.n_windows, words.window_bp, held.avoid, words.seed)
        transcripts = read_transcripts(genes, genome.lengths).transcripts
        beside = gene_places(words, held, genome, [one for one in transcripts if one.contig in held.test["napus"]])
        windows = []
        for number, (contig, start) in enumerate(places + beside):
            end = start + words.window_bp
            codes, soft = genome.fetch_masked(contig, start, end)
            region, codon = labels.region.labels(contig, start, end), labels.codon.labels(contig, start, end)
            classes = np.full(len(codes), -1, np.int16)
            in_codon = (region == CDS) & (codon >= 0)
            classes[in_codon] = codon[in_codon] % 3
            for region_class, own in ((INTRON, 3), (FIVE_UTR, 4), (THREE_UTR, 5)):
                classes[region == region_class] = own
            classes[region == INTERGENIC] = np.where(soft, 7, 6)[region == INTERGENIC]
            windows.append(ClassedWindow(codes, classes, hidden_positions(codes, words.seed, number, MASK_FRAC)))
    return windows, len(places)


def gene_places(words: argparse.Namespace, held: Any, genome: Reference, transcripts: Any) -> Places:
    """Windows around a random base or an end of a random gene; one a gene, and no two overlap."""
    rng = np.random.default_rng([words.seed, 1])
    taken: dict[str, list[int]] = {}
    found: Places = []
    loci = loci_of(transcripts)
    for i in rng.permutation(len(loci)).tolist():
        locus = loci[i]
        middle = int((locus.start, locus.end, rng.integers(locus.start, locus.end))[rng.integers(3)])
        start = middle - words.window_bp // 2
        near = any(abs(start - other) < words.window_bp for other in taken.get(locus.contig, []))
        if not near and is_clear(genome, locus.contig, start, start + words.window_bp, held.avoid):
            taken.setdefault(locus.contig, []).append(start)
            found.append((locus.contig, start))
        if len(found) == words.n_gene_windows:
            break
    return sorted(found)


def chr5_windows(words: argparse.Namespace, held: Any) -> list[ClassedWindow]:
    """Windows over chromosome 5, which has introns and transposable elements, and no genes here."""
    with Reference.open(words.data / FILES["chr5"]) as genome:
        introns = read_introns(words.data / FILES["introns"], {CHR5_ELSEWHERE: CHR5})
        spans = [(a, b) for one in introns for (_, a), (b, _) in pairwise(one.exons)]
        elements = read_transposons(words.data / FILES["transposons"], genome.lengths, {"Chr5": CHR5}).runs[CHR5]
        windows = []
        places = draw_places(genome, (CHR5,), words.n_chr5_windows, words.window_bp, held.avoid, words.seed)
        for number, (contig, start) in enumerate(places):
            codes = genome.fetch(contig, start, start + words.window_bp)
            classes = np.full(len(codes), 2, np.int16)
            fill(classes, merge(as_runs(spans)), start, np.int16(0))
            fill(classes, elements, start, np.int16(1))
            windows.append(ClassedWindow(codes, classes, hidden_positions(codes, words.seed, number, MASK_FRAC)))
    return windows


def baselines(words: argparse.Namespace, held: Any) -> tuple[dict[str, Scorer], dict[str, Any]]:
    """Composition and Markov models counted on training genomes; orders chosen on a part that is not counted."""
    pieces, choice = [], []
    for number, codes in enumerate(training_pieces(words, held, words.fit_bp)):
        if number % 16 == 0:
            part, codes = codes[:20_000], codes[20_000:]
            choice.append((part, hidden_positions(part, words.seed, number, MASK_FRAC)))
        pieces.append(codes)
    counts = count_flanks_of(pieces)
    best = choose_order(counts, choice)
    sided = {order: OneSidedModel.fit(pieces, order) for order in (3, 5, 8)}
    losses = {}
    for order, model in sided.items():
        logs = [model.log_probs(codes, hidden) for codes, hidden in choice]
        truth = [codes[hidden].astype(int) for codes, hidden in choice]
        losses[order] = float(
            -np.concatenate([a[np.arange(len(b)), b] for a, b in zip(logs, truth, strict=True)]).mean()
        )
    order = min(losses, key=lambda one: losses[one])
    told = {
        "n_bp": int(sum(map(len, pieces))),
        "markov_both_flanks": best.to_dict(),
        "markov_left": {"order": order, "valid_loss_by_order": losses},
    }
    scorers: dict[str, Scorer] = {
        "composition": FlankModel(counts, 0, 1.0),
        "markov_left": sided[order],
        "markov_both_flanks": FlankModel(counts, best.order, best.strength),
    }
    return scorers, told


def main() -> None:
    words = parser(__doc__, "mini_regions.json")
    words.add_argument("--fp32", help="the same checkpoint before its weights were rounded")
    words.add_argument("--window-bp", type=int, default=1024)
    words.add_argument("--n-windows", type=int, default=300)
    words.add_argument("--n-gene-windows", type=int, default=400)
    words.add_argument("--n-chr5-windows", type=int, default=300)
    words.add_argument("--fit-bp", type=int, default=30_000_000, help="bases of each training genome that are counted")
    words = words.parse_args()
    predictor, began = begin(words)
    held = held_out(words)
    reporter = Reporter()
    napus, n_even = napus_windows(words, held)
    chr5 = chr5_windows(words, held)
    scorers, told = baselines(words, held)
    rows: dict[str, Scorer] = {"model": predictor, "random": predictor.with_random_weights(words.seed), **scorers}
    short = rounded(predictor)
    if short is not None:
        rows["bf16"] = short
    if words.fp32:
        rows["float32"] = load(words.fp32, "cpu")
    sets = {"napus": (napus, NAPUS_CLASSES), "chr5": (chr5, CHR5_CLASSES)}
    results: dict[str, Any] = {
        "held_out": held.told,
        "weights_are_bf16": short is None,
        "mask_frac": MASK_FRAC,
        "baselines": told,
        "sets": {},
    }
    for name, (windows, names) in sets.items():
        sums = {
            row: with_total(score_classes(scorer, windows, len(names), title=f"{name}, {row}", reporter=reporter))
            for row, scorer in rows.items()
        }
        table = summarise_classes(sums, ("all", *names), n_draws=words.n_draws, seed=words.seed)
        if name == "napus":
            # Windows around genes are there for the sake of rare classes: a mean over all is not the genome's.
            even = {
                row: type(one)(*(x[:1, :n_even] for x in (one.loss, one.correct, one.n_bases)))
                for row, one in sums.items()
            }
            table |= summarise_classes(even, ("all",), n_draws=words.n_draws, seed=words.seed)
        results["sets"][name] = {"n_windows": len(windows), "n_even": n_even if name == "napus" else len(windows),
                                 "window_bp": words.window_bp, "classes": table}  # fmt: skip
        for one, found in table.items():
            if "rows" in found:
                shown = "  ".join(f"{row} {found['rows'][row]['loss']['value']:.4f}" for row in rows)
                print(f"{name} {one}: {found['n_bases']} bases  {shown}")
    finish(words, began, results, predictor)


def rounded(predictor: Predictor) -> Predictor | None:
    """Round the weights of a checkpoint to bfloat16, in which mini ships; None where they are so already.

    It computes in float32 as ever.
    """
    model = load_checkpoint(predictor.source)
    changed = 0
    with torch.no_grad():
        for parameter in model.parameters():
            short = parameter.bfloat16().float()
            changed += int((short != parameter).sum())
            parameter.copy_(short)
    return Predictor(model, "bf16", torch.device("cpu"), predictor.tokens) if changed else None


if __name__ == "__main__":
    main()
