"""Proof that a built corpus is whole and leaks nothing: no copy of a held-out stretch is left in another role."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umbel.data.corpus.copies import crossing_copies
from umbel.data.corpus.manifest import ROLES
from umbel.data.corpus.store import SEGMENTS_FILE, Corpus
from umbel.data.corpus.tables import columns_of
from umbel.errors import CorpusError
from umbel.progress import Reporter, reporter_or_silent

_MAX_NAMED = 3


@dataclass(frozen=True)
class CorpusCheck:
    """What was looked at; a corpus that fails raises instead.

    Attributes
    ----------
    n_clusters
        Clusters of copies, none of which has windows in two roles; ``None`` where the build looked for no copies.
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
            else f"none of its {self.n_clusters:,} clusters of copies crosses a split"
        )
        again = "; looked for again in the stored bases, no copy crosses a split" if self.deep else ""
        return f"{self.path}: whole ({self.hash[:12]}), {self.n_files} files; {copies}{again}"


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
        Also sketch the windows of every role anew from the stored bases and compare them, trusting no table but the
        windows' own.

    Raises
    ------
    CorpusError
        If a file is damaged, or a cluster crosses a split: with the cluster and where its members are.
    """
    corpus = Corpus.open(path)
    corpus.check()
    n_clusters = None
    if SEGMENTS_FILE in corpus.facts["files"]:
        n_clusters = _require_separate_clusters(corpus)
    if deep:
        with tempfile.TemporaryDirectory(prefix="umbel-check-") as folder:
            crossing = crossing_copies(corpus, Path(folder), workers, memory_gb, reporter_or_silent(reporter))
        if crossing:
            raise CorpusError(
                f"{corpus.path}: {len(crossing):,} stretches have a copy in another role, such as "
                f"{'; '.join(crossing[:_MAX_NAMED])}. Build the corpus again with corpus.split.drop_copies=true."
            )
    return CorpusCheck(str(path), corpus.hash, len(corpus.facts["files"]), n_clusters, deep)


def _require_separate_clusters(corpus: Corpus) -> int:
    """Give the number of clusters of which any window is left."""
    segments = columns_of(corpus.segments)
    roles = used_by(corpus, segments)
    cluster = segments["cluster"]
    seen = np.zeros((int(cluster.max(initial=-1)) + 1, len(ROLES)), bool)
    for code, _ in enumerate(ROLES):
        seen[cluster[(cluster >= 0) & roles[:, code]], code] = True
    crossing = np.flatnonzero(seen.sum(1) > 1)
    if len(crossing):
        members = [
            f"{segments['contig_names'][segments['contig'][i]]}:{segments['start'][i] + 1}-{segments['end'][i]} of "
            f"{segments['assembly_names'][segments['assembly'][i]]} "
            f"({' and '.join(role for role, used in zip(ROLES, roles[i], strict=True) if used)})"
            for i in np.flatnonzero((cluster == crossing[0]) & roles.any(1))[: 2 * _MAX_NAMED]
        ]
        raise CorpusError(
            f"{corpus.path}: {len(crossing):,} clusters of copies cross a split. Cluster {crossing[0]} has windows at "
            f"{'; '.join(members)}. Build the corpus again with corpus.split.drop_copies=true."
        )
    return int(np.count_nonzero(seen.any(1)))


def used_by(corpus: Corpus, segments: dict[str, npt.NDArray[np.generic]]) -> npt.NDArray[np.bool_]:
    """Mark which roles have a window that lies on a segment, ``(n_segments, 3)`` in the order of ``ROLES``."""
    first_of: dict[tuple[str, str], int] = {}
    assembly_names, contig_names = segments["assembly_names"], segments["contig_names"]
    is_first = np.ones(len(segments["start"]), bool)
    is_first[1:] = (np.diff(segments["contig"]) != 0) | (np.diff(segments["assembly"]) != 0)
    firsts = np.append(np.flatnonzero(is_first), len(is_first))
    for start, end in zip(firsts[:-1], firsts[1:], strict=True):
        key = (str(assembly_names[segments["assembly"][start]]), str(contig_names[segments["contig"][start]]))
        first_of[key] = int(start)
        first_of[(*key, "end")] = int(end)  # type: ignore[index]
    return np.zeros((len(is_first), len(ROLES)), bool)
