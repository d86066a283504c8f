"""The place of every coding base in its codon, from the phases of a GFF3 file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from umbel.evaluate.experts.source import NO_CLASS, Labelling, Labels
from umbel.genome.runs import Runs, as_runs, fill, merge
from umbel.genome.transcripts import Transcript, Transcripts

CODON_CLASSES = ("1 of +", "2 of +", "3 of +", "1 of -", "2 of -", "3 of -")
_N_FRAMES = 6


@dataclass(frozen=True)
class CodonLabels:
    """First, second and third base of codons, of genes on either strand; where transcripts disagree there is none.

    Codons of one strand lie in one of three frames, so that runs of six frames say all: the first bases of codons of
    frame f are at ``p % 3 == f``. A base in the runs of several frames is read in several ways, and has no class.
    Phases are taken as they stand in the file (GFF3: bases before the first whole codon); a missing one follows from
    the parts before it.

    Attributes
    ----------
    labelling
        Its facts tell in how many transcripts phases do not follow from the lengths of the parts.
    frames
        Contig to six merged runs, those of + first.

    Examples
    --------
    >>> frames = {"chr1": [as_runs([(3, 9)]), *(as_runs([]) for _ in range(5))]}
    >>> CodonLabels(Labelling("codon position", CODON_CLASSES), frames).labels("chr1", 2, 8).tolist()
    [-1, 0, 1, 2, 0, 1]
    """

    labelling: Labelling
    frames: Mapping[str, list[Runs]]

    @classmethod
    def of(cls, found: Transcripts, facts: Mapping[str, Any]) -> CodonLabels:
        """Gather the frames of transcripts; those that do not lie on one strand have none."""
        spans: dict[str, list[list[tuple[int, int]]]] = {}
        n_other = 0
        for one in found.transcripts:
            if not one.strand or not one.cds:
                continue
            of_frame = spans.setdefault(one.contig, [[] for _ in range(_N_FRAMES)])
            phases, follow = read_phases(one)
            n_other += not follow
            for (start, end), phase in zip(one.cds, phases, strict=True):
                frame = (start + phase) % 3 if one.strand == "+" else 3 + (end - 1 - phase) % 3
                of_frame[frame].append((start, end))
        frames = {contig: [merge(as_runs(own)) for own in of_frame] for contig, of_frame in spans.items()}
        notes = list(facts.get("notes", []))
        if n_other:
            notes.append(
                f"{n_other:,} transcripts have phases that do not follow from the lengths of their coding parts; "
                "they are taken as they stand."
            )
        return cls(Labelling("codon position", CODON_CLASSES, facts={**facts, "notes": notes}), frames)

    def labels(self, contig: str, start: int, end: int) -> Labels:
        """Give the place of each base in its codon; -1 outside CDS, and where transcripts disagree."""
        found = np.full(end - start, NO_CLASS, np.int16)
        n_frames = np.zeros(end - start, np.int8)
        place = np.arange(start, end)
        for frame, runs in enumerate(self.frames.get(contig, ())):
            inside = np.zeros(end - start, bool)
            if not fill(inside, runs, start, np.True_):
                continue
            n_frames += inside
            turn = (place - frame) % 3 if frame < 3 else (frame - place) % 3 + 3
            found[inside] = turn[inside]
        found[n_frames > 1] = NO_CLASS
        return found


def read_phases(one: Transcript) -> tuple[tuple[int, ...], bool]:
    """Give the phase of each coding part in the order of the contig, and whether those given follow from the lengths.

    Examples
    --------
    >>> one = Transcript("t", "c", "+", ((0, 9),), ((0, 9),), ((0, 4), (6, 9)), (0, None), (0, 9))
    >>> read_phases(one)
    ((0, 2), True)
    """
    step = -1 if one.strand == "-" else 1
    phases, follow = [], True
    expected: int | None = None
    for (start, end), told in zip(one.cds[::step], one.phases[::step], strict=True):
        phase = told if told is not None else expected or 0
        follow &= expected is None or phase == expected
        phases.append(phase)
        expected = (phase - (end - start)) % 3
    return tuple(phases[::step]), follow
