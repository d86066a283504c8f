"""Assemblies with planted copies, gaps and repeats, and where they are: what a corpus build must find."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from umbel.genome.sequence import decode, revcomp

SEGMENT_BP = 2_048


def random_codes(rng: np.random.Generator, length: int) -> np.ndarray:
    return rng.integers(0, 4, length).astype(np.uint8)


def mutated(rng: np.random.Generator, codes: np.ndarray, share: float) -> np.ndarray:
    """A copy in which each base is another one with chance ``share``."""
    copy = codes.copy()
    hit = rng.random(len(codes)) < share
    copy[hit] = (copy[hit] + rng.integers(1, 4, hit.sum())) % 4
    return copy


def write_planted_project(folder: Path) -> Path:
    """Two species with a 20-kbp copy between them (reversed, 2 % changed), and a 12-kbp copy of the test in training.

    ``una`` has the contigs one (train: 80 kbp), two (valid: 20 kbp) and three (test: 30 kbp); ``alia`` has one
    (train: 60 kbp), with a gap of 500 N at 50,000. Its bases 10,001 to 30,001 are a copy of una's 30,000 to 50,000;
    una's 60,001 to 72,001 a copy of the test's 5,000 to 17,000. The validation's 2,000 to 9,000 are a copy of the
    test's 20,000 to 27,000.
    """
    rng = np.random.default_rng(7)
    una = {name: random_codes(rng, length) for name, length in (("one", 80_000), ("two", 20_000), ("three", 30_000))}
    alia = {"one": random_codes(rng, 60_000)}
    alia["one"][10_001:30_001] = revcomp(mutated(rng, una["one"][30_000:50_000], 0.02))
    una["one"][60_001:72_001] = mutated(rng, una["three"][5_000:17_000], 0.01)
    una["two"][2_000:9_000] = una["three"][20_000:27_000]
    alia["one"][50_000:50_500] = 4
    folder.mkdir(parents=True, exist_ok=True)
    for name, contigs in (("una", una), ("alia", alia)):
        text = "".join(f">{contig}\n{decode(codes)}\n" for contig, codes in contigs.items())
        (folder / f"{name}.fa").write_text(text)
    (folder / "manifest.toml").write_text(
        """
[[assembly]]
species = "Planta una"
family = "Unaceae"
assembly = "una"
fasta = "una.fa"
contigs = { train = ["one"], valid = ["two"], test = ["three"] }

[[assembly]]
species = "Planta alia"
family = "Aliaceae"
assembly = "alia"
fasta = "alia.fa"
contigs.train = ["*"]
"""
    )
    return folder / "manifest.toml"
