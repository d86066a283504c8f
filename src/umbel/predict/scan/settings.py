"""What a scan of tracks is to read, and how: one value that travels to every worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from umbel.errors import ConfigError
from umbel.predict.choices import Strand
from umbel.predict.head import Head
from umbel.predict.phases import N_PASSES
from umbel.predict.predictor import Predictor
from umbel.predict.scan.expert_tracks import ExpertMeasure, ExpertTracks
from umbel.predict.scan.head_tracks import HeadTracks
from umbel.predict.scan.readouts import Readout
from umbel.predict.scan.windows import STRETCH_BP, Tiling
from umbel.predict.scan.zero_shot import ZeroShot

TrackName = Literal["zero-shot", "head", "experts"]
TRACKS: tuple[TrackName, ...] = get_args(TrackName)
FileFormat = Literal["bigwig", "bedgraph"]


@dataclass(frozen=True)
class TrackSettings:
    """What is read along the genome.

    Attributes
    ----------
    track
        ``zero-shot``, ``head`` or ``experts``; see the classes of these names.
    head
        Folder of a tuned model, for ``head``: fine-tuned, adapted, or a probe on a frozen backbone, all alike.
    strand
        None is ``both``, but ``forward`` for ``experts``.
    n_passes
        Of ``zero-shot``.
    layer, bin_bp, measure
        Of ``experts``; None is the last layer with experts.
    window_bp
        0 is the longest window of the model's training.
    overlap_bp
        Bases that neighbouring windows share; -1 is a quarter of the window, and three quarters for heads that say
        one thing of a whole window, whose value is drawn over the ``window_bp - overlap_bp`` bases in its middle.
    stretch_bp
        Bases of a unit of work, about.
    file_format
        ``bigwig`` or ``bedgraph``.
    """

    track: TrackName = "zero-shot"
    head: Path | None = None
    strand: Strand | None = None
    n_passes: int = N_PASSES
    layer: int | None = None
    bin_bp: int = 50
    measure: ExpertMeasure = "weight"
    window_bp: int = 0
    overlap_bp: int = -1
    stretch_bp: int = STRETCH_BP
    file_format: FileFormat = "bigwig"

    def __post_init__(self) -> None:
        if self.track not in TRACKS:
            raise ConfigError(f"--track is {self.track!r}: use {', '.join(TRACKS)} or embeddings")
        if (self.track == "head") != (self.head is not None):
            raise ConfigError("--track head and --head belong together: name the tuned model's folder")
        if self.file_format not in get_args(FileFormat):
            raise ConfigError(f"--format is {self.file_format!r}: use bigwig or bedgraph")
        for name, least in (("bin_bp", 1), ("window_bp", 0), ("overlap_bp", -1), ("stretch_bp", 1), ("n_passes", 1)):
            if getattr(self, name) < least:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} is {getattr(self, name)}: give {least} or more")

    def open(self, predictor: Predictor, head: Head | None = None) -> Readout:
        """Make the way to read the model; ``head`` where that is loaded already."""
        if self.track == "experts":
            return ExpertTracks(predictor, self.layer, self.bin_bp, self.measure, self.strand or "forward")
        if self.head is not None:
            loaded = head or Head.load(self.head, str(predictor.device), predictor.source)
            return HeadTracks(loaded, self.strand or "both")
        return ZeroShot(predictor, self.strand or "both", self.n_passes)

    def resolved(self, readout: Readout, trained_bp: int) -> TrackSettings:
        """Fill in window and overlap.

        Parameters
        ----------
        readout
            How the model is read.
        trained_bp
            Its longest window in training.

        Raises
        ------
        ConfigError
            If a window is shorter than a token or a bin.
        """
        window = self.window_bp or trained_bp
        grain = max(1, readout.step_bp)
        if not self.window_bp:
            window = max(grain, window // grain * grain)
        if window < max(readout.min_bases, grain):
            raise ConfigError(
                f"--window-bp is {window}: this model needs {max(readout.min_bases, grain)} bases at least"
            )
        overlap = self.overlap_bp
        if overlap < 0:
            overlap = min(3 * window // 4 if not readout.step_bp else window // 4, window - grain)
        return replace(self, window_bp=window, overlap_bp=overlap)

    def tiling(self, readout: Readout) -> Tiling:
        """Say where windows lie; of settings that are resolved."""
        return Tiling(self.window_bp, self.overlap_bp, max(1, readout.step_bp))

    def facts(self) -> dict[str, Any]:
        """Give what decides the values, as JSON values."""
        return {
            "track": self.track,
            "window_bp": self.window_bp,
            "overlap_bp": self.overlap_bp,
            "stretch_bp": self.stretch_bp,
        }
