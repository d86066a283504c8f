"""How a region is mutated."""

from __future__ import annotations

from dataclasses import dataclass, replace

from umbel.errors import ConfigError
from umbel.predict.phases import N_PASSES
from umbel.predict.variants.settings import VariantSettings


@dataclass(frozen=True)
class IsmSettings:
    """Windows and kinds of mutations.

    Attributes
    ----------
    window_bp
        As for ``umbel variants``: 0 takes its default. On either side of a base there is what that leaves to an SNV.
    deletions
        Score the deletion of each base, too, by the pseudo-likelihood of the window.
    n_passes
        Passes over a window for a deletion.
    flank_bp
        Bases on either side; 0: to be resolved.

    Examples
    --------
    >>> IsmSettings(window_bp=512).resolved(trained_bp=512).flank_bp
    231
    """

    window_bp: int = 0
    deletions: bool = False
    n_passes: int = N_PASSES
    flank_bp: int = 0

    def __post_init__(self) -> None:
        if self.flank_bp < 0:
            raise ConfigError("flank_bp must not be negative")
        VariantSettings(window_bp=self.window_bp, n_passes=self.n_passes)

    def resolved(self, trained_bp: int) -> IsmSettings:
        """Fill in the window that ``umbel variants`` takes for a model trained on ``trained_bp``."""
        found = VariantSettings(window_bp=self.window_bp, n_passes=self.n_passes).resolved(trained_bp)
        return replace(self, window_bp=found.window_bp, flank_bp=found.flank_bp)
