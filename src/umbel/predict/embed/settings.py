"""How a file is cut into windows, and what becomes one row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from umbel.errors import ConfigError
from umbel.predict.choices import Pooling, Strand, require_embedding_pooling, require_layer
from umbel.predict.predictor import Predictor


@dataclass(frozen=True)
class EmbedSettings:
    """How a file is cut, read and pooled.

    Attributes
    ----------
    per
        ``window``: one row a window. ``sequence``: one row a record or region, the mean over the real bases
        of all its windows.
    window_bp, stride_bp
        Length and distance of windows; 0 takes the model's training window, and windows side by side. A last
        shorter window holds the rest; a rest shorter than one token of the model joins the window before it.
    strand, layer, pooling
        See :meth:`~umbel.predict.predictor.Predictor.embed`.

    Raises
    ------
    ConfigError
        If one has a value that it cannot have.
    """

    per: Literal["window", "sequence"] = "window"
    window_bp: int = 0
    stride_bp: int = 0
    strand: Strand = "both"
    layer: int = -1
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        if self.per not in ("window", "sequence"):
            raise ConfigError(f"--per {self.per}: use window or sequence")
        if self.strand not in ("forward", "revcomp", "both"):
            raise ConfigError(f"--strand {self.strand}: use forward, revcomp or both")
        if self.window_bp < 0 or self.stride_bp < 0:
            raise ConfigError("--window-bp and --stride-bp must not be negative")
        require_embedding_pooling(self.pooling)

    def resolved(self, predictor: Predictor) -> EmbedSettings:
        """Fill in what comes from the model.

        Raises
        ------
        ConfigError
            If the model has no such layer, a window is shorter than one of its tokens, or bases would be left out.
        """
        require_layer(self.layer, predictor.config.n_layers)
        window_bp = self.window_bp or predictor.window_bp
        stride_bp = self.stride_bp or window_bp
        if stride_bp > window_bp:
            raise ConfigError(f"--stride-bp {stride_bp} is beyond --window-bp {window_bp}: bases would be left out")
        if window_bp < predictor.min_bases:
            raise ConfigError(
                f"--window-bp {window_bp} is below the {predictor.min_bases} bases of this model's tokens"
            )
        return replace(self, window_bp=window_bp, stride_bp=stride_bp)
