"""An atlas of a genome: stretches with every labelling that its files allow, knocked-out experts, and tracks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from umbel.data.bpe import BpeTokens
from umbel.errors import ConfigError
from umbel.evaluate.experts.atlas import Atlas
from umbel.evaluate.experts.causal.ablation import ablate_all
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.folder import Recording
from umbel.evaluate.experts.labels.named import file_stem
from umbel.evaluate.experts.making import AtlasSettings, make_atlas
from umbel.evaluate.experts.ours import OurModel
from umbel.evaluate.experts.routes import RoutedModel
from umbel.evaluate.experts.source import Source
from umbel.evaluate.experts.sources.genome import GenomeSource
from umbel.evaluate.experts.sources.joined import JoinedSource
from umbel.evaluate.experts.sources.making import genome_source
from umbel.evaluate.experts.statistics.divergence import generalised_js
from umbel.evaluate.experts.totals import MAX_UNITS
from umbel.extras import require_packages
from umbel.files import whole_file
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter

ABLATION, TRACKS, STRETCHES = "ablation", "tracks", "stretches.bed"
NO_TRACKS, BEST_LAYER = -2, -1
_EMBED_MB = 16.0


@dataclass(frozen=True)
class GenomeFiles:
    """A genome and what is known of it; see :func:`umbel.evaluate.experts.sources.making.genome_source`.

    Attributes
    ----------
    beside
        Name to FASTA and GFF3 (or None) of further genomes, of which as many stretches are taken; ``contigs``,
        ``regions`` and the other files are of the first.
    """

    fasta: Path
    annotation: Path | None = None
    repeats: Path | None = None
    tracks: Mapping[str, Path] = field(default_factory=dict)
    features: Sequence[str] = ()
    beds: Sequence[Path] = ()
    groups: Path | None = None
    contigs: Sequence[str] = ()
    regions: Path | None = None
    beside: Mapping[str, tuple[Path, Path | None]] = field(default_factory=dict)

    @contextmanager
    def open(self, stretch_bp: int, n_stretches: int, seed: int) -> Iterator[tuple[Source, GenomeSource]]:
        """Choose stretches of every genome and label them; the second is the part of the first genome."""
        with ExitStack() as stack:
            max_units = MAX_UNITS // (1 + len(self.beside))
            first = stack.enter_context(
                genome_source(
                    self.fasta,
                    self.annotation,
                    repeats=self.repeats,
                    tracks=dict(self.tracks),
                    features=self.features,
                    beds=self.beds,
                    groups=self.groups,
                    stretch_bp=stretch_bp,
                    n_stretches=n_stretches,
                    seed=seed,
                    contigs=self.contigs,
                    regions=self.regions,
                    max_units=max_units,
                )
            )
            if not self.beside:
                yield first, first
                return
            sources = {file_stem(self.fasta): first}
            for name, (fasta, annotation) in self.beside.items():
                if name in sources:
                    raise ConfigError(f"two genomes are called {name!r}: give one of them another name")
                other = genome_source(
                    fasta, annotation, stretch_bp=stretch_bp, n_stretches=n_stretches, seed=seed, max_units=max_units
                )
                sources[name] = stack.enter_context(other)
            yield JoinedSource(sources), first


def make_genome_atlas(
    model: RoutedModel,
    predictor: Predictor | None,
    files: GenomeFiles,
    out: str | Path,
    settings: AtlasSettings | None = None,
    *,
    stretch_bp: int = 65_536,
    n_stretches: int = 32,
    n_ablated: int = 256,
    track_layer: int = BEST_LAYER,
    n_random: int = 1,
    reporter: Reporter | None = None,
) -> Atlas:
    """Make an atlas of a genome; a stopped one goes on.

    Parameters
    ----------
    model
        What routes.
    predictor
        The same model where it is ours: only then are experts knocked out, and tracks written.
    files
        The genome.
    out
        A folder.
    stretch_bp, n_stretches
        See :class:`~umbel.evaluate.experts.sources.genome.GenomeSource`.
    n_ablated
        Windows on which each expert is knocked out; 0: none.
    track_layer
        Layer of the tracks; -1: the one whose choices differ most between classes; -2: no tracks.
    n_random
        Networks of the same shape with random weights that are recorded too, each as long as the model.

    Raises
    ------
    InputError, ConfigError
        If a file is wrong, or the folder holds an atlas of something else.
    """
    settings, folder = settings or AtlasSettings(), Path(out)
    if predictor is not None and track_layer != NO_TRACKS:
        require_packages("umbel experts", "tracks", ("pyBigWig", "jinja2"))
    why_not = why_no_knock_outs(predictor)
    notes = [f"No expert was knocked out: {why_not}."] if n_ablated and why_not else []
    with files.open(stretch_bp, n_stretches, settings.seed) as (source, first):
        notes += source.facts.get("notes", [])

        def ablation() -> list[dict[str, Any]]:
            assert predictor is not None
            # Windows of their own, because an edit is measured on whole windows of the model.
            with files.open(predictor.window_bp, n_ablated, settings.seed) as (windows, _):
                causal = CausalSettings(seed=settings.seed, n_draws=settings.n_draws)
                return ablate_all(predictor, windows, folder / ABLATION, settings=causal, reporter=reporter).rows()

        def tracks(recording: Recording) -> list[str]:
            assert predictor is not None
            return _write_tracks(predictor, recording, first, files, folder, track_layer, reporter)

        return make_atlas(
            model,
            source,
            folder,
            settings,
            twins=random_twins(predictor, n_random, settings.seed),
            ablation=ablation if n_ablated and not why_not else None,
            tracks=tracks if predictor is not None and track_layer != NO_TRACKS else None,
            notes=notes,
            reporter=reporter,
        )


def why_no_knock_outs(predictor: Predictor | None) -> str:
    """Say why experts of this model cannot be knocked out; empty where they can."""
    if predictor is None:
        return "that, and tracks, are for models of ours"
    if predictor.config.top_k == predictor.n_experts:
        return "every token takes all of them"
    if isinstance(predictor.tokens, BpeTokens):
        return "its tokens are learnt words, and there is no loss of a single base"
    return ""


def random_twins(predictor: Predictor | None, n: int, seed: int) -> list[OurModel]:
    """Make networks of the same shape with random weights; none of other people's models."""
    return [] if predictor is None else [OurModel(predictor.with_random_weights(seed + i)) for i in range(n)]


