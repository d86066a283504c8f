"""Proof that a built corpus is whole and leaks nothing: no copy of a held-out stretch is left in another role."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.corpus.copy_stage import compare
from umbel.data.corpus.duplicates import UNIQUE
from umbel.data.corpus.manifest import ROLES
from umbel.data.corpus.pieces import PackedAssembly
from umbel.data.corpus.sketches import segment_starts
from umbel.data.corpus.stages import Workshop
from umbel.data.corpus.store import SEGMENTS_FILE, Corpus, nibbles_name
from umbel.errors import CorpusError
from umbel.progress import Reporter, reporter_or_silent

_MAX_NAMED = 6


@dataclass(frozen=True)
class CorpusCheck:
    """What was looked at; a corpus that fails raises instead.

    Attributes
    ----------
    n_clusters
        Clusters of copies with windows, none of them in two roles; ``None`` where the build looked for no copies.
    deep
        Whether copies were looked for again in the stored bases.
    """

    path: str
    hash: str
    n_files: int
    n_clusters: int | None
    deep: bool

    def __str__(self) -> str:
        copies = (
            "copies were not looked for"
            if self.n_clusters is None
            else f"none of {self.n_clusters:,} clusters of copies crosses a split"
            f"{' (compared anew from the stored bases)' if self.deep else ''}"
        )
        return f"{self.path}: whole ({self.hash[:12]}), {self.n_files} files; {copies}"


def check_corpus(
    path: str | Path,
    *,
    deep: bool = False,
    workers: int = 1,
    memory_gb: float = 1.0,
    reporter: Reporter | None = None,
) -> CorpusCheck:
    """See that every file is what it was, and that no cluster of copies has windows in two roles.

    Parameters
    ----------
    deep
        Sketch and compare the stored bases anew, in place of trusting the clusters that the build wrote down.

    Raises
    ------
    CorpusError
        If a file is damaged, or a cluster crosses a split: with the cluster and where its members are. Also if
        ``deep`` is asked of a corpus whose build looked for no copies.
    """
    corpus = Corpus.open(path)
    corpus.check()
    has_segments = SEGMENTS_FILE in corpus.facts["files"]
    n_clusters = None
    if deep:
        if not has_segments:
            raise CorpusError(f"{corpus.path}: built with corpus.duplicates.ani=0, so nothing says what a copy is.")
        cluster = _clusters_anew(corpus, workers, memory_gb, reporter_or_silent(reporter))
        if not np.array_equal(cluster, corpus.segments["cluster"]):
            raise CorpusError(
                f"{corpus.path}: the clusters in {SEGMENTS_FILE} are not those of its bases. Build the corpus again."
            )
    if has_segments:
        n_clusters = _require_separate_clusters(corpus)
    return CorpusCheck(str(path), corpus.hash, len(corpus.facts["files"]), n_clusters, deep)


def _require_separate_clusters(corpus: Corpus) -> int:
    """Give the number of clusters of which any window is left."""
    used, cluster = segments_used(corpus), corpus.segments["cluster"]
    seen = np.zeros((int(cluster.max(initial=UNIQUE)) + 1, len(ROLES)), bool)
    for code in range(len(ROLES)):
        seen[cluster[(cluster != UNIQUE) & used[:, code]], code] = True
    crossing = np.flatnonzero(seen.sum(1) > 1)
    if len(crossing):
        members = np.flatnonzero((cluster == crossing[0]) & used.any(1))
        # Some of each role, so that the crossing can be seen.
        named = [i for code in range(len(ROLES)) for i in members[used[members, code]][: _MAX_NAMED // 2]]
        raise CorpusError(
            f"{corpus.path}: clusters of copies that cross a split: {len(crossing):,}, such "
            f"as {'; '.join(_place(corpus, i, used) for i in named)}. Build the corpus with "
            "corpus.split.drop_copies=true."
        )
    return int(np.count_nonzero(seen.any(1)))


def _place(corpus: Corpus, i: int, used: npt.NDArray[np.bool_]) -> str:
    columns = corpus.segments
    roles = " and ".join(role for role, is_used in zip(ROLES, used[i], strict=True) if is_used)
    return (
        f"{columns['contig_names'][columns['contig'][i]]}:{columns['start'][i] + 1}-{columns['end'][i]} of "
        f"{columns['assembly_names'][columns['assembly'][i]]} ({roles})"
    )


def segments_used(corpus: Corpus) -> npt.NDArray[np.bool_]:
    """Mark which roles have a window that lies, in part at least, on a segment: ``(n_segments, 3)`` as ``ROLES``."""
    segments, windows = corpus.segments, corpus.windows
    place = {(each.assembly, each.contig): number for number, each in enumerate(corpus.contigs())}

    def contigs_of(columns: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
        """Give the number of each row's contig, the same in both tables."""
        n_names = max(1, len(columns["contig_names"]))
        pairs = columns["assembly"].astype(np.int64) * n_names + columns["contig"]
        kinds, which = np.unique(pairs, return_inverse=True)
        numbers = [
            place[str(columns["assembly_names"][kind // n_names]), str(columns["contig_names"][kind % n_names])]
            for kind in kinds.tolist()
        ]
        return np.array(numbers, np.int64)[which]

    # Contigs have the order of the corpus in both, and positions ascend: so one sorted key finds a window's segments.
    of_segment, of_window = contigs_of(segments), contigs_of(windows)
    width = max((each.length for each in corpus.contigs()), default=0) + 1
    ends = of_segment * width + segments["end"]
    first = np.searchsorted(ends, of_window * width + windows["start"], side="right")
    last = np.searchsorted(ends, of_window * width + windows["end"], side="left")
    role_of = np.array([ROLES.index(name) for name in windows["role_names"]], np.int64)
    roles = role_of[windows["role"]]
    steps = np.zeros((len(ends) + 1, len(ROLES)), np.int64)
    np.add.at(steps, (first, roles), 1)
    np.add.at(steps, (last + 1, roles), -1)
    return np.cumsum(steps, axis=0)[:-1] > 0


def _clusters_anew(corpus: Corpus, workers: int, memory_gb: float, reporter: Reporter) -> npt.NDArray[np.int64]:
    """Cluster all segments of contigs with a role, from the stored bases."""
    assemblies = [
        PackedAssembly(
            name,
            corpus.path / nibbles_name(name),
            tuple((each.length, offset) for each, offset in corpus.contig_offsets(name) if each.role),
        )
        for name in corpus.assemblies
    ]
    config = corpus.config.duplicates
    n_segments = sum(len(segment_starts(bp, config.segment_bp)) for each in assemblies for bp, _ in each.contigs)
    if n_segments != len(corpus.segments["cluster"]):
        raise CorpusError(
            f"{corpus.path}: {SEGMENTS_FILE} has {len(corpus.segments['cluster'])} segments, its contigs have "
            f"{n_segments}. Build the corpus again."
        )
    with tempfile.TemporaryDirectory(prefix="umbel-check-") as folder:
        workshop = Workshop(Path(folder), workers, "local", int(memory_gb * 1e9), reporter)
        return compare(workshop, assemblies, config).cluster
