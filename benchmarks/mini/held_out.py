"""What every script about mini shares: the data's files, what was held out of training, windows, options, output.

``manifest.toml`` names the contigs of role test, and in its ``[[exclude]]`` tables the stretches of training genomes
that descend from the same ground as what is held out: neither mini nor what is fitted here saw them.
"""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))

from measure import facts, write  # noqa: E402

from umbel.genome.annotation import bed_rows  # noqa: E402
from umbel.genome.reference import Reference  # noqa: E402
from umbel.genome.runs import Runs, as_runs, fill, merge  # noqa: E402
from umbel.predict.predictor import Predictor, load  # noqa: E402

THALIANA = "genomes/arabidopsis_thaliana"
NAPUS = "genomes/brassica_napus/Bnapus_AST_PRJEB5043_v1_top_scaffolds_part1.2bit"
FILES = {
    "chr1": f"{THALIANA}/TAIR10_chr1.2bit",
    "chr1_genes": f"{THALIANA}/TAIR10_chr1_RefSeq_Araport.gff3.gz",
    "chr5": f"{THALIANA}/TAIR10_chr5.2bit",
    "arenosa": "genomes/arabidopsis_arenosa/AARE701a_chr1_chr2.2bit",
    "napus": NAPUS,
    "napus_genes": "genomes/brassica_napus/Bnapus_genes_part1.gff3.gz",
    "introns": "tasks/annotation/TAIR10_introns_all_chr.bed.gz",
    "transposons": "tasks/annotation/TAIR10_Buisine_TEs.tsv.gz",
    "terminators": "tasks/starrseq_terminators/terminator_strength_arabidopsis_maize.tsv.gz",
    "promoters": "tasks/starrseq_promoters/CNN_test_leaf.tsv.gz",
}
CHR5, CHR5_ELSEWHERE = "Chr5", "Chr5"
MAX_N_FRAC = 0.02
PIECE_BP = 1 << 20


@dataclass(frozen=True)
class HeldOut:
    """Contigs of role test by genome, those of training, and stretches of either that nothing may touch."""

    test: dict[str, tuple[str, ...]]
    train: dict[str, tuple[str, ...]]
    avoid: dict[str, Runs]
    told: str


def parser(doc: str | None, out: str) -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("checkpoint", help="checkpoint or run folder, or the name of a model that ships")
    words.add_argument("--data", type=Path, required=True, help="folder with genomes/ and tasks/")
    words.add_argument("-o", "--out", type=Path, default=HERE.parent / "results" / out)
    words.add_argument("--manifest", type=Path, default=HERE / "manifest.toml")
    words.add_argument("--contigs", default="", help="held-out B. napus contigs, in place of the manifest's")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--n-draws", type=int, default=1000)
    words.add_argument("--threads", type=int, default=1)
    return words


def begin(words: argparse.Namespace) -> tuple[Predictor, float]:
    torch.set_num_threads(words.threads)
    return load(words.checkpoint, "cpu"), time.perf_counter()


def finish(words: argparse.Namespace, began: float, results: dict[str, Any], predictor: Predictor) -> None:
    """Write the JSON with what a reader needs to judge it."""
    # Where files lay on this machine helps nobody.
    options = {
        key: value
        for key, value in vars(words).items()
        if not isinstance(value, Path) and key not in ("checkpoint", "fp32")
    }
    about = {
        "facts": facts(torch.device("cpu")),
        "model": {
            "weights_hash": predictor.weights_hash,
            "n_parameters": predictor.n_parameters,
            "n_active_parameters": predictor.n_active_parameters,
            "window_bp": predictor.window_bp,
        },
        "options": options,
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(time.process_time(), 1),
    }
    write(words.out, about | results)
    print(f"{words.out}: {about['seconds']} s")


