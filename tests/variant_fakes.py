"""A predictor whose likelihoods are planted, and small genomes and VCF files to score with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from umbel.data.kmers import KmerTokens

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


class PlantedPredictor:
    """Every base costs ``per_base``, and by chance more or less as its two neighbours on either side decide."""

    def __init__(self, per_base: float = -1.0, noise: float = 0.3, window_bp: int = 256):
        self.per_base, self.window_bp, self.min_bases = per_base, window_bp, 1
        self.tokens, self.weights_hash, self.device = KmerTokens(1), "planted", "cpu"
        self.precision, self.source = "fp32", None
        self._noise = np.random.default_rng(3).normal(size=(5**5, 4)) * noise
        self.calls: list[int] = []

    def _rows(self, codes):
        around = np.pad(codes.astype(np.int64), 2, constant_values=4)
        context = sum(around[2 + shift : len(codes) + 2 + shift] * 5 ** (shift + 2) for shift in (-2, -1, 1, 2))
        return (self.per_base + self._noise[context]).astype(np.float32)

    def masked_log_probs(self, codes, hidden, strand="forward"):
        assert strand == "both"
        self.calls.append(len(codes))
        return [self._rows(sequence)[mask] for sequence, mask in zip(codes, hidden, strict=True)]

    def pseudo_log_probs(self, codes, phases, strand="forward"):
        assert strand == "both"
        self.calls.append(len(codes))
        return [self._rows(sequence) for sequence in codes]

    def embed(self, codes, strand="both"):
        self.calls.append(len(codes))
        return np.array([np.bincount(sequence, minlength=5)[:4] / len(sequence) for sequence in codes], np.float32)


def random_letters(seed: int, length: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def write_genome(folder: Path, contigs: dict[str, str], name: str = "genome.fa") -> Path:
    path = folder / name
    path.write_text("".join(f">{contig}\n{letters}\n" for contig, letters in contigs.items()))
    return path


def write_vcf(folder: Path, rows: Sequence[str], header: Sequence[str] = (), name: str = "in.vcf") -> Path:
    """Rows of words divided by blanks; the first row tells by its length whether there are samples."""
    rows = ["\t".join(row.split()) for row in rows]
    samples = rows[0].count("\t") - 8 if rows else -1
    columns = COLUMNS + ("" if samples < 0 else "\tFORMAT" + "".join(f"\ts{i}" for i in range(samples)))
    path = folder / name
    path.write_text("\n".join(["##fileformat=VCFv4.2", *header, columns, *rows]) + "\n")
    return path
