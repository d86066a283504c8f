"""What of the assemblies a corpus keeps, and how it is cut."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from umbel.config.values import STRICT, Count, Fraction, Natural


@dataclass(frozen=True, config=STRICT)
class RepeatsConfig:
    """How repeats are found where the manifest asks for an assembly's own k-mer counts (``repeat_mask = "kmer"``)."""

    k: Annotated[int, Field(ge=0, le=31)] = 0
    """Bases of a k-mer; 0 takes the least k at which a random genome of that size would repeat few: see
    :func:`umbel.data.corpus.masks.repeat_k`."""
    min_copies: Annotated[int, Field(ge=2, le=255)] = 3
    """A k-mer seen so often, on either strand, is a repeat; times the subgenomes that the manifest tells, because
    homeologs are copies too."""
    gap_bp: Natural = 50
    """Repeats nearer than this become one."""


@dataclass(frozen=True, config=STRICT)
class DuplicatesConfig:
    """Which stretches count as copies of each other, from sketches of their k-mers."""

    ani: Fraction = 0.95
    """Average nucleotide identity from which on two stretches are copies; 0 looks for none. A share ``ani ** k`` of
    one's k-mers must be in the other."""
    k: Annotated[int, Field(ge=11, le=31)] = 21
    scaled: Count = 64
    """One in so many k-mers is kept in a sketch."""
    segment_bp: Annotated[int, Field(ge=256)] = 8_192
    """Contigs are compared in segments of this length; a copy is found at whatever offset."""
    max_copies: Annotated[int, Field(ge=2)] = 50
    """K-mers in more segments than this are not compared, or transposons would be compared all with all."""
    min_hashes: Annotated[int, Field(ge=4)] = 16
    """A segment with fewer k-mers left in its sketch is not judged, and counted."""
    scope: Literal["all", "species"] = "all"
    """Remove copies from training across species, or only those within one. Across roles they always go."""


@dataclass(frozen=True, config=STRICT)
class SplitConfig:
    """Which contigs validate and test, where the manifest does not say it for an assembly."""

    valid_frac: Fraction = 0.0
    """Share of an assembly's bases, as whole contigs or homeologous groups, that validate."""
    test_frac: Fraction = 0.0
    seed: Natural = 0
    valid_species: tuple[str, ...] = ()
    """Species all of whose contigs validate, whatever the manifest says."""
    test_species: tuple[str, ...] = ()
    valid_families: tuple[str, ...] = ()
    test_families: tuple[str, ...] = ()
    drop_copies: bool = True
    """Leave out of training what has a copy in a held-out role, and out of validation what has one in the test."""

    def __post_init__(self) -> None:
        if self.valid_frac + self.test_frac >= 1:
            raise ValueError("split.valid_frac and split.test_frac must add up to less than 1")


@dataclass(frozen=True, config=STRICT)
class CorpusConfig:
    """What of the assemblies is kept, and how it is cut into windows."""

    window_bp: Count = 32_768
    overlap_bp: Annotated[int, Field(ge=0, le=128)] = 128
    """Bases shared by neighbouring windows; PlantBiMoE's share 64 to 128, HyenaMoE's none."""
    max_n_frac: Fraction = 0.02
    """Windows with a larger share of N are dropped, and counted."""
    min_window_bp: Count = 64
    """The last, shorter window of a stretch is kept from this length on, else counted as lost."""
    split_n_bp: Natural = 100
    """Cut contigs at runs of at least so many N (gaps between contigs have 100 by custom), so that no window holds one;
    0 cuts nowhere, as published."""
    min_contig_bp: Natural = 0
    """Contigs below this length are left out."""
    min_n50_bp: Natural = 50_000
    """Assemblies with a lower contig N50 are left out, but for the best of its species."""
    screen_share: Fraction = 0.5
    """A contig with this share of its k-mers in a screen of the manifest (organelles, contaminants) is left out."""
    repeats: RepeatsConfig = dataclasses.field(default_factory=RepeatsConfig)
    duplicates: DuplicatesConfig = dataclasses.field(default_factory=DuplicatesConfig)
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        if self.overlap_bp >= self.window_bp:
            raise ValueError(f"overlap_bp {self.overlap_bp} must be below window_bp {self.window_bp}")
