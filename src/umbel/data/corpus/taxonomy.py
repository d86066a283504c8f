"""What NCBI Taxonomy says about a plant: from a table that comes with the package, or from a taxdump folder."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from umbel.errors import ManifestError
from umbel.genome.lines import read_lines

GREEN_PLANTS = "Viridiplantae"
FAMILY_ENDING = "aceae"
_HYBRID_SIGNS = frozenset({"x", "×"})
_RANKS = ("", "species", "genus", "family", "order")
_OTHER_NAMES = frozenset({"synonym", "equivalent name"})


@dataclass(frozen=True)
class Taxon:
    """One taxid: a species, or something below it."""

    taxid: int
    species: str
    """Name at the rank of species."""
    family: str
    order: str
    lineage: tuple[str, ...]
    """Names from the green plants (or the root, for other organisms) down to the genus."""
    ploidy: int | None = None
    """Sets of chromosomes, where they hardly vary."""
    subgenomes: tuple[str, ...] = ()
    """Letters of the subgenomes of an allopolyploid."""
    other_names: tuple[str, ...] = ()
    """Name of what is below the species, and synonyms."""

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is this species; what follows genus and epithet, and a sign of hybrids, play no part.

        Examples
        --------
        >>> taxon(39947).is_called("Oryza sativa Japonica Group"), taxon(39947).is_called("Oryza glaberrima")
        (True, False)
        """
        return _binomial(name) in {_binomial(known) for known in (self.species, *self.other_names)}


def taxon(taxid: int) -> Taxon:
    """Look up a taxid in the table of the package.

    Raises
    ------
    KeyError
        If it is not there.

    References
    ----------
    Schoch et al. 2020, "NCBI Taxonomy: a comprehensive update on curation, resources and tools",
    doi:10.1093/database/baaa062.

    Examples
    --------
    >>> wheat = taxon(4565)
    >>> wheat.species, wheat.family, wheat.ploidy, wheat.subgenomes
    ('Triticum aestivum', 'Poaceae', 6, ('A', 'B', 'D'))
    """
    return _table()[taxid]


@cache
def _table() -> Mapping[int, Taxon]:
    text = (files("umbel.data.corpus") / "taxa.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader((line for line in text.splitlines() if not line.startswith("#")), delimiter="\t")
    return {
        int(row["taxid"]): Taxon(
            int(row["taxid"]),
            row["species"],
            row["family"],
            row["order"],
            _listed(row["lineage"]),
            int(row["ploidy"]) if row["ploidy"] else None,
            _listed(row["subgenomes"]),
            _listed(row["other_names"]),
        )
        for row in rows
    }


def read_taxdump(folder: str | Path, taxids: Iterable[int]) -> dict[int, Taxon]:
    """Look up taxids in ``nodes.dmp`` and ``names.dmp``, as NCBI gives them in ``taxdump.tar.gz``.

    Parameters
    ----------
    folder
        Where the two files are.
    taxids
        Which ones; those that are not there are left out.

    Returns
    -------
    Taxid to taxon, without ploidy and subgenomes, which NCBI Taxonomy does not have.

    Raises
    ------
    ManifestError
        If a file is missing, or a line is not of this format.
    """
    wanted = set(taxids)
    parent_of, rank_of = array("i"), array("B")
    nodes = Path(folder) / "nodes.dmp"
    for line, (number, parent, rank, *_) in _dump_rows(nodes):
        taxid, above = _number(nodes, line, number), _number(nodes, line, parent)
        if taxid >= len(parent_of):
            missing = taxid + 1 - len(parent_of)
            # Room for as many again, or a table that grows taxid by taxid would be copied every time.
            parent_of.extend([0] * (missing + len(parent_of)))
            rank_of.extend([0] * (missing + len(rank_of)))
        parent_of[taxid] = above
        rank_of[taxid] = _RANKS.index(rank) if rank in _RANKS else 0
    paths = {taxid: path for taxid in wanted if (path := _path(taxid, parent_of))}
    name_of, others_of = _names(Path(folder) / "names.dmp", {step for path in paths.values() for step in path})
    return {taxid: _taxon_of_path(path, rank_of, name_of, others_of) for taxid, path in paths.items()}


def _path(taxid: int, parent_of: array[int]) -> tuple[int, ...]:
    """Taxids from ``taxid`` up to the root, which is its own parent; none if it is not there."""
    path: list[int] = []
    while 0 < taxid < len(parent_of) and parent_of[taxid] and taxid not in path:
        path.append(taxid)
        taxid = parent_of[taxid]
    return tuple(path)


def _names(path: Path, wanted: set[int]) -> tuple[dict[int, str], dict[int, list[str]]]:
    """Scientific name of each taxid, and what else it is called in science."""
    name_of: dict[int, str] = {}
    others_of: dict[int, list[str]] = {}
    for line, (number, name, _, kind, *_) in _dump_rows(path):
        taxid = _number(path, line, number)
        if taxid in wanted and kind == "scientific name":
            name_of[taxid] = name
        elif taxid in wanted and kind in _OTHER_NAMES:
            others_of.setdefault(taxid, []).append(name)
    return name_of, others_of


def _taxon_of_path(
    path: tuple[int, ...], rank_of: array[int], name_of: Mapping[int, str], others_of: Mapping[int, list[str]]
) -> Taxon:
    at_rank = {_RANKS[rank_of[step]]: step for step in reversed(path)}
    named = [name_of.get(step, str(step)) for step in path]
    species = at_rank.get("species", path[0])
    # Below the genus stands the species itself; without a genus the lineage ends above the species.
    first = path.index(at_rank["genus"]) if "genus" in at_rank else path.index(species) + 1
    # The root is no name of anything.
    lineage = named[first:-1][::-1]
    if GREEN_PLANTS in lineage:
        lineage = lineage[lineage.index(GREEN_PLANTS) :]
    below = [name_of[path[0]]] if path[0] != species and path[0] in name_of else []
    return Taxon(
        path[0],
        name_of.get(species, str(species)),
        name_of.get(at_rank.get("family", 0), ""),
        name_of.get(at_rank.get("order", 0), ""),
        tuple(lineage),
        other_names=(*below, *others_of.get(species, ())),
    )


def _dump_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of a .dmp file, whose fields are divided by tab, bar and tab."""
    for line, raw in read_lines(path, ManifestError):
        fields = raw.decode("utf-8", "replace").rstrip("\r\n").removesuffix("\t|").split("\t|\t")
        if len(fields) < 4:
            raise ManifestError(
                f"this line has {len(fields)} fields divided by '|', a taxdump 4 or more. Unpack taxdump.tar.gz again.",
                path,
                line,
            )
        yield line, fields


def _number(path: Path, line: int, text: str) -> int:
    if not text.isdigit():
        raise ManifestError(f"the taxid {text!r} is no number. Unpack taxdump.tar.gz again.", path, line)
    return int(text)


def family_of(lineage: Iterable[str]) -> str:
    """Family among the names of a lineage, told by its ending; ``""`` if there is none.

    Examples
    --------
    >>> family_of(["Poales", "Poaceae", "Pooideae"])
    'Poaceae'
    """
    return next((name for name in reversed(list(lineage)) if name.endswith(FAMILY_ENDING)), "")


def _binomial(name: str) -> tuple[str, ...]:
    words = [word.lstrip("×").casefold() for word in name.split() if word.casefold() not in _HYBRID_SIGNS]
    return tuple(words[:2])


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split(";")) if text else ()
