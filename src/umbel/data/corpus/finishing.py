"""The end of a build: the tables of all assemblies joined, the whole described, and the folder given its name."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.config import CorpusConfig, to_dict
from umbel.data.corpus.card import CARD_FILE, write_card
from umbel.data.corpus.copy_stage import Copies
from umbel.data.corpus.manifest import ROLES
from umbel.data.corpus.packing import checksums_of, write_table
from umbel.data.corpus.splits import Roles
from umbel.data.corpus.stages import Packed
from umbel.data.corpus.store import (
    CONTIGS_FILE,
    FACTS_FILE,
    FORMAT,
    FORMAT_VERSION,
    REGIONS_FILE,
    SEGMENTS_FILE,
    WINDOWS_FILE,
    nibbles_name,
)
from umbel.data.corpus.tables import CONTIGS_SCHEMA, named
from umbel.data.corpus.windows import FATES, CutContig
from umbel.files import sha256_file, sha256_json, write_json

NO_ROLE = "none"


@dataclass(frozen=True)
class Decided:
    """What the stages found and decided, a value for each assembly in every sequence.

    Attributes
    ----------
    windows
        Facts of the last stage, with the path of its ``table``.
    """

    packed: Sequence[Packed]
    roles: Sequence[Roles]
    cuts: Sequence[tuple[CutContig, ...]]
    copies: Copies
    windows: Sequence[dict[str, Any]]


def finish(
    target: Path, partial: Path, config: CorpusConfig, inputs: str, decided: Decided, others: dict[str, Any], card: bool
) -> None:
    """Write the tables and ``corpus.json`` into ``partial/corpus``, and rename that to ``target``.

    Parameters
    ----------
    inputs
        Identifies what the corpus was built from.
    others
        What ``corpus.json`` says about screens and exclusions.
    card
        Whether to draw ``corpus.html``.
    """
    folder = partial / "corpus"
    names = [name for each in decided.packed for name in _files_of(each.assembly.name)]
    tables = {
        CONTIGS_FILE: [_contigs_table(each, cut) for each, cut in zip(decided.packed, decided.cuts, strict=True)],
        WINDOWS_FILE: [pq.read_table(found["table"]) for found in decided.windows],
        SEGMENTS_FILE: [decided.copies.table] if decided.copies.table is not None else [],
        REGIONS_FILE: [pq.read_table(each.regions) for each in decided.packed if each.facts["annotation"]],
    }
    for name, parts in tables.items():
        if parts:
            write_table(folder / name, pa.concat_tables(parts))
            names.append(name)
    columns = zip(
        decided.packed,
        decided.roles,
        decided.cuts,
        decided.windows,
        tables[WINDOWS_FILE],
        decided.copies.spectra,
        strict=True,
    )
    assemblies = [_assembly_facts(*row) for row in columns]
    # As large as the genomes, and hashed when they were written.
    known = {nibbles_name(each.assembly.name): each.facts["nibbles"] for each in decided.packed}
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "settings": to_dict(config),
        "inputs": inputs,
        "hash": sha256_json(
            {
                "format_version": FORMAT_VERSION,
                "settings": to_dict(config),
                "assemblies": [[told["species"], told["assembly"], told["content"]] for told in assemblies],
            }
        ),
        "assemblies": assemblies,
        "totals": {role: _total([told["roles"][role] for told in assemblies]) for role in (*ROLES, NO_ROLE)},
        "waterfall": _waterfall(assemblies),
        "duplicates": decided.copies.facts,
        **others,
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": known.get(name) or sha256_file(folder / name)}
            for name in names
        },
    }
    write_json(folder / FACTS_FILE, facts)
    names.append(FACTS_FILE)
    if card:
        write_card(facts, folder / CARD_FILE)
        names.append(CARD_FILE)
    # What a killed build or another manifest left behind must not come along.
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()
    os.replace(folder, target)
    shutil.rmtree(partial, ignore_errors=True)


def _files_of(assembly: str) -> list[str]:
    nibbles = nibbles_name(assembly)
    return [nibbles, checksums_of(Path(nibbles)).as_posix()]


def _contigs_table(packed: Packed, cut: Sequence[CutContig]) -> pa.Table:
    columns: list[Any] = [
        named(np.zeros(len(cut)), [packed.assembly.name]),
        [contig.name for contig in cut],
        [contig.length for contig in cut],
        named(np.array([("", *ROLES).index(contig.role) for contig in cut]), ("", *ROLES)),
        [contig.offset for contig in cut],
        [contig.reason for contig in cut],
    ]
    return pa.table(columns, schema=CONTIGS_SCHEMA)


def _assembly_facts(
    packed: Packed,
    roles: Roles,
    cut: Sequence[CutContig],
    windows: dict[str, Any],
    table: pa.Table,
    spectrum: list[int],
) -> dict[str, Any]:
    """All that ``corpus.json`` says about one assembly."""
    tallies: dict[str, dict[str, Any]] = {
        role: {"n_contigs": 0, "n_bases": 0, "soft_masked": 0, "letters": Counter()} for role in (*ROLES, NO_ROLE)
    }
    for contig, found in zip(cut, packed.contigs, strict=True):
        tally = tallies[contig.role or NO_ROLE]
        tally["n_contigs"] += 1
        tally["n_bases"] += found.length
        tally["soft_masked"] += found.soft_masked
        tally["letters"].update(found.letters)
    for role, tally in tallies.items():
        tally["letters"] = dict(sorted(tally["letters"].items()))
        tally.update(windows["roles"].get(role, dict.fromkeys(next(iter(windows["roles"].values())), 0)))
    digest = hashlib.sha256()
    for name in ("start", "end"):
        digest.update(np.ascontiguousarray(table[name].to_numpy().astype("<i8")).data)
    return {
        **packed.told,
        # Windows follow from role, start and end; so this names the content whatever the file formats do.
        "content": sha256_json(
            {
                "contigs": [[contig.name, contig.length, contig.role] for contig in cut],
                "nibbles": packed.facts["nibbles"],
                "regions": packed.facts["regions"],
                "windows": digest.hexdigest(),
            }
        ),
        "statistics": packed.facts["statistics"],
        "repeats_from": packed.facts.get("repeats_from", {"source": "fasta"}),
        "annotation": packed.facts["annotation"],
        "decisions": list(roles.decisions),
        "roles": tallies,
        "fates": windows["fates"],
        "histograms": windows["histograms"],
        "kmer_spectrum": spectrum,
    }


def _total(tallies: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum the counts of one role over assemblies."""
    total: dict[str, Any] = {key: sum(tally[key] for tally in tallies) for key in tallies[0] if key != "letters"}
    letters: Counter[str] = Counter()
    for tally in tallies:
        letters.update(tally["letters"])
    return {**total, "letters": dict(sorted(letters.items()))}


def _waterfall(assemblies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bases of each species: how many came in, and how many ended as what."""
    rows: dict[str, dict[str, Any]] = {}
    for told in assemblies:
        row = rows.setdefault(
            told["species"],
            {"species": told["species"], "family": told["family"], "in": 0, "fates": dict.fromkeys(FATES, 0)},
        )
        for fate, amount in told["fates"].items():
            row["fates"][fate] += amount
            row["in"] += amount
    return list(rows.values())
