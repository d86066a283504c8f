"""Expert tracks: which expert of a layer a base goes to, and how undecided the router is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from umbel.errors import ConfigError
from umbel.genome.sequence import Codes
from umbel.predict.choices import Strand, require_strand
from umbel.predict.gates import read_gates, require_expert_layer
from umbel.predict.predictor import Predictor
from umbel.predict.scan.readouts import Reading, bin_means
from umbel.predict.tracks.track import PRECISION, Track

ExpertMeasure = Literal["weight", "tokens"]
NO_EXPERT = 255
"""The label of a base that is N."""


class ExpertTracks:
    """Share of each expert in bins, entropy of the router, and the dominant expert of every base.

    The shares of a bin are means over its real bases and add up to 1 over the experts.

    Parameters
    ----------
    predictor
        A model with experts.
    layer
        Index in the backbone; the last layer with experts by default.
    bin_bp
        Bases of a bin.
    measure
        ``weight``: by gate weight; ``tokens``: by how often an expert was among the chosen.
    strand
        ``both`` averages the two readings of each base.

    Raises
    ------
    ConfigError
        If the layer has no experts.
    """

    def __init__(
        self,
        predictor: Predictor,
        layer: int | None = None,
        bin_bp: int = 50,
        measure: ExpertMeasure = "weight",
        strand: Strand = "forward",
    ):
        require_strand(strand)
        if measure not in ("weight", "tokens"):
            raise ConfigError(f"measure is {measure!r}: use weight or tokens")
        if predictor.n_experts > NO_EXPERT:
            raise ConfigError(f"{predictor.n_experts} experts: the dominant one is told for up to {NO_EXPERT}")
        self.layer = require_expert_layer(predictor, layer)
        self._predictor, self._measure, self._strand, self.step_bp = predictor, measure, strand, bin_bp
        self.min_bases = predictor.min_bases
        self.label_names = tuple(f"E{expert}" for expert in range(predictor.n_experts))
        of = "gate weight" if measure == "weight" else "tokens"
        shares = (
            Track(
                f"layer{self.layer}_{name}",
                f"layer {self.layer}, share of {of} of {name}",
                "share",
                0.0,
                1.0,
                PRECISION,
            )
            for name in self.label_names
        )
        most = float(np.log2(predictor.n_experts)) or 1.0
        entropy = Track(
            f"layer{self.layer}_entropy", f"layer {self.layer}, entropy of the router", "bit", 0.0, most, PRECISION
        )
        self.tracks = (*shares, entropy)

    @property
    def facts(self) -> dict[str, Any]:
        """Weights, layer, bins, measure and strand."""
        return {
            "weights": self._predictor.weights_hash,
            "layer": self.layer,
            "bin_bp": self.step_bp,
            "measure": self._measure,
            "strand": self._strand,
        }

    def read(self, codes: Sequence[Codes]) -> list[Reading]:
        """Read windows; see :class:`umbel.predict.scan.readouts.Readout`."""
        readings = []
        for gates, sequence in zip(read_gates(self._predictor, codes, self.layer, self._strand), codes, strict=True):
            shares = gates.shares if self._measure == "weight" else gates.chosen
            values = bin_means(np.vstack([shares.T, gates.entropy]), sequence, self.step_bp)
            labels = np.where(sequence < 4, gates.dominant, NO_EXPERT).astype(np.uint8)
            readings.append(Reading(values, labels))
        return readings
