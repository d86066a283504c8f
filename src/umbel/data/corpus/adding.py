"""Add an assembly to a manifest: read its files, take checksum and statistics, and write its table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from umbel.data.corpus.assembly import Assembly
from umbel.data.corpus.entry import KEYS, PATH_KEYS
from umbel.data.corpus.manifest import parse_manifest
from umbel.data.corpus.packing import read_genes
from umbel.data.corpus.statistics import AssemblyStatistics, StatisticsBuilder
from umbel.errors import FastaError, ManifestError
from umbel.files import sha256_file, whole_file
from umbel.genome.fasta import read_pieces
from umbel.genome.repeats import read_repeats
from umbel.progress import Reporter, reporter_or_silent


def add_assembly(
    manifest: str | Path, facts: Mapping[str, Any], reporter: Reporter | None = None
) -> tuple[Assembly, AssemblyStatistics]:
    r"""Append an assembly to a TOML manifest, after reading all of its files.

    Its ``sha256`` is that of the FASTA, and must be the one that is given, if one is. ``retrieved`` is today where it
    is not given. What the manifest holds stays as it is, byte for byte; if anything is refused, so does the whole file.

    Parameters
    ----------
    manifest
        TOML file; made if it is not there.
    facts
        Values by the keys of ``[[assembly]]``, without ``contigs``: text, numbers (``taxid``, ``ploidy``) or sequences
        of text (``lineage``, ``subgenomes``). Paths are those of the working directory. Empty values and None are left
        out.
    reporter
        Where progress goes.

    Returns
    -------
    assembly
        As the manifest now has it.
    statistics
        Lengths, gaps and composition of the FASTA.

    Raises
    ------
    ManifestError
        If the manifest is no TOML, has an assembly of that name, or would be refused with the new one.
    FastaError, AnnotationError
        If the FASTA, the GFF3 or the repeats are wrong, or do not belong together.
    OutputError
        If the manifest cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.fa").write_text(">chr1\nACGTNNacgt\n")
    >>> facts = {"species": "Zea mays", "assembly": "B73", "fasta": folder / "a.fa", "taxid": 4577}
    >>> assembly, statistics = add_assembly(folder / "m.toml", facts)
    >>> assembly.family, statistics.n_bases, statistics.soft_masked_frac
    ('Poaceae', 10, 0.4)
    >>> print((folder / "m.toml").read_text().splitlines()[:4])
    ['[[assembly]]', 'species = "Zea mays"', 'assembly = "B73"', 'fasta = "a.fa"']
    """
    if unknown := set(facts) - set(KEYS):
        raise ValueError(f"{', '.join(sorted(unknown))}: no key of an assembly; the keys are {', '.join(KEYS)}")
    reporter = reporter_or_silent(reporter)
    source = Path(manifest)
    if source.suffix != ".toml":
        raise ManifestError(
            "assemblies are added to a TOML manifest. Name a .toml file, or add rows to the CSV.", source
        )
    try:
        written = source.read_bytes() if source.exists() else b""
        text = written.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ManifestError("not UTF-8 text. Save it as UTF-8.", source) from error
    except OSError as error:
        raise ManifestError(f"cannot be read: {error.strerror}.", source) from error
    fasta = Path(facts["fasta"])
    try:
        sha256 = sha256_file(fasta)
    except FileNotFoundError as error:
        raise FastaError("no such file. Check the path.", fasta) from error
    except OSError as error:
        raise FastaError(f"cannot be read: {error.strerror}.", fasta) from error
    if (expected := str(facts.get("sha256") or sha256).lower()) != sha256:
        raise FastaError(f"its sha256 is {sha256}, and should be {expected}. Copy or download it again.", fasta)
    _refuse_known(source, text, str(facts["assembly"]), sha256)
    table = _table({"retrieved": date.today().isoformat(), **_given(source, facts), "sha256": sha256})
    addition = ("\n" if text and not text.endswith("\n") else "") + ("\n" if text.strip() else "") + table
    assembly = parse_manifest(source, text + addition).assemblies[-1]
    statistics = _read_files(assembly, reporter)
    with whole_file(source) as temporary:
        temporary.write_bytes(written + addition.encode())
    return assembly, statistics


def _refuse_known(source: Path, text: str, name: str, sha256: str) -> None:
    """Refuse a name that the manifest has already, and say whether it is the same file."""
    for known in parse_manifest(source, text, may_be_empty=True).assemblies:
        if known.name == name:
            changed = (
                f", with sha256 {known.sha256}, and this file has {sha256}: it has changed"
                if known.sha256 not in ("", sha256)
                else ""
            )
            raise ManifestError(
                f"assembly {name!r} is already there{changed}. Choose another name, or take the old one out first.",
                source,
            )


def _given(source: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts that say something, with paths as seen from the manifest's folder."""
    given = {key: facts[key] for key in KEYS if facts.get(key) not in (None, "", (), [])}
    for key in PATH_KEYS:
        if key in given:
            folder = os.path.abspath(source.parent)  # noqa: PTH100 - resolve() would follow links, which may lead out
            given[key] = Path(os.path.relpath(os.path.abspath(given[key]), folder)).as_posix()  # noqa: PTH100
    return given


def _table(facts: Mapping[str, Any]) -> str:
    """TOML of an assembly."""
    return "\n".join(["[[assembly]]", *(f"{key} = {_toml(facts[key])}" for key in KEYS if key in facts)]) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the one control character that JSON lets stand.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(_toml(item) for item in value)}]"


def _read_files(assembly: Assembly, reporter: Reporter) -> AssemblyStatistics:
    """Read FASTA, GFF3 and repeats to the end, and see that they belong together."""
    builder = StatisticsBuilder()
    lengths: dict[str, int] = {}
    task = reporter.start(f"Reading {assembly.fasta.name}", assembly.fasta.stat().st_size, "bytes")
    try:
        for piece in read_pieces(assembly.fasta, on_bytes=task.advance):
            builder.add(piece)
            lengths[piece.name] = piece.end
    finally:
        task.close()
    if assembly.gff3 is not None:
        annotation = read_genes(assembly.gff3, lengths)
        if annotation.unknown_contigs:
            reporter.say(
                f"{assembly.gff3.name}: {sum(annotation.unknown_contigs.values())} rows are on contigs that the FASTA "
                f"does not have, such as {next(iter(annotation.unknown_contigs))}"
            )
    if assembly.repeats is not None:
        read_repeats(assembly.repeats, lengths)
    return builder.result()
