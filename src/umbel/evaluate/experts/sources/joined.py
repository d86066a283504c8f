"""Several genomes as one source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from umbel.errors import ConfigError
from umbel.evaluate.experts.source import NO_CLASS, Labelling, Stretch
from umbel.evaluate.experts.sources.genome import GenomeSource
from umbel.evaluate.experts.totals import MAX_UNITS


class JoinedSource:
    """Stretches of several genomes one after the other, with the labelling ``genome``.

    Labellings of one name become one, whose classes are those of all; where a genome does not have it, its bases have
    no class. Quantile classes of a track are cut for each genome by itself, and so are classes of their own. A contig
    is named ``genome:contig`` where several genomes have contigs of one name.

    Parameters
    ----------
    sources
        Name of the genome to its stretches. Together they have at most
        :data:`~umbel.evaluate.experts.totals.MAX_UNITS` units: build each with its part of them (``max_units``).

    Raises
    ------
    ConfigError
        If there are fewer than two genomes, too many units, or labellings of one name of bases and of contigs.
    """

    def __init__(self, sources: Mapping[str, GenomeSource]):
        if len(sources) < 2:
            raise ConfigError("several genomes are joined: give at least two")
        self._names = tuple(sources)
        self._sources = tuple(sources.values())
        self.n_units = sum(source.n_units for source in self._sources)
        if self.n_units > MAX_UNITS:
            raise ConfigError(
                f"the genomes have {self.n_units} units together, and {MAX_UNITS} are the most there may be: build "
                f"each with max_units={MAX_UNITS // len(sources)}"
            )
        self._first_unit = np.cumsum([0, *(source.n_units for source in self._sources)])
        self._first = np.cumsum([0, *map(len, self._sources)])
        contigs = [{place.contig for place in source.stretches} for source in self._sources]
        self._is_shared = len(set().union(*contigs)) < sum(map(len, contigs))
        own = Labelling("genome", self._names, "sequence", {"files": [], "notes": []})
        self.labellings = (*_joined(self._names, self._sources), own)
        self._number = {each.name: {name: i for i, name in enumerate(each.classes)} for each in self.labellings}
        self.facts: dict[str, Any] = {
            "kind": "genomes",
            "genomes": {name: source.facts for name, source in sources.items()},
            "n_bases": sum(source.facts["n_bases"] for source in self._sources),
            "n_stretches": len(self),
            "n_units": self.n_units,
            "notes": [f"{name}: {note}" for name, source in sources.items() for note in source.facts["notes"]],
        }

    def __len__(self) -> int:
        return int(self._first[-1])

    def stretch(self, i: int) -> Stretch:
        """Read the ith, genome by genome."""
        place = range(len(self))[i]
        which = int(np.searchsorted(self._first, place, side="right")) - 1
        source, genome = self._sources[which], self._names[which]
        read = source.stretch(place - int(self._first[which]))
        labels, classes = dict(read.labels), dict(read.classes)
        for own in source.labellings:
            number = [self._number[own.name][name] for name in own.classes]
            if own.level == "base":
                # The last entry is what -1 finds.
                labels[own.name] = np.array([*number, NO_CLASS], np.int16)[read.labels[own.name]]
            elif classes[own.name] != NO_CLASS:
                classes[own.name] = number[classes[own.name]]
        for each in self.labellings:
            if each.level == "base" and each.name not in labels:
                labels[each.name] = np.full(len(read.content), NO_CLASS, np.int16)
            elif each.level == "sequence" and each.name not in classes:
                classes[each.name] = NO_CLASS
        classes["genome"] = which
        name = f"{genome}:{read.name}" if self._is_shared else read.name
        return Stretch(name, read.start, read.content, read.unit + int(self._first_unit[which]), labels, classes)

    def close(self) -> None:
        """Close the genomes."""
        for source in self._sources:
            source.close()


def _joined(names: tuple[str, ...], sources: tuple[GenomeSource, ...]) -> list[Labelling]:
    found: dict[str, Labelling] = {}
    for genome, source in zip(names, sources, strict=True):
        for each in source.labellings:
            if each.name == "genome":
                raise ConfigError("a labelling is named 'genome', as the genomes themselves are: give it another name")
            if each.name not in found:
                found[each.name] = Labelling(each.name, each.classes, each.level, {genome: each.facts})
                continue
            before = found[each.name]
            if before.level != each.level:
                raise ConfigError(
                    f"labelling {each.name!r} is of bases in one genome and of contigs in another: name them apart"
                )
            classes = tuple(dict.fromkeys((*before.classes, *each.classes)))
            found[each.name] = Labelling(each.name, classes, each.level, {**before.facts, genome: each.facts})
    return list(found.values())
