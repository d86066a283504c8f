"""Make three small labelled sets from real plant data, and a suite file, for benchmarking on a CPU.

    python benchmarks/labelled_plants.py DATA -o FOLDER

DATA holds ``genomes/`` and ``tasks/``. ``splice_donor`` asks whether a GT inside a gene is a donor: trained on
*Arabidopsis thaliana* chromosome 1, tested on *Brassica napus*. ``terminator_leaf`` is the strength of terminators in
tobacco leaf, measured by Plant STARR-seq (Gorjifard et al. 2024); near-copies are kept on one side. ``tata_promoter``
tells promoters of EPD with a TATA box from those without one.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from umbel.data.labelled.dev_split import split_dev
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.evaluate.suites.manifest import SplitName
from umbel.evaluate.suites.own import OwnDataset, write_suite
from umbel.genome.fasta import read_fasta, read_pieces
from umbel.genome.sequence import Codes, decode, encode, revcomp

FLANK_BP = 60
Rows = list[tuple[str, str]]


def transcripts(path: Path) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    """Give the exons of each transcript by (contig, strand, transcript), 0-based half-open."""
    exons: dict[tuple[str, str, str], list[tuple[int, int]]] = defaultdict(list)
    with gzip.open(path, "rt") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if len(fields) == 9 and fields[2] == "exon":
                parent = next(part[7:] for part in fields[8].split(";") if part.startswith("Parent="))
                exons[fields[0], fields[6], parent].append((int(fields[3]) - 1, int(fields[4])))
    return exons


def contigs(path: Path, most: int) -> dict[str, Codes]:
    """Read the first contigs of a 2bit file."""
    parts: dict[str, list[Codes]] = defaultdict(list)
    for piece in read_pieces(path):
        if piece.name not in parts and len(parts) == most:
            break
        parts[piece.name].append(piece.codes)
    return {name: np.concatenate(codes) for name, codes in parts.items()}


def donors(genome: dict[str, Codes], gff3: Path, n: int, seed: int) -> Rows:
    """Give n windows around donors and n around other GT of the same genes, on the gene's strand."""
    rng = np.random.default_rng(seed)
    real, genes = set(), set()
    for (contig, strand, _), exons in transcripts(gff3).items():
        if contig not in genome:
            continue
        exons.sort()
        genes.add((contig, strand, exons[0][0], exons[-1][1]))
        for (_, end), (start, _) in pairwise(exons):
            real.add((contig, strand, end if strand == "+" else start))
    rows: Rows = []
    real_ones = sorted(real)
    for i in rng.permutation(len(real_ones))[: 2 * n]:
        add(rows, genome, *real_ones[i], label="donor")
    rows = rows[:n]
    gene_list = sorted(genes)
    while len(rows) < 2 * n:
        contig, strand, start, end = gene_list[rng.integers(len(gene_list))]
        place = int(rng.integers(start, end))
        if (contig, strand, place) not in real:
            add(rows, genome, contig, strand, place, label="other")
    return rows


def add(rows: Rows, genome: dict[str, Codes], contig: str, strand: str, place: int, label: str) -> None:
    """Add the window around a boundary, if a GT follows it and no base is unknown."""
    codes = genome[contig][max(0, place - FLANK_BP) : place + FLANK_BP]
    if strand == "-":
        codes = revcomp(codes)
    if len(codes) == 2 * FLANK_BP and codes.max() < 4 and codes[FLANK_BP : FLANK_BP + 2].tolist() == [2, 3]:
        rows.append((decode(codes), label))


def examples_of(rows: Rows, task: Task, source: str) -> Examples:
    """Make examples of rows, shuffled."""
    order = np.random.default_rng(0).permutation(len(rows))
    chosen = [rows[i] for i in order]
    targets = (
        np.array([[float(label)] for _, label in chosen], np.float32)
        if task.is_numbers
        else np.array([task.names.index(label) for _, label in chosen])
    )
    codes = tuple(encode(sequence.encode())[0] for sequence, _ in chosen)
    ids = tuple(f"row-{i}" for i in range(len(chosen)))
    return Examples(task, ids, codes, targets, source, np.arange(len(chosen)) + 2)


def parted(rows: Rows, task: Task, n_train: int, n_test: int, seed: int) -> dict[SplitName, Examples]:
    """Part rows into train and test, near-copies on one side, and draw so many of each."""
    rng = np.random.default_rng(seed)
    train, test = split_dev(examples_of(list(dict.fromkeys(rows)), task, "rows"), 0.2, seed)
    return {
        "train": train.take(rng.permutation(len(train))[:n_train]),
        "test": test.take(rng.permutation(len(test))[:n_test]),
    }


def terminators(path: Path, n: int, seed: int) -> Rows:
    """Draw n wild-type terminators with a strength in tobacco leaf."""
    with gzip.open(path, "rt") as lines:
        found = [
            (row["seq"], row["mean_enrichment_tobacco"])
            for row in csv.DictReader(lines, delimiter="\t")
            if row["variant"] == "WT" and row["mean_enrichment_tobacco"] not in ("", "NA") and len(row["seq"]) == 170
        ]
    return [found[i] for i in np.random.default_rng(seed).permutation(len(found))[:n]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--n-train", type=int, default=2_500)
    parser.add_argument("--n-test", type=int, default=1_500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    genomes, tasks, n_train, n_test = args.data / "genomes", args.data / "tasks", args.n_train, args.n_test
    thaliana = genomes / "arabidopsis_thaliana"
    napus = genomes / "brassica_napus"
    donor = Task("binary", ("other", "donor"))
    train = donors(
        contigs(thaliana / "TAIR10_chr1.2bit", 1),
        thaliana / "TAIR10_chr1_RefSeq_Araport.gff3.gz",
        n_train // 2,
        args.seed,
    )
    (part1,) = napus.glob("*part1.2bit")
    test = donors(contigs(part1, 3), napus / "Bnapus_genes_part1.gff3.gz", n_test // 2, args.seed)
    splice: dict[SplitName, Examples] = {
        "train": examples_of(train, donor, "thaliana"),
        "test": examples_of(test, donor, "napus"),
    }
    measured = tasks / "starrseq_terminators" / "terminator_strength_arabidopsis_maize.tsv.gz"
    strength = Task("regression", ("leaf",))
    rows = [
        (decode(record.codes), label)
        for label, name in (("no_tata", "Arabidopsis_non_tata.fa.gz"), ("tata", "Arabidopsis_tata.fa.gz"))
        for record in read_fasta(tasks / "promoter_tss" / name)
    ]
    tata = parted(rows, Task("binary", ("no_tata", "tata")), n_train, n_test, args.seed)
    leaf = parted(terminators(measured, 20_000, args.seed), strength, n_train, n_test, args.seed)
    thaliana_alone = ("Arabidopsis thaliana",)
    suite = write_suite(
        args.out,
        "plants_small",
        "Three small sets from real plant data",
        {
            "splice_donor": OwnDataset(splice, "mcc", True, (*thaliana_alone, "Brassica napus")),
            "terminator_leaf": OwnDataset(leaf, "r2", True, (*thaliana_alone, "Zea mays")),
            "tata_promoter": OwnDataset(tata, "mcc", True, thaliana_alone),
        },
        licence="of the sources named in benchmarks/labelled_plants.py",
        page="benchmarks/labelled_plants.py",
    )
    print(f"wrote {args.out / 'suite.toml'}: {', '.join(dataset.name for dataset in suite.datasets)}")


if __name__ == "__main__":
    main()
