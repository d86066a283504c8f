"""A trained model ready for use: everything the command line does with one is one call here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from umbel.predict.precision import Precision
from umbel.predict.sequences import SequencePredictor

if TYPE_CHECKING:
    import pyarrow as pa

    from umbel.genome.interval import Interval
    from umbel.genome.reference import Reference
    from umbel.predict.embed.file import EmbedResult
    from umbel.predict.embed.picture import PictureSettings
    from umbel.predict.embed.settings import EmbedSettings
    from umbel.predict.head import Head
    from umbel.predict.ism.result import IsmResult
    from umbel.predict.ism.settings import IsmSettings
    from umbel.predict.scan.embeddings import ScanResult, ScanSettings
    from umbel.predict.scan.genome_scan import TrackScan
    from umbel.predict.scan.settings import TrackSettings
    from umbel.predict.search.query import SearchResult
    from umbel.predict.tracks.calls import CallSettings
    from umbel.predict.variants.scoring import VariantsResult
    from umbel.predict.variants.settings import VariantSettings
    from umbel.progress import Reporter


class Predictor(SequencePredictor):
    """A masked language model and everything one asks of it without training.

    What is asked of single sequences is in :class:`~umbel.predict.sequences.SequencePredictor`; loading, device and
    precision are in :class:`~umbel.predict.loaded.LoadedModel`.
    """

    def score_variants(
        self,
        vcf: str | Path,
        reference: str | Path,
        out: str | Path | None = None,
        *,
        settings: VariantSettings | None = None,
        head: Head | str | Path | None = None,
        contig_map: str | Path | None = None,
        background_file: str | Path | None = None,
        reporter: Reporter | None = None,
    ) -> VariantsResult | pa.Table:
        """Score the variants of a VCF file: :func:`umbel.predict.variants.scoring.score_variants`.

        Without ``out`` a table is given that has a row for each record and allele, and nothing is written.
        """
        from umbel.predict.variants import scoring

        return scoring.score_or_give(
            self,
            vcf,
            reference,
            out,
            settings=settings,
            head=head,
            contig_map=contig_map,
            background_file=background_file,
            reporter=reporter,
        )

    def embed_file(
        self,
        source: str | Path,
        out: str | Path,
        *,
        fasta: str | Path | None = None,
        regions: Sequence[str] = (),
        settings: EmbedSettings | None = None,
        search: str | Path | None = None,
        species: str = "",
        picture: PictureSettings | None = None,
        reporter: Reporter | None = None,
    ) -> EmbedResult:
        """Embed a FASTA, regions of it, or a BED on ``fasta``; see :func:`umbel.predict.embed.embed_file`."""
        from umbel.predict.embed.file import embed_file

        return embed_file(
            self,
            source,
            out,
            fasta=fasta,
            regions=regions,
            settings=settings,
            search=search,
            species=species,
            picture=picture,
            reporter=reporter,
        )

    def search(
        self,
        index: str | Path,
        query: str | Path,
        *,
        fasta: str | Path | None = None,
        k: int = 10,
        species: str = "",
        contig: str = "",
        interval: str = "",
        approximate: bool = False,
    ) -> SearchResult:
        """Find the rows of an index that are most like a query; see :func:`umbel.predict.search.search`."""
        from umbel.predict.search.query import search

        return search(
            self,
            index,
            query,
            fasta=fasta,
            k=k,
            species=species,
            contig=contig,
            interval=interval,
            approximate=approximate,
        )

    def ism(
        self,
        reference: str | Path | Reference,
        region: str | Interval | None = None,
        out: str | Path | None = None,
        *,
        settings: IsmSettings | None = None,
        head: Head | str | Path | None = None,
        reporter: Reporter | None = None,
    ) -> IsmResult:
        """Score every substitution of a region; see :func:`umbel.predict.ism.mutate.mutate_region`."""
        from umbel.predict.ism.mutate import mutate_region

        return mutate_region(self, reference, region, out, settings=settings, head=head, reporter=reporter)

    def scan(
        self,
        reference: str | Path,
        out: str | Path,
        *,
        settings: TrackSettings | None = None,
        regions: str | Path | None = None,
        contigs: Sequence[str] = (),
        calls: CallSettings | None = None,
        annotation: str | Path | None = None,
        page: bool = True,
        embed_mb: float = 48.0,
        tolerance: float | None = None,
        workers: int = 1,
        devices: Sequence[str] = (),
        threads: int = 0,
        reporter: Reporter | None = None,
    ) -> TrackScan:
        """Write tracks along a genome; see :func:`umbel.predict.scan.genome_scan.scan_tracks`."""
        from umbel.predict.scan.genome_scan import scan_tracks

        return scan_tracks(
            self,
            reference,
            out,
            settings=settings,
            regions=regions,
            contigs=contigs,
            calls=calls,
            annotation=annotation,
            page=page,
            embed_mb=embed_mb,
            tolerance=tolerance,
            workers=workers,
            devices=devices,
            threads=threads,
            reporter=reporter,
        )

    def scan_embeddings(
        self,
        source: str | Path,
        out: str | Path,
        *,
        settings: ScanSettings | None = None,
        reporter: Reporter | None = None,
    ) -> ScanResult:
        """Embed bins along whole contigs; see :func:`umbel.predict.scan.embeddings.scan_embeddings`."""
        from umbel.predict.scan.embeddings import scan_embeddings

        return scan_embeddings(self, source, out, settings=settings, reporter=reporter)


def load(path: str | Path, device: str = "auto", precision: Precision = "fp32") -> Predictor:
    """Load a model for use; the short form of :meth:`Predictor.load`."""
    return Predictor.load(path, device, precision)
