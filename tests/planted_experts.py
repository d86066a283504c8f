"""A model whose routers are set by hand and a genome for it, so that what each expert takes is known base by base.

The model reads overlapping 6-mers: a base has the routing of the word that begins there. Mixers and experts give
nothing, so a router sees the embedding of its own token alone, and knocking out any expert changes no loss.
Of eight experts in the first layer, expert 1 takes the words of a tandem repeat, experts 2, 4 and 5 the first, second
and third positions of codons, on both strands, experts 0 (A, C), 6 (G) and 7 (T) all other words by their first base,
and expert 3 is dead. In the second layer experts 0 to 3 take words by their first base and four are dead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

K = 6
N_EXPERTS = 8
REPEAT_EXPERT = 1
CODON_EXPERTS = (2, 4, 5)
OTHERS_BY_BASE = (0, 0, 6, 7)
DEAD = ((3,), (4, 5, 6, 7))
CLASSES = ("other", "repeat", "codon 1", "codon 2", "codon 3")
EXPERT_OF_CLASS = {"repeat": 1, "codon 1": 2, "codon 2": 4, "codon 3": 5}
WINDOW_BP = 1024

REPEAT_UNIT = "ACGGTC"
SHARPNESS = 2.0
_SECOND = 0.5
_ALIVE = (0, 1, 2, 4, 5, 6, 7)


def _special_words() -> dict[str, int]:
    """The expert of each word that has one of its own."""
    words = {(REPEAT_UNIT * 2)[i : i + K]: REPEAT_EXPERT for i in range(K)}
    for a, b, c in product("AG", repeat=3):
        # Codons are ACT and GCT; on the other strand AGT and AGC, read from their third position.
        plus, minus = f"{a}CT{b}CT{c}CT", "".join(f"AG{'T' if x == 'A' else 'C'}" for x in (a, b, c))
        for i in range(3):
            words[plus[i : i + K]] = CODON_EXPERTS[i]
            words[minus[i : i + K]] = CODON_EXPERTS[2 - i]
    return words


SPECIAL = _special_words()


def choices_of(word: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """First and second expert of a token, in the first layer and in the second."""
    if not word or set(word) - set("ACGT"):
        first, by_base = 0, 0
    else:
        by_base = "ACGT".index(word[0])
        first = SPECIAL.get(word, OTHERS_BY_BASE[by_base]) if len(word) == K else 0
    return (first, _ALIVE[(_ALIVE.index(first) + 1) % len(_ALIVE)]), (by_base, (by_base + 1) % 4)


def planted_routes(letters: str, top_k: int = 1) -> np.ndarray:
    """Which experts each base goes to, ``(2, L, top_k)``, by plain loops over the letters of one sequence."""
    routes = np.zeros((2, len(letters), top_k), int)
    start = 0
    while start < len(letters):
        if letters[start] == "N":
            end = start + 1
        else:
            end = start
            while end < len(letters) and letters[end] != "N":
                end += 1
        for base in range(start, end):
            # The last word to begin that stands for the base.
            first = max(start, min(base, end - K))
            for layer, chosen in enumerate(choices_of(letters[first : min(first + K, end)])):
                routes[layer, base] = chosen[:top_k]
        start = end
    return routes


def planted_scores() -> tuple[float, float]:
    """Entropy (nats) of each router at every token, and probability of the first choice minus that of the second."""
    norm = math.sqrt((2 * (1 + _SECOND**2)) / (2 * N_EXPERTS) + 1e-5)
    logits = np.array([SHARPNESS / norm, _SECOND * SHARPNESS / norm, *[0.0] * (N_EXPERTS - 2)])
    p = np.exp(logits) / np.exp(logits).sum()
    return float(-(p * np.log(p)).sum()), float(p[0] - p[1])


def planted_model(folder: str | Path, top_k: int = 1) -> Path:
    """Save the model; give its checkpoint folder."""
    import torch

    from umbel.config import ModelConfig
    from umbel.data.kmers import KmerTokens
    from umbel.data.tokenizers import describe, hf_tokenizer
    from umbel.model.checkpoint import save_checkpoint
    from umbel.model.hf import new_model

    tokens = KmerTokens(K, overlapping=True)
    config = ModelConfig(
        pattern="Me",
        n_layers=2,
        d_model=2 * N_EXPERTS,
        d_state=4,
        ffn_hidden=8,
        n_experts=N_EXPERTS,
        top_k=top_k,
        vocab_size=tokens.size,
    )
    model = new_model(config, WINDOW_BP, seed=0, tokens=describe(tokens))
    with torch.no_grad():
        embedding = model.backbone.embedding.weight
        embedding.zero_()
        for token, word in enumerate(tokens.words):
            for layer, (first, second) in enumerate(choices_of(word)):
                embedding[token, layer * N_EXPERTS + first] = 1
                embedding[token, layer * N_EXPERTS + second] = _SECOND
        for layer, block in enumerate(model.backbone.layers):
            block.mixer.out_proj.weight.zero_()
            block.ffn.down.zero_()
            block.ffn.router.weight.zero_()
            for expert in range(N_EXPERTS):
                block.ffn.router.weight[expert, layer * N_EXPERTS + expert] = SHARPNESS
    folder = Path(folder)
    save_checkpoint(folder, model, hf_tokenizer(tokens, WINDOW_BP))
    return folder


@dataclass(frozen=True)
class PlantedTruth:
    """What is where in the genome.

    Attributes
    ----------
    letters
        Contig to its upper-case letters.
    classes
        Contig to the class of each base, an index of ``CLASSES``; N is -1. Bases of a class that is not ``other`` go to
        its expert, and no others do, except at the last five bases of a stretch that is read, or before N.
    repeats, coding
        Contig, start, end (0-based half-open), strand of every feature.
    """

    letters: dict[str, str]
    classes: dict[str, np.ndarray]
    repeats: list[tuple[str, int, int, str]]
    coding: list[tuple[str, int, int, str]]


def planted_genome(
    folder: str | Path, n_contigs: int = 4, contig_bp: int = 6_000, seed: int = 0
) -> tuple[Path, Path, PlantedTruth]:
    """Write ``planted.fa`` and ``planted.gff3``; repeats are in lower case, the first contig has a run of 40 N."""
    rng = np.random.default_rng(seed)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    truth = PlantedTruth({}, {}, [], [])
    fasta, rows = [], ["##gff-version 3"]
    for number in range(n_contigs):
        name = f"chr{number + 1}"
        letters = rng.choice(list("ACGT"), contig_bp)
        classes, kept = np.zeros(contig_bp, np.int8), np.zeros(contig_bp, bool)
        place, kind = int(rng.integers(100, 200)), 0
        while place < contig_bp - 700:
            if kind % 2:
                place = _plant_repeat(rng, name, letters, classes, kept, place, truth, rows)
            else:
                place = _plant_gene(rng, name, letters, classes, kept, place, "+-"[kind // 2 % 2], truth, rows)
            place, kind = place + int(rng.integers(80, 300)), kind + 1
        if number == 0:
            letters[-120:-80], classes[-120:-80] = "N", -1
        text = _cleared(rng, letters, classes, kept)
        truth.letters[name], truth.classes[name] = text, classes
        soft = "".join(c.lower() if k == CLASSES.index("repeat") else c for c, k in zip(text, classes, strict=True))
        fasta += [f">{name}", *(soft[i : i + 60] for i in range(0, contig_bp, 60))]
    (folder / "planted.fa").write_text("\n".join(fasta) + "\n")
    (folder / "planted.gff3").write_text("\n".join(rows) + "\n")
    return folder / "planted.fa", folder / "planted.gff3", truth


def _row(contig: str, kind: str, start: int, end: int, strand: str, attributes: str) -> str:
    phase = "0" if kind == "CDS" else "."
    return "\t".join((contig, "planted", kind, str(start + 1), str(end), ".", strand, phase, attributes))


def _plant_repeat(rng, name, letters, classes, kept, start, truth, rows) -> int:
    """A tandem repeat; it goes on for five bases, so that the last word that begins in it is whole."""
    length = int(rng.integers(60, 300))
    shift = int(rng.integers(K))
    letters[start : start + length + K - 1] = list((REPEAT_UNIT * 60)[shift : shift + length + K - 1])
    classes[start : start + length] = CLASSES.index("repeat")
    kept[start : start + length + K - 1] = True
    rows.append(_row(name, "repeat_region", start, start + length, "+", f"ID=repeat{len(truth.repeats)};Name=tandem"))
    truth.repeats.append((name, start, start + length, "+"))
    return start + length + K - 1


def _plant_gene(rng, name, letters, classes, kept, start, strand, truth, rows) -> int:
    """A gene of two coding exons with 30 bases of UTR at either end and an intron of 80."""
    gene, codons = f"gene{len(truth.coding) // 2}", rng.integers(25, 70, 2)
    coding = [(start + 30, start + 30 + 3 * int(codons[0]))]
    coding.append((coding[0][1] + 80, coding[0][1] + 80 + 3 * int(codons[1])))
    end = coding[1][1] + 30
    rows.append(_row(name, "gene", start, end, strand, f"ID={gene}"))
    rows.append(_row(name, "mRNA", start, end, strand, f"ID={gene}.1;Parent={gene}"))
    for first, last in ((start, coding[0][1]), (coding[1][0], end)):
        rows.append(_row(name, "exon", first, last, strand, f"Parent={gene}.1"))
    for first, last in coding:
        rows.append(_row(name, "CDS", first, last, strand, f"Parent={gene}.1"))
        purines = rng.choice(list("AG"), (last - first) // 3 + 2)
        text = "".join(f"{x}CT" if strand == "+" else f"AG{'T' if x == 'A' else 'C'}" for x in purines)
        letters[first : last + K - 1] = list(text[: last - first + K - 1])
        positions = np.arange(last - first) % 3
        classes[first:last] = CLASSES.index("codon 1") + (positions if strand == "+" else 2 - positions)
        kept[first : last + K - 1] = True
        truth.coding.append((name, first, last, strand))
    return end


def _cleared(rng, letters, classes, kept) -> str:
    """Change bases between the features until no word with an expert of its own begins there."""
    while True:
        text = "".join(letters)
        astray = [i for i in range(len(text) - K + 1) if text[i : i + K] in SPECIAL and classes[i] <= 0]
        if not astray:
            return text
        for start in astray:
            free = start + np.flatnonzero(~kept[start : start + K])
            letters[rng.choice(free)] = rng.choice(list("ACGT"))
