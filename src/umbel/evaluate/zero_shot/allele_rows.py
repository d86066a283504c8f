"""Alleles of a VCF file that are common, and alleles that are rare: the latter are more often kept so by selection."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from umbel.errors import VcfError
from umbel.evaluate.zero_shot.rows import KEYS, N_FOLDS, N_KEYS, NO_PLACE, Drawn, Ints, Rows
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.genome.reference import Reference
from umbel.genome.sequence import BASES, N, complement
from umbel.genome.vcf import VcfFile, VcfRecord

CLASSES = ("common", "rare")
COMMON, RARE = range(2)
MIN_PER_CLASS = 20
_LETTERS = frozenset(BASES[:N])


def draw_from_alleles(reference: Reference, vcf: str | Path, settings: ZeroShotSettings) -> Drawn:
    """Draw common and rare single-base alleles of a VCF or BCF file.

    The frequency of an allele is AC / AN, else AF of its INFO; where there is neither, it is counted from the
    genotypes. An allele is *common* at ``common_af`` and above (below 1: an allele that all have is no variant),
    *rare* up to ``rare_af``, or where it was counted once. All else is left out and counted.

    Parameters
    ----------
    reference, vcf
        Of one assembly.
    settings
        Says what is rare, and how many are drawn.

    Raises
    ------
    VcfError
        If the file is broken, tells no frequencies, or has fewer than 20 alleles of a class.
    """
    left_out: Counter[str] = Counter()
    found: list[tuple[int, int, int, int, int, int, int]] = []
    numbers = {name: number for number, name in enumerate(reference.lengths)}
    for record in VcfFile(vcf).records():
        if settings.contigs and record.contig not in settings.contigs:
            left_out["on another contig than asked for"] += max(1, len(record.alts))
            continue
        frequencies = _frequencies(record)
        for number, alt in enumerate(record.alts):
            kind = _kind(reference, record, alt)
            if isinstance(kind, str):
                left_out[kind] += 1
                continue
            count, frequency = frequencies[number]
            if frequency is None:
                left_out["no frequency"] += 1
                continue
            label = _label(count, frequency, settings)
            if isinstance(label, str):
                left_out[label] += 1
                continue
            found.append((numbers[record.contig], record.pos - 1, *kind, label))
    if not found and left_out["no frequency"]:
        raise VcfError(
            f"{left_out['no frequency']:,} alleles have neither AC and AN, nor AF, nor genotypes: nobody can say which "
            "are common. bcftools +fill-tags adds them.",
            vcf,
        )
    table = np.array(found, np.int64).reshape(-1, 7)
    per_class = [int((table[:, 6] == label).sum()) for label in range(len(CLASSES))]
    n = min(settings.n_per_class, *per_class)
    if n < MIN_PER_CLASS:
        told = ", ".join(f"{count:,} {why}" for why, count in sorted(left_out.items())) or "none"
        raise VcfError(
            f"it has {per_class[COMMON]:,} common and {per_class[RARE]:,} rare single-base alleles, and "
            f"{MIN_PER_CLASS} of each are the least that can be compared (left out: {told}). One sample tells no "
            "frequencies; move --set rare_af and common_af where there are several.",
            vcf,
        )
    rng = np.random.default_rng([settings.seed, 2])
    chosen = [rng.permutation(np.flatnonzero(table[:, 6] == label))[:n] for label in range(len(CLASSES))]
    rows = _rows(table[np.sort(np.concatenate(chosen))], reference, settings.block_bp)
    counts = {}
    for name, n_keys in N_KEYS.items():
        if name != "frame":
            counts[name] = np.zeros((N_FOLDS, n_keys, len(CLASSES)), np.int64)
            np.add.at(counts[name], (rows.fold, KEYS[name](rows), rows.label), 1)
    facts = {
        "from": "alleles",
        "common": per_class[COMMON],
        "rare": per_class[RARE],
        "alleles_left_out": dict(sorted(left_out.items())),
        "per_class": n,
        "asked_per_class": settings.n_per_class,
    }
    places: dict[str, list[tuple[int, int]]] = {}
    for contig, position in zip(rows.contig.tolist(), rows.position.tolist(), strict=True):
        places.setdefault(rows.contigs[contig], []).append((position, position + 1))
    return Drawn(rows, counts, (("rare", "common"),), facts, places)


def _frequencies(record: VcfRecord) -> list[tuple[int | None, float | None]]:
    r"""Count and frequency of each allele of ALT, as far as they are told.

    Examples
    --------
    >>> def told(info, *rest):
    ...     return _frequencies(VcfRecord(1, ("c", "10", ".", "A", "C,G", ".", ".", info, *rest), 10))
    >>> told("AC=1,6;AN=8"), told("AF=0.5,."), told(".", "GT\t0/1\t1|2\t./.")
    ([(1, 0.125), (6, 0.75)], [(None, 0.5), (None, None)], [(2, 0.5), (1, 0.25)])
    """
    n = len(record.alts)
    counts = [_number(text) for text in (record.info("AC") or "").split(",")]
    total = _number(record.info("AN") or "")
    if len(counts) == n and total and None not in counts:
        return [(int(count or 0), (count or 0) / total) for count in counts]
    shares = [_number(text) for text in (record.info("AF") or "").split(",")]
    if len(shares) == n and any(share is not None for share in shares):
        return [(None, share) for share in shares]
    called = _called(record)
    if not called:
        return [(None, None)] * n
    seen = Counter(called)
    return [(seen[str(i + 1)], seen[str(i + 1)] / len(called)) for i in range(n)]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _called(record: VcfRecord) -> list[str]:
    """List every copy of an allele in the genotypes, any ploidy; what is missing is left out."""
    if len(record.fields) < 9:
        return []
    keys, *samples = record.fields[8].split("\t")
    if keys.split(":")[0] != "GT":
        return []
    genotypes = (sample.split(":", 1)[0].replace("|", "/").split("/") for sample in samples)
    return [allele for genotype in genotypes for allele in genotype if allele not in (".", "")]


def _kind(reference: Reference, record: VcfRecord, alt: str) -> tuple[int, int, int, int] | str:
    """Give ref, alt and the neighbours of a substitution, or the reason why it is none that can be used."""
    ref = record.ref.upper()
    if ref not in _LETTERS or alt.upper() not in _LETTERS:
        return "not a single base for another"
    length = reference.lengths.get(record.contig)
    if length is None or not 1 <= record.pos <= length:
        return "not on the reference"
    if not 2 <= record.pos < length:
        return "beside an N or an end of the contig"
    left, own, right = reference.fetch(record.contig, record.pos - 2, record.pos + 1).tolist()
    if own != BASES.index(ref):
        return "REF is not what the reference has"
    if N in (left, right):
        return "beside an N or an end of the contig"
    return own, BASES.index(alt.upper()), left, right


def _label(count: int | None, frequency: float, settings: ZeroShotSettings) -> int | str:
    if not 0 < frequency < 1:
        return "of all samples, or of none"
    if frequency >= settings.common_af:
        return COMMON
    return RARE if count == 1 or frequency <= settings.rare_af else "between rare and common"


def _rows(table: Ints, reference: Reference, block_bp: int) -> Rows:
    contig, position, ref, alt, left, right, label = table.T
    order = np.lexsort((alt, position, contig))
    contig, position, label = contig[order], position[order], label[order]
    ref, alt, left, right = (each[order].astype(np.uint8) for each in (ref, alt, left, right))
    # No strand is the coding one: that is taken on which the reference is C or T.
    turn = (ref == 0) | (ref == 2)
    names = tuple(reference.lengths)
    blocks, cluster = np.unique(np.column_stack((contig, position // block_bp)), axis=0, return_inverse=True)
    return Rows(
        contigs=names,
        contig=contig,
        position=position,
        ref=ref,
        alt=alt,
        label=label,
        classes=CLASSES,
        cluster=cluster.reshape(-1).astype(np.int64),
        clusters=tuple(f"{names[c]}:{b * block_bp + 1}" for c, b in blocks.tolist()),
        own_ref=np.where(turn, complement(ref), ref),
        own_alt=np.where(turn, complement(alt), alt),
        left=np.where(turn, complement(right), left),
        right=np.where(turn, complement(left), right),
        codon_position=np.full(len(ref), NO_PLACE, np.uint8),
    )
