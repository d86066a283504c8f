"""Substitutions drawn from genes: as many synonymous as missense and nonsense ones from each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import AnnotationError
from umbel.evaluate.zero_shot.rows import (
    N_FOLDS,
    N_KEYS,
    Drawn,
    Ints,
    Rows,
    context_key,
    frame_key,
    substitution_key,
)
from umbel.evaluate.zero_shot.settings import ZeroShotSettings
from umbel.genome.annotation import some_names
from umbel.genome.coding import (
    CLASSES,
    NO_CLASS,
    CodingGene,
    GeneSubstitutions,
    classify_substitutions,
    gene_problem,
    read_coding_genes,
    shared_runs,
)
from umbel.genome.genetic_code import genetic_code
from umbel.genome.reference import Reference
from umbel.genome.runs import Runs, as_runs, fill
from umbel.genome.sequence import Codes, N, complement

COMPARISONS = (("nonsense", "synonymous"), ("missense", "synonymous"))
MIN_PER_CLASS = 20

Table = dict[str, npt.NDArray[Any]]

_COLUMNS = ("position", "ref", "alt", "label", "own_ref", "own_alt", "left", "right", "codon_position")


def draw_from_genes(reference: Reference, gff3: str | Path, settings: ZeroShotSettings) -> Drawn:
    """Draw substitutions of each class from genes in random order, equally many of every class from a gene.

    So a gene's own composition, length or place cannot tell the classes apart. Left out, and counted: genes with a
    problem (:func:`umbel.genome.coding.gene_problem`), bases that are coding in two genes, and bases beside an N.

    Parameters
    ----------
    reference, gff3
        Of one assembly.
    settings
        Says how many.

    Raises
    ------
    AnnotationError
        If the annotation is broken or belongs to another assembly, a contig that is asked for is not there, or fewer
        than 20 substitutions of a class are found.
    """
    absent = [name for name in settings.contigs if name not in reference.lengths]
    if absent:
        raise AnnotationError(
            f"--contig {absent[0]}: the FASTA has no such contig; there are, for example, "
            f"{some_names(reference.lengths)}",
            gff3,
        )
    found = read_coding_genes(gff3, reference.lengths)
    shared = shared_runs(found.genes)
    genes = [gene for gene in found.genes if not settings.contigs or gene.contig in settings.contigs]
    drawing = _Drawing(reference, settings, shared)
    order = np.random.default_rng([settings.seed, 0]).permutation(len(genes))
    for visit, i in enumerate(order.tolist()):
        if drawing.n_left == 0:
            break
        drawing.visit(genes[i], np.random.default_rng([settings.seed, 1, visit]))
    n_found = settings.n_per_class - drawing.n_left
    if n_found < MIN_PER_CLASS:
        raise AnnotationError(
            f"{len(genes)} genes give only {n_found} substitutions of each class, and {MIN_PER_CLASS} are the least "
            f"that can be compared ({drawing.in_words()}). Give more genes.",
            gff3,
        )
    facts = {
        "from": "genes",
        "genetic_code": settings.code,
        "genes": len(genes),
        "genes_visited": drawing.n_visited,
        "genes_used": len(drawing.genes),
        "genes_left_out": dict(sorted(drawing.left_out.items())),
        "cds_rows_without_parent": found.n_without_parent,
        "cds_rows_on_other_contigs": dict(found.unknown_contigs),
        "per_class": n_found,
        "asked_per_class": settings.n_per_class,
    }
    tested: dict[str, list[tuple[int, int]]] = {}
    for gene in drawing.genes:
        tested.setdefault(gene.contig, []).append((gene.start, gene.end))
    return Drawn(drawing.rows(tuple(reference.lengths)), drawing.counts, COMPARISONS, facts, tested)


class _Drawing:
    """What has been drawn so far."""

    def __init__(self, reference: Reference, settings: ZeroShotSettings, shared: dict[str, Runs]):
        self.reference, self.settings, self.shared = reference, settings, shared
        self.code = genetic_code(settings.code)
        self.n_left = settings.n_per_class
        self.n_visited = 0
        self.genes: list[CodingGene] = []
        self.left_out: dict[str, int] = {}
        self.counts = {name: np.zeros((N_FOLDS, n, len(CLASSES)), np.int64) for name, n in N_KEYS.items()}
        self._number_of_contig = {name: number for number, name in enumerate(reference.lengths)}
        self._parts: list[dict[str, Ints]] = []

    def in_words(self) -> str:
        """Say what became of the genes."""
        told = [f"{count} with {problem}" for problem, count in sorted(self.left_out.items())]
        return f"{len(self.genes)} used, left out: {', '.join(told) or 'none'}"

    def visit(self, gene: CodingGene, rng: np.random.Generator) -> None:
        """Draw from a gene, or count why not."""
        self.n_visited += 1
        first, last = max(0, gene.start - 1), min(self.reference.lengths[gene.contig], gene.end + 1)
        codes = self.reference.fetch(gene.contig, first, last)
        inside = codes[gene.start - first : gene.end - first]
        problem = gene_problem(gene, inside, self.code)
        if problem is None:
            table = self._table(gene, classify_substitutions(gene, inside, self.code), codes, first)
            each = [np.flatnonzero(table["label"] == label) for label in range(len(CLASSES))]
            n = min(self.settings.per_gene, self.n_left, *(len(rows) for rows in each))
            if n:
                self._take(gene, table, np.concatenate([rng.permutation(rows)[:n] for rows in each]), n)
                return
            problem = "no substitution of some class"
        self.left_out[problem] = self.left_out.get(problem, 0) + 1

    def _table(self, gene: CodingGene, found: GeneSubstitutions, codes: Codes, first: int) -> Table:
        """Give the columns of all substitutions of a gene that have a class."""
        alone = np.ones(gene.end - gene.start, bool)
        fill(alone, self.shared.get(gene.contig, as_runs([])), gene.start, np.bool_(False))
        at = found.position - first
        # A base at an end of the contig has no neighbour there.
        padded = np.concatenate(([N], codes, [N])).astype(np.uint8)
        left, right = padded[at], padded[at + 2]
        usable = alone[found.position - gene.start] & (left < N) & (right < N)
        base, alt = np.nonzero((found.effect != NO_CLASS) & usable[:, None])
        ref, changed = found.ref[base], alt.astype(np.uint8)
        columns: Table = {
            "position": found.position[base],
            "ref": ref,
            "alt": changed,
            "label": found.effect[base, alt],
        }
        if gene.strand == "+":
            own: Table = {"own_ref": ref, "own_alt": changed, "left": left[base], "right": right[base]}
        else:
            turned = (complement(each) for each in (ref, changed, right[base], left[base]))
            own = dict(zip(("own_ref", "own_alt", "left", "right"), turned, strict=True))
        return columns | own | {"codon_position": found.codon_position[base]}

    def _take(self, gene: CodingGene, table: Table, chosen: Ints, n: int) -> None:
        fold = len(self.genes) % N_FOLDS
        ref, alt = table["own_ref"], table["own_alt"]
        keys = {
            "substitution": substitution_key(ref, alt),
            "context": context_key(table["left"], ref, table["right"], alt),
            "frame": frame_key(table["codon_position"], ref, alt),
        }
        for name, key in keys.items():
            np.add.at(self.counts[name][fold], (key, table["label"]), 1)
        part = {name: table[name][chosen].astype(np.int64) for name in _COLUMNS}
        part["contig"] = np.full(len(chosen), self._number_of_contig[gene.contig])
        part["cluster"] = np.full(len(chosen), len(self.genes))
        self._parts.append(part)
        self.genes.append(gene)
        self.n_left -= n

    def rows(self, contigs: Sequence[str]) -> Rows:
        """Give all that was drawn, in the order of the genome."""
        whole = {name: np.concatenate([part[name] for part in self._parts]) for name in self._parts[0]}
        order = np.lexsort((whole["alt"], whole["position"], whole["contig"]))
        whole = {name: values[order] for name, values in whole.items()}
        small = {name: whole[name].astype(np.uint8) for name in _COLUMNS if name not in ("position", "label")}
        return Rows(
            contigs=tuple(contigs),
            contig=whole["contig"],
            position=whole["position"],
            label=whole["label"],
            classes=CLASSES,
            cluster=whole["cluster"],
            clusters=tuple(gene.name for gene in self.genes),
            **small,
        )
