"""How the zero-shot benchmark draws, scores and compares."""

from __future__ import annotations

from dataclasses import dataclass

from umbel.errors import ConfigError
from umbel.genome.genetic_code import genetic_code


@dataclass(frozen=True)
class ZeroShotSettings:
    """Settings of the benchmark.

    Attributes
    ----------
    n_per_class
        Substitutions of each class.
    per_gene
        At most so many of each class from one gene: more genes mean narrower intervals.
    contigs
        Only genes or records on these; empty: on all.
    code
        Genetic code: 1, or 11 for plastids.
    common_af, rare_af
        Of alleles: from what frequency on one is common, and up to which it is rare; one that was seen once is rare.
    block_bp
        Alleles within so many bases are resampled together.
    window_bp
        As for ``umbel variants``.
    n_random
        Networks with random weights.
    fit_bp
        Most bases that the Markov model counts.
    n_draws, seed
        Of the bootstrap, and of everything that is drawn.
    note
        Words for the report: whether the model saw this genome in training, for example.
    """

    n_per_class: int = 500
    per_gene: int = 4
    contigs: tuple[str, ...] = ()
    code: int = 1
    common_af: float = 0.05
    rare_af: float = 0.0
    block_bp: int = 100_000
    window_bp: int = 0
    n_random: int = 3
    fit_bp: int = 100_000_000
    n_draws: int = 1000
    seed: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        genetic_code(self.code)
        least = {"n_per_class": 1, "per_gene": 1, "block_bp": 1, "window_bp": 0, "n_random": 1, "fit_bp": 1}
        for name, low in {**least, "n_draws": 1, "seed": 0}.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}: give {low} or more")
        if not 0 <= self.rare_af < self.common_af < 1:
            raise ConfigError(
                f"rare_af {self.rare_af:g} and common_af {self.common_af:g}: give frequencies from 0 to 1, the rare "
                "below the common"
            )