def most_telling_layer(recording: Recording) -> int:
    """Find the layer whose choices differ most between the classes of a labelling of bases.

    By the generalised Jensen-Shannon divergence, the largest over labellings; the last layer where there are none.
    """
    best, layer = 0.0, recording.sites[-1].layer
    for site, sums in zip(recording.sites, recording.totals.sites, strict=True):
        for labelling in recording.labellings:
            if labelling.level == "base":
                found = float(generalised_js(sums.joint[labelling.name].sum(0)))
                if found > best:
                    best, layer = found, site.layer
    return layer


def _write_tracks(
    predictor: Predictor,
    recording: Recording,
    source: GenomeSource,
    files: GenomeFiles,
    folder: Path,
    layer: int,
    reporter: Reporter | None,
) -> list[str]:
    from umbel.predict.scan.settings import TrackSettings

    regions = folder / STRETCHES
    with whole_file(regions) as temporary:
        lines = (f"{place.contig}\t{place.start}\t{place.end}\n" for place in source.stretches)
        temporary.write_text("".join(lines), encoding="utf-8")
    told = recording.facts["settings"]
    chosen = most_telling_layer(recording) if layer == BEST_LAYER else layer
    scan = predictor.scan(
        files.fasta,
        folder / TRACKS,
        settings=TrackSettings(
            track="experts", layer=chosen, window_bp=told["window_bp"], overlap_bp=told["overlap_bp"]
        ),
        regions=regions,
        annotation=files.annotation,
        embed_mb=_EMBED_MB,
        reporter=reporter,
    )
    return [f"{TRACKS}/igv.html", *sorted(f"{TRACKS}/{name}" for name in scan.facts["files"].values())]
