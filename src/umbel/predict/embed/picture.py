"""A picture of embeddings, and beside it the numbers that say whether there is anything to see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from umbel.errors import ConfigError
from umbel.extras import require_packages
from umbel.files import whole_file
from umbel.genome.interval import Interval
from umbel.predict.embed.classes import Classes, by_annotation, by_contig
from umbel.predict.embed.computing import all_vectors
from umbel.predict.embed.projection import Plane, Projection, project
from umbel.predict.embed.purity import kmer_composition, neighbour_purity
from umbel.predict.embed.rows import embeddings, rows
from umbel.predict.embed.settings import EmbedSettings
from umbel.predict.embed.source import Source
from umbel.predict.embed.windows import Windows
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter

SHOWN = 5_000
"""Most points of a picture."""
COMPARED = 1_000
"""Most rows whose neighbours are looked for."""
COMPARED_BASES = 2**22
"""Most bases of these, because the random weights compute them again."""


@dataclass(frozen=True)
class Purity:
    """Share of the 10 nearest neighbours that are of a row's own class: this model, two baselines, and chance; 0 to 1.

    Attributes
    ----------
    n_rows
        Rows that were compared.
    """

    model: float
    kmers: float
    random_weights: float
    chance: float
    n_rows: int

    def in_words(self) -> str:
        """Say it in a line."""
        return (
            f"nearest neighbours of the same class: this model {self.model:.2f}, 4-mer composition {self.kmers:.2f}, "
            f"random weights {self.random_weights:.2f}, chance {self.chance:.2f}"
        )


@dataclass(frozen=True)
class Picture:
    """What was drawn: points, of how many rows, how many of each class, and how pure neighbourhoods are.

    ``purity`` is None where fewer than two classes have more than 10 rows.
    """

    path: Path
    n_shown: int
    n_rows: int
    classes: dict[str, int]
    purity: Purity | None


@dataclass(frozen=True)
class PictureSettings:
    """What to draw.

    Attributes
    ----------
    path
        ``.png`` or ``.svg``.
    projection
        ``pca`` or ``umap``.
    annotation
        GFF3 of the genome, whose region classes give the colours; None colours by contig.
    seed
        Of the choice of points, the random weights and UMAP.

    Raises
    ------
    ConfigError
        If the suffix or the projection is another.
    """

    path: Path
    projection: Projection = "pca"
    annotation: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.path.suffix not in (".png", ".svg"):
            raise ConfigError(f"--picture {self.path}: end the name in .png or .svg")
        if self.projection not in ("pca", "umap"):
            raise ConfigError(f"--projection {self.projection}: use pca or umap")

    def require(self, source: Source) -> None:
        """See, before anything is computed, that what draws is installed and the annotation fits.

        Raises
        ------
        BackendError, AnnotationError
            If it is not, or does not.
        """
        modules = ["matplotlib"] + ["umap"] * (self.projection == "umap")
        require_packages("--picture", "tracks", modules)
        if self.annotation is not None:
            nothing = np.zeros(0, np.int64)
            by_annotation(self.annotation, source.genome.lengths, [], nothing, nothing)

    def draw(
        self,
        predictor: Predictor,
        source: Source,
        windows: Windows,
        settings: EmbedSettings,
        parts: Sequence[Path],
        reporter: Reporter,
    ) -> Picture:
        """Draw a sample of the rows that are in the parts.

        Raises
        ------
        ConfigError
            If fewer than four rows have an embedding.
        """
        shown, n_rows = self._sample(source, windows, settings, parts)
        values = embeddings(shown)
        contigs, starts, ends = shown["contig"].to_pylist(), shown["start"].to_numpy(), shown["end"].to_numpy()
        if self.annotation is None:
            classes = by_contig(contigs)
        else:
            classes = by_annotation(self.annotation, source.genome.lengths, contigs, starts, ends)
        plane = project(values, self.projection, self.seed)
        purity = self._purity(predictor, source, settings, shown, values, classes, reporter)
        kind = "windows" if settings.per == "window" else "sequences"
        of = f" of {n_rows:,}" if len(shown) < n_rows else ""
        layer = "last layer" if settings.layer == -1 else f"layer {settings.layer}"
        title = f"{len(shown):,}{of} {kind} of {source.genome.path.name}\n"
        title += f"{layer}, {settings.pooling}, strand {settings.strand}; weights {predictor.weights_hash[:12]}"
        draw_plane(self.path, plane, classes, title, purity.in_words() if purity else "", self.seed)
        counts = dict(zip(classes.names, classes.counts, strict=True))
        return Picture(self.path, len(shown), n_rows, counts, purity)

    def _sample(
        self, source: Source, windows: Windows, settings: EmbedSettings, parts: Sequence[Path]
    ) -> tuple[pa.Table, int]:
        """Draw rows that have an embedding, in their order; give them and how many there are to draw from."""
        rng = np.random.default_rng(self.seed)
        kept: pa.Table | None = None
        n_rows = 0
        for block in rows(source, windows, settings, parts):
            block = block.filter(pc.is_valid(block["embedding"]))
            n_rows += len(block)
            block = block.append_column("drawn", pa.array(rng.random(len(block))))
            kept = block if kept is None else pa.concat_tables([kept, block])
            if len(kept) > SHOWN:
                limit = np.partition(kept["drawn"].to_numpy(), SHOWN - 1)[SHOWN - 1]
                kept = kept.filter(pc.less_equal(kept["drawn"], limit)).combine_chunks()
        assert kept is not None
        return kept, n_rows

    def _purity(
        self,
        predictor: Predictor,
        source: Source,
        settings: EmbedSettings,
        shown: pa.Table,
        values: np.ndarray,
        classes: Classes,
        reporter: Reporter,
    ) -> Purity | None:
        """Compare neighbourhoods on a sample of what is shown."""
        lengths = shown["end"].to_numpy() - shown["start"].to_numpy()
        order = np.random.default_rng(self.seed).permutation(len(shown))[:COMPARED]
        chosen = np.sort(order[np.cumsum(lengths[order]) <= COMPARED_BASES])
        few = shown.take(chosen)
        contigs, starts, ends = few["contig"].to_pylist(), few["start"].to_numpy(), few["end"].to_numpy()
        of_row = classes.of_row[chosen]

        def purity(features: np.ndarray) -> tuple[float, float]:
            return neighbour_purity(features, of_row, contigs, starts, ends)

        model, chance = purity(values[chosen])
        if math.isnan(model):
            return None
        places = zip(contigs, starts.tolist(), ends.tolist(), few["strand"].to_pylist(), strict=True)
        sample = Source(source.origin, source.genome, [Interval(*place) for place in places])
        # A row that is a window stays one, also where the last window of a sequence was longer.
        window_bp = settings.window_bp if settings.per == "sequence" else int(lengths[chosen].max())
        cut = replace(settings, window_bp=window_bp, stride_bp=min(settings.stride_bp, window_bp))
        windows = sample.windows(cut.window_bp, cut.stride_bp, predictor.min_bases)
        reporter.say(f"random weights on {len(chosen):,} rows, for comparison")
        random = all_vectors(predictor.with_random_weights(self.seed), sample, windows, cut).values
        each = Windows(ends - starts, COMPARED_BASES, COMPARED_BASES)
        kmers = np.stack([kmer_composition(codes) for codes in sample.read(each.cuts(0, len(each)))])
        return Purity(model, purity(kmers)[0], purity(random)[0], chance, len(chosen))


def draw_plane(path: str | Path, plane: Plane, classes: Classes, title: str, caption: str, seed: int = 0) -> None:
    """Draw points in the colours of their classes, with counts in the legend; whole or not at all.

    Points are drawn in random order, so that no class lies on top because it is the last.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from umbel.page import figure_style

    order = np.random.default_rng(seed).permutation(len(plane.points))
    with figure_style(str(path)):
        figure = Figure(figsize=(8.6, 5.9), layout="constrained")
        axes = figure.add_subplot()
        size = float(np.clip(16_000 / len(order), 5, 30))
        colours = np.array(classes.colours)[classes.of_row]
        x, y = plane.points[order].T
        axes.scatter(x, y, s=size, c=colours[order], alpha=0.7, linewidths=0)
        axes.set(xlabel=plane.axes[0], ylabel=plane.axes[1])
        axes.set_title(title, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if plane.axes[0].startswith("UMAP"):
            axes.set(xticks=[], yticks=[])
        marks = [
            Line2D([], [], marker="o", linestyle="", color=colour, label=f"{name}: {count:,}", markersize=7)
            for name, colour, count in zip(classes.names, classes.colours, classes.counts, strict=True)
        ]
        axes.legend(handles=marks, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, borderaxespad=0)
        if caption:
            # A line as long as the drawing is wide, above the legend's column too.
            figure.supxlabel(caption, fontsize=9, color="#45453f", x=0.01, ha="left")
        with whole_file(path) as temporary:
            kind = Path(path).suffix[1:]
            told = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(temporary, format=kind, dpi=160, metadata=told)
