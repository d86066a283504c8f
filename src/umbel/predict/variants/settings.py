"""How variants are scored: which scores, in which windows, against which background."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from umbel.errors import ConfigError
from umbel.genome.variant import Kind
from umbel.predict.phases import N_PASSES

Score = Literal["llr", "pll", "embedding", "head"]
SCORES: tuple[Score, ...] = get_args(Score)

LONGEST_WINDOW_BP = 512
"""Window that is chosen where the model was trained on longer ones: a score costs passes over the whole window."""
LONGEST_ALLELE_BP = 50
SUBSTITUTIONS: tuple[Kind, ...] = ("snv", "mnv")


@dataclass(frozen=True)
class VariantSettings:
    """What to compute for every allele.

    Attributes
    ----------
    scores
        Names of :data:`SCORES`; empty: ``llr`` for substitutions, ``pll`` for all else.
    window_bp
        Bases of the longest window, 0: what the model was trained on, at most 512. On either side of an allele there
        are ``flank_bp`` bases, fewer at the ends of a contig.
    max_allele_bp
        Longer alleles are not scored; 0: 50, at most a quarter of the window.
    n_passes
        Passes over a window for ``pll``, 1 to 200; each hides one base in so many of the flanks.
    background
        Random variants of each class that scores are compared with; 0: none.
    seed
        Of their places and letters.

    Examples
    --------
    >>> VariantSettings(window_bp=512, max_allele_bp=50).flank_bp
    231
    """

    scores: tuple[Score, ...] = ()
    window_bp: int = 0
    max_allele_bp: int = 0
    n_passes: int = N_PASSES
    background: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for score in self.scores:
            if score not in SCORES:
                raise ConfigError(f"--score {score}: there are {', '.join(SCORES)}")
        if len(set(self.scores)) < len(self.scores):
            raise ConfigError(f"--score {','.join(self.scores)} names one twice")
        for name, least in (("window_bp", 0), ("max_allele_bp", 0), ("n_passes", 1), ("background", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}: give {least} or more")
        # Phases are bytes, and the bases of an allele take as many again.
        if self.n_passes > 100:
            raise ConfigError(f"--n-passes is {self.n_passes}: give at most 100")

    @property
    def flank_bp(self) -> int:
        """Bases on either side of an allele, the same for all alleles."""
        return (self.window_bp - self.max_allele_bp) // 2

    def resolved(self, trained_bp: int) -> VariantSettings:
        """Fill in what was left to the model, which was trained on windows of ``trained_bp``.

        Raises
        ------
        ConfigError
            If the window leaves no room around the longest allele.
        """
        window_bp = self.window_bp or min(trained_bp, LONGEST_WINDOW_BP)
        max_allele_bp = self.max_allele_bp or max(1, min(LONGEST_ALLELE_BP, window_bp // 4))
        if 2 * max_allele_bp > window_bp:
            raise ConfigError(
                f"alleles of up to {max_allele_bp} bases need a window of twice that at least, and --window-bp is "
                f"{window_bp}: raise it, or lower --max-allele-bp"
            )
        return replace(self, window_bp=window_bp, max_allele_bp=max_allele_bp)

    def scores_of(self, kind: Kind) -> tuple[Score, ...]:
        """Name the scores that a variant of this kind gets, in a fixed order.

        Examples
        --------
        >>> VariantSettings().scores_of("snv"), VariantSettings(("pll", "llr")).scores_of("deletion")
        (('llr',), ('pll',))
        """
        if not self.scores:
            return ("llr",) if kind in SUBSTITUTIONS else ("pll",)
        return tuple(
            name for name in SCORES if name in self.scores and not (name == "llr" and kind not in SUBSTITUTIONS)
        )

    @property
    def all_scores(self) -> tuple[Score, ...]:
        """Name every score that may occur."""
        return tuple(name for name in SCORES if name in self.scores) or ("llr", "pll")

    def as_dict(self) -> dict[str, object]:
        """Tell the settings as JSON values."""
        scores = ",".join(self.scores) or "llr of substitutions and pll of others"
        return {**asdict(self), "scores": scores}
