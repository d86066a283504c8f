"""Mutate a region: masked passes part by part, deletions and a head where asked for, and the files of the result."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import umbel
from umbel.errors import BackendError, FastaError, RunError
from umbel.genome.annotation import some_names
from umbel.genome.interval import Interval
from umbel.genome.reference import Reference
from umbel.genome.sequence import BASES, Codes, N
from umbel.genome.variant import Variant, left_normalise
from umbel.predict.head import Head
from umbel.predict.ism.passes import base_log_probs, is_scored, place_window, substitution_scores
from umbel.predict.ism.pictures import write_pictures
from umbel.predict.ism.result import DELETION, IsmResult
from umbel.predict.ism.settings import IsmSettings
from umbel.predict.parts import open_parts, write_part
from umbel.predict.variants.head_score import HeadDifference
from umbel.predict.variants.scores import pseudo_likelihood_differences
from umbel.predict.variants.windows import VariantWindow, cut_window
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.predict.predictor import Predictor

PLACES_PER_PART = 64
"""Positions that are computed and stored together; what a killed run repeats at most."""
PARTS_FOLDER = "ism.parts"

Columns = dict[str, npt.NDArray[Any]]


def mutate_region(
    predictor: Predictor,
    reference: str | Path | Reference,
    region: str | Interval | None = None,
    out: str | Path | None = None,
    *,
    settings: IsmSettings | None = None,
    head: Head | str | Path | None = None,
    reporter: Reporter | None = None,
) -> IsmResult:
    """Score every substitution of a region, from one masked pass a position and strand.

    Each position is hidden alone, in the middle of the window that ``umbel variants`` would give to its SNV; its four
    log-probabilities give all three substitutions, each the ``llr`` of that SNV.

    Parameters
    ----------
    predictor
        The model.
    reference
        FASTA or 2bit, or one that is open already, which then stays open.
    region
        ``chr1:101-300`` (1-based, inclusive) or an interval; None takes the only contig of the reference, whole.
    out
        Folder for ``ism.h5ad``, ``ism.tsv``, ``ism.png`` and ``ism.svg``; None writes nothing. A stopped call
        goes on where it was, with the same bytes in the end.
    settings
        Windows and deletions.
    head
        A tuned model, or where it is: its outputs with and without each substitution are compared as ``umbel
        variants`` does; see :class:`~umbel.predict.variants.head_score.HeadDifference`.
    reporter
        Where progress goes.

    Raises
    ------
    ConfigError
        If the region has another form, or the tokens are learnt words.
    FastaError
        If the region is not on the reference, or nothing in it can be scored.
    CheckpointError
        If there is no tuned model where the head should be.
    RunError
        If the folder holds an unfinished result of another call.
    OutputError
        If the disk is full.
    BackendError
        If a file is asked for, and anndata or matplotlib are not installed.
    """
    predictor.require_base_probabilities()
    if out is not None:
        # Before the passes, which may take hours.
        require_packages()
    if isinstance(head, str | Path):
        head = Head.load(head, str(predictor.device))
    chosen = (settings or IsmSettings()).resolved(predictor.window_bp)
    with _opened(reference) as genome:
        place = _resolve(genome, region)
        ref = genome.fetch(place.contig, place.start, place.end)
        difference, least = (None, 0) if head is None else (HeadDifference(head), head.min_bases)
        work = _Work(predictor, genome, place, ref, chosen, difference, max(least, predictor.min_bases))
        facts = {
            "umbel": umbel.__version__,
            "weights": predictor.weights_hash,
            "precision": predictor.precision,
            "head": None if head is None else head.weights_hash,
            "contig": place.contig,
            "contig_md5": genome.contig_md5(place.contig),
            "first": place.start + 1,
            "last": place.end,
            "settings": asdict(chosen),
        }
        folder = None if out is None else Path(out)
        parts = None if folder is None else folder / PARTS_FOLDER
        result = work.result(work.run(parts, facts, reporter_or_silent(reporter)), facts)
    if folder is None or parts is None:
        return result
    files = _write(result, folder)
    shutil.rmtree(parts)
    return IsmResult(**{**vars(result), "files": files})


def require_packages() -> None:
    """See that what writes the files is installed.

    Raises
    ------
    BackendError
        Naming what is missing, and how to install it.
    """
    missing = [name for name in ("anndata", "matplotlib") if find_spec(name) is None]
    if missing:
        raise BackendError(f"the files of umbel ism need {', '.join(missing)}: pip install 'umbel[tracks]'")


def _opened(reference: str | Path | Reference) -> AbstractContextManager[Reference]:
    return nullcontext(reference) if isinstance(reference, Reference) else Reference.open(reference)


def _resolve(genome: Reference, region: str | Interval | None) -> Interval:
    """Find the region on the reference."""
    if region is None:
        if len(genome.lengths) > 1:
            raise FastaError(
                f"it has {len(genome.lengths)} contigs ({some_names(genome.lengths)}): name a region, such as "
                f"{next(iter(genome.lengths))}:1-100",
                genome.path,
            )
        contig, length = next(iter(genome.lengths.items()))
        return Interval(contig, 0, length)
    place = Interval.parse(region) if isinstance(region, str) else region
    place = Interval(place.contig, place.start, place.end)
    if place.contig not in genome.lengths:
        raise FastaError(
            f"no contig {place.contig!r}; there are, for example, {some_names(genome.lengths)}", genome.path
        )
    if place.end > genome.lengths[place.contig]:
        raise FastaError(
            f"{place} ends beyond contig {place.contig!r} of {genome.lengths[place.contig]:,} bases", genome.path
        )
    return place


@dataclass(frozen=True, eq=False)
class _Work:
    """What is computed, in parts that can be kept."""

    predictor: Predictor
    genome: Reference
    place: Interval
    ref: Codes
    settings: IsmSettings
    head: HeadDifference | None
    head_bases: int

    def run(self, folder: Path | None, facts: Mapping[str, object], reporter: Reporter) -> Columns:
        """Compute what is not there yet; give all columns, whole."""
        done = [] if folder is None else open_parts(folder, facts)
        tables = [pq.read_table(path) for path in done]
        n_done = sum(len(table) for table in tables)
        if n_done > len(self.place):
            raise RunError(f"{folder}: holds {n_done} positions of {len(self.place)}. Delete the folder.")
        task = reporter.start("mutating", len(self.place), "bases", done=n_done)
        for first in range(n_done, len(self.place), PLACES_PER_PART):
            last = min(first + PLACES_PER_PART, len(self.place))
            tables.append(pa.table(self._part(first, last)))
            if folder is not None:
                write_part(folder, first // PLACES_PER_PART, tables[-1])
            task.advance(last - first)
        task.close()
        whole = pa.concat_tables(tables)
        return {name: whole[name].to_numpy() for name in whole.column_names}

    def _part(self, first: int, last: int) -> Columns:
        """Compute positions ``first`` to ``last`` of the region."""
        contig, flank_bp = self.place.contig, self.settings.flank_bp
        windows = [place_window(self.genome, contig, self.place.start + i, flank_bp) for i in range(first, last)]
        logs = base_log_probs(self.predictor, windows)
        columns: Columns = {f"log_prob:{base}": np.ascontiguousarray(logs[:, i]) for i, base in enumerate(BASES[:N])}
        columns["has_n"] = np.array([window.has_n for window in windows])
        columns["is_short"] = np.array([min(len(w.left), len(w.right)) < flank_bp for w in windows])
        if self.settings.deletions:
            columns[DELETION] = self._deletions(first, last)
        if self.head is not None:
            columns |= self._head(self.head, windows, first)
        return columns

    def _deletions(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Score the deletion of each base that begins a run of equal ones; NaN at the others, and at N."""
        begins = np.diff(self.ref, prepend=np.uint8(255)) != 0
        found = np.full(last - first, np.nan, np.float32)
        windows, where = [], []
        for i in range(first, last):
            if begins[i] and self.ref[i] < N:
                deletion = Variant(self.place.contig, self.place.start + i, BASES[self.ref[i]], "")
                window = cut_window(left_normalise(deletion, self.genome), self.genome, self.settings.flank_bp)
                if window.least_known >= self.predictor.min_bases:
                    windows.append(window)
                    where.append(i - first)
        if windows:
            found[where] = pseudo_likelihood_differences(self.predictor, windows, self.settings.n_passes)
        return found

    def _head(self, head: HeadDifference, windows: list[VariantWindow], first: int) -> Columns:
        """Give the difference of every output of a head for every base in place of the reference."""
        found = np.full((len(windows), 4, len(head.names)), np.nan, np.float32)
        changed, where = [], []
        for i, window in enumerate(windows):
            if not is_scored(window, self.head_bases):
                continue
            own = int(self.ref[first + i])
            found[i, own] = 0
            for base in range(N):
                if base != own:
                    variant = Variant(self.place.contig, window.variant.start, BASES[own], BASES[base])
                    changed.append(VariantWindow(variant, window.left, window.right))
                    where.append((i, base))
        if changed:
            rows, bases = np.array(where).T
            found[rows, bases] = head.differences(changed)
        return {
            f"head:{base}:{name}": np.ascontiguousarray(found[:, i, j])
            for i, base in enumerate(BASES[:N])
            for j, name in enumerate(head.names)
        }

    def result(self, columns: Columns, facts: Mapping[str, object]) -> IsmResult:
        """Make arrays of columns; a deletion is that of its whole run."""
        log_probs = np.column_stack([columns[f"log_prob:{base}"] for base in BASES[:N]])
        known = ~np.isnan(log_probs[:, 0])
        if not known.any():
            raise FastaError(
                f"nothing in {self.place} can be scored: it is N, or its windows have fewer than "
                f"{self.predictor.min_bases} known bases. Choose another region.",
                self.genome.path,
            )
        scores, kinds = substitution_scores(log_probs, self.ref), tuple(BASES[:N])
        if self.settings.deletions:
            begin = np.flatnonzero(np.diff(self.ref, prepend=np.uint8(255)))
            run = np.repeat(begin, np.diff(np.append(begin, len(self.ref))))
            scores, kinds = np.column_stack([scores, columns[DELETION][run]]), (*kinds, DELETION)
        names = () if self.head is None else self.head.names
        heads = {name: np.column_stack([columns[f"head:{base}:{name}"] for base in BASES[:N]]) for name in names}
        return IsmResult(
            region=self.place,
            ref=self.ref,
            kinds=kinds,
            llr=scores,
            log_probs=log_probs,
            head=heads,
            n_unknown=int((self.ref >= N).sum()),
            n_without_context=int((~known & (self.ref < N)).sum()),
            n_short_windows=int(columns["is_short"].sum()),
            n_windows_with_n=int(columns["has_n"].sum()),
            facts=facts,
        )


def _write(result: IsmResult, folder: Path) -> dict[str, Path]:
    files = {"h5ad": folder / "ism.h5ad", "tsv": folder / "ism.tsv"}
    result.write_anndata(files["h5ad"])
    result.write_table(files["tsv"])
    return {**files, **write_pictures(result, folder)}