def held_out(words: argparse.Namespace) -> HeldOut:
    """Read what is held out of the manifest, or of ``--contigs``.

    Raises
    ------
    SystemExit
        If neither says.
    """
    with Reference.open(words.data / FILES["napus"]) as napus:
        every = tuple(napus.lengths)
    if words.contigs:
        test = tuple(words.contigs.split(","))
        told = "contigs named on the command line"
    elif words.manifest.is_file():
        test = tuple(contigs_of_role(words.manifest, "test", every))
        told = f"role test of {words.manifest.name}"
    else:
        sys.exit(f"{words.manifest} is not there: it says what was held out. Name contigs with --contigs LK031787,...")
    absent = [name for name in test if name not in every]
    if absent or not test:
        sys.exit(f"held-out contigs: {absent[0] if absent else 'none of B. napus'}; the genome has {every[0]}, ...")
    train = tuple(name for name in every if name not in test)
    if not words.contigs:
        train = tuple(contigs_of_role(words.manifest, "train", every))
    avoid: dict[str, Runs] = {}
    if words.manifest.is_file():
        spans: dict[str, list[tuple[int, int]]] = {}
        for table in tomllib.loads(words.manifest.read_text(encoding="utf-8")).get("exclude", []):
            for row in bed_rows(words.manifest.parent / table["bed"]):
                spans.setdefault(row.contig, []).append((row.start, row.end))
        avoid = {contig: merge(as_runs(own)) for contig, own in spans.items()}
    return HeldOut({"napus": test, "chr5": (CHR5,)}, {"napus": train}, avoid, told)


def contigs_of_role(manifest: Path, role: str, among: tuple[str, ...]) -> list[str]:
    """Contigs of a role in any assembly, of those that are named; ``*`` is all that no other role names."""
    found: list[str] = []
    for assembly in tomllib.loads(manifest.read_text(encoding="utf-8")).get("assembly", []):
        roles = assembly.get("contigs", {})
        named = {name for names in roles.values() for name in names}
        if not named & set(among) and "napus" not in assembly.get("species", ""):
            continue
        for name in roles.get(role, []):
            found += [other for other in among if other not in named] if name == "*" else [name]
    return [name for name in dict.fromkeys(found) if name in among]


def training_pieces(words: argparse.Namespace, held: HeldOut, each_bp: int) -> Iterator[np.ndarray]:
    """Yield at most so many bases of each of the three large training genomes, for baselines that count."""
    for name, contigs in (("chr1", ()), ("arenosa", ()), ("napus", held.train["napus"])):
        with Reference.open(words.data / FILES[name]) as genome:
            left = each_bp
            for contig in contigs or genome.lengths:
                for start in range(0, genome.lengths[contig], PIECE_BP):
                    end = min(start + PIECE_BP, genome.lengths[contig], start + left)
                    if end <= start:
                        break
                    codes = genome.fetch(contig, start, end)
                    if contig in held.avoid:
                        fill(codes, held.avoid[contig], start, np.uint8(4))
                    left -= end - start
                    yield codes


def is_clear(genome: Reference, contig: str, start: int, end: int, avoid: dict[str, Runs]) -> bool:
    """Whether a window lies in its contig, touches nothing that is to be avoided, and has few N."""
    if start < 0 or end > genome.lengths[contig]:
        return False
    marks = np.zeros(end - start, bool)
    if contig in avoid and fill(marks, avoid[contig], start, np.True_):
        return False
    return bool((genome.fetch(contig, start, end) > 3).mean() <= MAX_N_FRAC)


def draw_places(
    genome: Reference, contigs: tuple[str, ...], n: int, window_bp: int, avoid: dict[str, Runs], seed: int
) -> list[tuple[str, int]]:
    """Draw windows that do not overlap, evenly over the contigs; sorted."""
    slots = [(c, start) for c in contigs for start in range(0, genome.lengths[c] - window_bp + 1, window_bp)]
    found = []
    for i in np.random.default_rng(seed).permutation(len(slots)).tolist():
        contig, start = slots[i]
        if is_clear(genome, contig, start, start + window_bp, avoid):
            found.append(slots[i])
        if len(found) == n:
            break
    return sorted(found)
