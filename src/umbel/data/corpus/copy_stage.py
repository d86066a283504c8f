"""Near-copies of a corpus: sketch, join and reduce as stages of a build, and the decision what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from umbel.config import CorpusConfig, DuplicatesConfig
from umbel.data.corpus.arrays import ArrayFile
from umbel.data.corpus.duplicates import (
    NO_ROLE,
    UNIQUE,
    CopyRule,
    clusters,
    containment_of_ani,
    find_leaks,
    keep_best,
)
from umbel.data.corpus.executors import Advance
from umbel.data.corpus.joins import (
    JoinJob,
    JudgeJob,
    Pairs,
    ReduceJob,
    join_partition,
    judge_segments,
    load_pairs,
    plan_ranges,
    reduce_pairs,
)
from umbel.data.corpus.manifest import ROLES
from umbel.data.corpus.pieces import PackedAssembly
from umbel.data.corpus.sketches import SketchFile, SketchJob, n_partitions_for, segment_starts, sketch_assembly
from umbel.data.corpus.stages import Packed, Step, Workshop, do_step
from umbel.data.corpus.tables import SEGMENTS_SCHEMA, named
from umbel.data.corpus.windows import DUPLICATE, HELD_OUT_COPY, CutContig

KEPT, UNJUDGED = "kept", "unjudged"
_FATES = (KEPT, UNJUDGED, HELD_OUT_COPY, DUPLICATE)
_SPECTRUM_BINS = 1000


@dataclass(frozen=True)
class Segments:
    """All segments of the contigs that have a role, in the order of assemblies and contigs; arrays are ``(n,)``.

    Attributes
    ----------
    contig
        Index into the contigs of its assembly.
    role
        0 none, then as in ``ROLES``, from 1.
    """

    assembly: npt.NDArray[np.int64]
    contig: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    role: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Compared:
    """What the sketches of all segments have in common.

    Attributes
    ----------
    spectra
        For each assembly how many sampled k-mers are in 1, 2, ... of its segments; the last bin takes the rest.
    """

    pairs: Pairs
    judged: npt.NDArray[np.uint32]
    rule: CopyRule
    cluster: npt.NDArray[np.int64]
    spectra: list[list[int]]


@dataclass(frozen=True)
class Copies:
    """What is left out because there is another like it.

    Attributes
    ----------
    table
        One row a segment; ``None`` where no copies were looked for.
    facts
        For ``corpus.json``.
    spectra
        As in :class:`Compared`; empty where there were no sketches.
    """

    table: pa.Table | None
    facts: dict[str, Any] | None
    spectra: list[list[int]]
    segments: Segments | None = None
    fate: npt.NDArray[np.int64] | None = None

    def removed(self, number: int) -> dict[str, npt.NDArray[np.int64]]:
        """Give the removed stretches of an assembly: reason to ``(n, 3)`` of contig, start and end."""
        if self.segments is None or self.fate is None:
            return {}
        found = {}
        for reason in (HELD_OUT_COPY, DUPLICATE):
            mine = (self.segments.assembly == number) & (self.fate == _FATES.index(reason))
            found[reason] = np.column_stack(
                (self.segments.contig[mine], self.segments.start[mine], self.segments.end[mine])
            )
        return found


def no_copies(n_assemblies: int) -> Copies:
    """Leave nothing out."""
    return Copies(None, None, [[] for _ in range(n_assemblies)])


def find_copies(
    workshop: Workshop, packed: Sequence[Packed], cuts: Sequence[tuple[CutContig, ...]], config: CorpusConfig
) -> Copies:
    """Sketch and join every contig with a role, and decide which segments are left out.

    First go the training segments of a cluster that reaches into validation or test, and the validation ones of a
    cluster that reaches into the test. Then, among the training segments, of all copies the best is kept: that of the
    assembly with the highest contig N50, then of the species with the fewest bases, then the first.
    """
    assemblies = [
        each.some(number for number, contig in enumerate(cut) if contig.role)
        for each, cut in zip(packed, cuts, strict=True)
    ]
    segments = _segments(cuts, config.duplicates.segment_bp)
    compared = compare(workshop, assemblies, config.duplicates)
    leaks = np.zeros(len(segments.role), bool)
    if config.split.drop_copies:
        leaks = find_leaks(compared.cluster, segments.role)
    names = list(dict.fromkeys(each.assembly.species for each in packed))
    species = np.array([names.index(each.assembly.species) for each in packed])[segments.assembly]
    is_train = (segments.role == 1 + ROLES.index("train")) & ~leaks
    group = np.where(is_train, species if config.duplicates.scope == "species" else 0, UNIQUE)
    copy_of = keep_best(compared.pairs, compared.judged, compared.rule, _rank(packed, segments, species), group)
    fate = np.select(
        [leaks, copy_of != UNIQUE, ~compared.rule.is_judged(compared.judged)],
        [_FATES.index(HELD_OUT_COPY), _FATES.index(DUPLICATE), _FATES.index(UNJUDGED)],
        _FATES.index(KEPT),
    )
    copy_of = np.where(leaks, _first_claims(compared.cluster, segments.role), copy_of)
    facts = _facts(compared, segments, fate, copy_of, species, names)
    table = _table(packed, cuts, segments, compared.cluster, fate, copy_of)
    return Copies(table, facts, compared.spectra, segments, fate)


def compare(workshop: Workshop, assemblies: Sequence[PackedAssembly], config: DuplicatesConfig) -> Compared:
    """Sketch assemblies, join the sketches, and cluster their segments.

    References
    ----------
    :mod:`umbel.data.corpus.joins` and :mod:`umbel.data.corpus.duplicates` say how.
    """
    total = sum(assembly.n_bases for assembly in assemblies)
    n_partitions = n_partitions_for(total, config.scaled, workshop.memory_bytes)
    settings = [config.k, config.scaled, config.segment_bp, n_partitions]
    steps = []
    for assembly in assemblies:
        part = workshop.part("sketch", assembly.name, [assembly.content, assembly.contigs, settings])
        job = SketchJob(
            assembly,
            part.file("sketch"),
            config.k,
            config.scaled,
            config.segment_bp,
            n_partitions,
            memory_bytes=workshop.memory_bytes,
        )
        steps.append(Step(_sketch_with_spectrum, job, part, assembly.n_bases, (job.out,)))
    spectra = [found["spectrum"] for found in workshop.run("Sketching", do_step, steps)]
    sketches = tuple(step.job.out for step in steps)
    of = [step.part.key for step in steps]
    rule = CopyRule(containment_of_ani(config.ani, config.k), config.min_hashes)

    steps = []
    for number in range(n_partitions):
        part = workshop.part("join", f"{number}", [of, number, config.max_copies])
        join = JoinJob(sketches, number, config.max_copies, part.file("pairs"), workshop.memory_bytes)
        steps.append(Step(join_partition, join, part, total // n_partitions, (join.out,)))
    workshop.run("Joining", do_step, steps)
    joins = tuple(step.job.out for step in steps)

    of = [step.part.key for step in steps]
    part = workshop.part("join", "judged", of)
    judge = JudgeJob(sketches, joins, part.file("judged"))
    (found,) = workshop.run("Judging", do_step, [Step(judge_segments, judge, part, total, (judge.out,))])

    steps = []
    for first, last in plan_ranges(joins, found["n_segments"], workshop.memory_bytes):
        part = workshop.part("reduce", f"{first}", [of, first, last, rule.min_share, rule.min_hashes])
        reduce = ReduceJob(joins, judge.out, first, last, rule.min_share, rule.min_hashes, part.file("pairs"))
        steps.append(
            Step(reduce_pairs, reduce, part, total * (last - first) // max(1, found["n_segments"]), (reduce.out,))
        )
    workshop.run("Comparing", do_step, steps)
    pairs, judged = load_pairs([step.job.out for step in steps]), ArrayFile(judge.out).read("judged")
    return Compared(pairs, judged, rule, clusters(pairs, judged, rule), spectra)


def _sketch_with_spectrum(job: SketchJob, advance: Advance) -> dict[str, Any]:
    """Sketch an assembly, and count in how many of its segments its k-mers are."""
    facts = sketch_assembly(job, advance)
    sketch = SketchFile(job.out)
    spectrum = np.zeros(_SPECTRUM_BINS, np.int64)
    for number in range(job.n_partitions):
        _, copies = np.unique(sketch.partition(number)[0], return_counts=True)
        spectrum += np.bincount(np.minimum(copies, _SPECTRUM_BINS) - 1, minlength=_SPECTRUM_BINS)
    return {**facts, "spectrum": np.trim_zeros(spectrum, "b").tolist()}


def _segments(cuts: Sequence[tuple[CutContig, ...]], segment_bp: int) -> Segments:
    columns: list[npt.NDArray[np.int64]] = []
    for assembly, cut in enumerate(cuts):
        for number, contig in enumerate(cut):
            if contig.role:
                starts = segment_starts(contig.length, segment_bp)
                block = np.empty((len(starts), 5), np.int64)
                block[:, 0], block[:, 1], block[:, 2] = assembly, number, starts
                block[:, 3], block[:, 4] = np.append(starts[1:], contig.length), 1 + ROLES.index(contig.role)
                columns.append(block)
    return Segments(*np.concatenate(columns or [np.empty((0, 5), np.int64)]).T)


def _rank(packed: Sequence[Packed], segments: Segments, species: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Order of the segments, the best assembly first; see :func:`find_copies`."""
    n50 = np.array([each.facts["statistics"]["contig_n50"] for each in packed])[segments.assembly]
    n_bases = np.bincount(species, segments.end - segments.start, minlength=1)[species]
    order = np.lexsort((np.arange(len(n50)), n_bases, -n50))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def _first_claims(cluster: npt.NDArray[np.int64], role: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each segment the first of its cluster that has the cluster's highest role; itself where it has none."""
    claim = np.arange(len(cluster))
    inside = np.flatnonzero((cluster != UNIQUE) & (role != NO_ROLE))
    order = inside[np.lexsort((inside, -role[inside], cluster[inside]))]
    roots, first = np.unique(cluster[order], return_index=True)
    claim[inside] = order[first][np.searchsorted(roots, cluster[inside])]
    return claim


def _facts(
    compared: Compared,
    segments: Segments,
    fate: npt.NDArray[np.int64],
    copy_of: npt.NDArray[np.int64],
    species: npt.NDArray[np.int64],
    names: Sequence[str],
) -> dict[str, Any]:
    sizes = np.unique(compared.cluster[compared.cluster != UNIQUE], return_counts=True)[1]
    removed = np.flatnonzero(np.isin(fate, [_FATES.index(HELD_OUT_COPY), _FATES.index(DUPLICATE)]))
    kinds, which = np.unique(
        np.column_stack((species[removed], species[copy_of[removed]], fate[removed])), axis=0, return_inverse=True
    )
    n_bases = np.bincount(which, (segments.end - segments.start)[removed], minlength=len(kinds)).astype(int)
    n_segments = np.bincount(which, minlength=len(kinds))
    return {
        "min_containment": compared.rule.min_share,
        "n_segments": len(fate),
        "n_unjudged": int(np.count_nonzero(~compared.rule.is_judged(compared.judged))),
        "n_clusters": len(sizes),
        "n_clustered": int(sizes.sum()),
        "largest_cluster": int(sizes.max(initial=0)),
        "removed": [
            {
                "species": names[one],
                "copy_of": names[other],
                "fate": _FATES[reason],
                "n_segments": int(n_segments[row]),
                "n_bases": int(n_bases[row]),
            }
            for row, (one, other, reason) in enumerate(kinds.tolist())
        ],
    }


def _table(
    packed: Sequence[Packed],
    cuts: Sequence[tuple[CutContig, ...]],
    segments: Segments,
    cluster: npt.NDArray[np.int64],
    fate: npt.NDArray[np.int64],
    copy_of: npt.NDArray[np.int64],
) -> pa.Table:
    first_name = np.cumsum([0, *(len(cut) for cut in cuts)])
    # A dictionary that names something twice is not written the same way twice.
    place: dict[str, int] = {}
    of_contig = np.array([place.setdefault(contig.name, len(place)) for cut in cuts for contig in cut], np.int64)
    columns: list[Any] = [
        named(segments.assembly, [each.assembly.name for each in packed]),
        named(of_contig[first_name[segments.assembly] + segments.contig], list(place)),
        segments.start,
        segments.end,
        named(segments.role, ("", *ROLES)),
        cluster.astype(np.int32),
        named(fate, _FATES),
        copy_of.astype(np.int32),
    ]
    return pa.table(columns, schema=SEGMENTS_SCHEMA)
