"""Time the stages of the corpus compiler on one core, and a whole build; beside its sketches, those of sourmash.

Use: python benchmarks/corpus.py -o benchmarks/results/corpus_cpu.json [--mbp 60] [--sourmash PYTHON]

The input is made: a genome of which 60 % are repeats, and a copy of it with 2 % of substitutions, shifted. Before
anything is timed, the copy must be found, with the containment that theory gives, and the repeats must be masked; if
not, nothing is written. sourmash is timed by the interpreter given, which has it, on the same bases in the same rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch

from umbel.config import CorpusConfig
from umbel.data.corpus.assembly import Assembly
from umbel.data.corpus.build import build_corpus
from umbel.data.corpus.executors import silent
from umbel.data.corpus.joins import (
    JoinJob,
    JudgeJob,
    ReduceJob,
    join_partition,
    judge_segments,
    load_pairs,
    reduce_pairs,
)
from umbel.data.corpus.masks import CountJob, MaskJob, apply_mask, count_repeats
from umbel.data.corpus.packing import PackJob, pack_assembly
from umbel.data.corpus.parts import Part
from umbel.data.corpus.pieces import PackedAssembly
from umbel.data.corpus.sketches import SketchFile, SketchJob, sketch_assembly
from umbel.data.corpus.windows import CutContig, WindowJob, cut_assembly
from umbel.genome.fasta import read_pieces
from umbel.genome.sequence import Codes, decode, pack
from umbel.genome.sketch import sketch

K, SCALED, SEGMENT_BP, PARTITIONS, MAX_COPIES = 21, 64, 8192, 4, 50
DIVERGENCE, SHIFT_BP = 0.02, 3000
MIN_COPIES, GAP_BP = 3, 50
CONFIG = CorpusConfig(window_bp=4_096, min_n50_bp=0)
LIMITS = {"containment_error": 0.05, "repeats_missed": 0.02, "others_masked": 0.02, "size_error": 0.02}

SOURMASH = """
import sys, time, sourmash
text = open(sys.argv[1]).read()
for line in sys.stdin:
    began = time.perf_counter()
    found = sourmash.MinHash(n=0, ksize={k}, scaled={scaled})
    found.add_sequence(text, force=True)
    print(time.perf_counter() - began, len(found), sourmash.VERSION, flush=True)
"""


def substituted(codes: Codes, share: float, rng: np.random.Generator) -> Codes:
    hit = rng.random(len(codes)) < share
    return ((codes + hit * rng.integers(1, 4, len(codes), np.uint8)) & 3).astype(np.uint8)


def made_genome(n_bases: int, rng: np.random.Generator) -> tuple[Codes, np.ndarray]:
    """Make a genome, and tell where its young repeats are."""
    families = [rng.integers(0, 4, int(rng.integers(1000, 8000)), np.uint8) for _ in range(max(2, n_bases // 250_000))]
    parts, is_repeat, place, repeats = [], [], 0, 0
    while place < n_bases:
        young = repeats < 0.6 * place
        if young:
            part = substituted(families[int(rng.integers(len(families)))], 0.02, rng)
            repeats += len(part)
        else:
            part = rng.integers(0, 4, int(rng.integers(1000, 8000)), np.uint8)
        parts.append(part)
        is_repeat.append(np.full(len(part), young))
        place += len(part)
    return np.concatenate(parts), np.concatenate(is_repeat)


class Bench:
    """The stages on one made genome and its copy, in one folder."""

    def __init__(self, folder: Path, n_bases: int):
        rng = np.random.default_rng(0)
        self.folder = folder
        self.codes, self.is_repeat = made_genome(n_bases, rng)
        self.copy = np.concatenate((self.codes[:SHIFT_BP][::-1], substituted(self.codes, DIVERGENCE, rng)))
        self.assemblies = [self.packed("own", self.codes), self.packed("copy", self.copy)]
        self.sketches = tuple(folder / f"{assembly.name}.sketch" for assembly in self.assemblies)
        self.joins = tuple(folder / f"{number}.pairs" for number in range(PARTITIONS))
        self.fasta = folder / "own.fa"
        text = decode(self.codes)
        self.fasta.write_text(">chr1\n" + "\n".join(text[i : i + 80] for i in range(0, len(text), 80)) + "\n")
        (folder / "other.fa").write_text(">chr1\n" + decode(self.copy) + "\n")
        self.manifest = folder / "manifest.toml"
        self.manifest.write_text(
            "".join(
                f'[[assembly]]\nspecies = "{name}"\nassembly = "{name}"\nfasta = "{name}.fa"\ncontigs.train = ["*"]\n'
                for name in ("own", "other")
            )
        )
        self.n_builds = 0

    def packed(self, name: str, codes: Codes) -> PackedAssembly:
        """Write one contig."""
        path = self.folder / f"{name}.nibbles"
        path.write_bytes(pack(codes, np.zeros(len(codes), bool)).tobytes())
        return PackedAssembly(name, path, ((len(codes), 0),), name)

    @property
    def mbp(self) -> float:
        """Length of the made genome."""
        return len(self.codes) / 1e6

    def read(self) -> None:
        """Read the FASTA, and turn letters into codes."""
        for _ in read_pieces(self.fasta):
            pass

    def pack(self) -> None:
        """Read, measure and pack an assembly."""
        job = PackJob(
            self.manifest, Assembly("own", "own", self.fasta), self.part("pack"), self.folder / "packed.nibbles", 0
        )
        pack_assembly(job, silent)

    def cut(self) -> None:
        """Cut an assembly into windows of 4,096 bases."""
        contig = CutContig("chr1", len(self.codes), 0, "train", "")
        job = WindowJob("own", self.assemblies[0].path, (contig,), {}, CONFIG, self.part("windows"), 0)
        cut_assembly(job, silent)

    def part(self, stage: str) -> Part:
        """Name what a job leaves."""
        return Part(self.folder, stage, "own", "key")

    def build(self) -> None:
        """Build the corpus of both assemblies, from FASTA to windows."""
        self.n_builds += 1
        build_corpus(self.manifest, self.folder / f"corpus{self.n_builds}", CONFIG)

    def hash_only(self) -> None:
        """Sketch from memory, without segments and files."""
        sketch(self.codes, K, SCALED)

    def sketch(self, number: int = 0) -> None:
        """Sketch one of the two."""
        assembly, out = self.assemblies[number], self.sketches[number]
        sketch_assembly(SketchJob(assembly, out, K, SCALED, SEGMENT_BP, PARTITIONS))

    def join(self) -> None:
        """Join both sketches, up to the list of near-copies."""
        for number, out in enumerate(self.joins):
            join_partition(JoinJob(self.sketches, number, MAX_COPIES, out))
        judge_segments(JudgeJob(self.sketches, self.joins, self.folder / "segments"))
        last = sum(SketchFile(path).n_segments for path in self.sketches)
        reduce_pairs(ReduceJob(self.joins, self.folder / "segments", 0, last, 0.34, 16, self.folder / "reduced"))

    def count(self) -> dict[str, Any]:
        """Count the k-mers of the genome."""
        return count_repeats(CountJob(self.assemblies[0], self.folder / "counts", MIN_COPIES))

    def mask(self) -> None:
        """Mask the genome by its counts."""
        apply_mask(MaskJob(self.assemblies[0], self.folder / "masked", "kmer", self.folder / "counts", GAP_BP))

    def gate(self) -> dict[str, float]:
        """Run every stage once; give what must be right before anything is timed."""
        self.sketch(0)
        self.sketch(1)
        self.join()
        found = load_pairs([self.folder / "reduced"])
        n_hashes = SketchFile(self.sketches[0]).n_hashes()
        best = np.zeros(len(n_hashes))
        # A repeat's k-mers in more than MAX_COPIES segments are not compared, so only segments without are judged.
        ours = found.s < len(best)
        np.maximum.at(best, found.s[ours], found.union[ours] / n_hashes[found.s[ours]])
        unique = np.add.reduceat(self.is_repeat, np.arange(len(best)) * SEGMENT_BP) < SEGMENT_BP / 50
        self.count()
        self.mask()
        soft = np.repeat(np.fromfile(self.folder / "masked", np.uint8), 2)[: len(self.codes)]
        soft = np.where(np.arange(len(soft)) % 2, soft >> 7, (soft >> 3) & 1).astype(bool)
        return {
            "containment_error": float(abs(best[unique].mean() - (1 - DIVERGENCE) ** K)),
            "repeats_missed": float((~soft[self.is_repeat]).mean()),
            "others_masked": float(soft[~self.is_repeat].mean()),
        }


class Sourmash:
    """Sketches the same bases in another process, which times itself."""

    def __init__(self, python: str, path: Path):
        script = SOURMASH.format(k=K, scaled=SCALED)
        self.process = subprocess.Popen(
            [python, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.seconds: list[float] = []
        self.version, self.n_hashes = "", 0

    def sketch(self) -> None:
        """Ask for one sketch, and wait for it."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, n_hashes, self.version = self.process.stdout.readline().split()
        self.seconds.append(float(seconds))
        self.n_hashes = int(n_hashes)


def row(stage: str, what: str, found: list[float], mbp: float) -> dict[str, Any]:
    speeds = [mbp / seconds for seconds in found]
    told = {"median": round(statistics.median(speeds), 1), "best": round(max(speeds), 1), "rounds": len(speeds)}
    return {"stage": stage, "what": what, "mbp": round(mbp, 1), "mbp_per_s": told}


def time_stages(bench: Bench, rounds: int, budget_s: float, sourmash: Sourmash | None) -> dict[str, Any]:
    cases: dict[str, Callable[[], object]] = {
        "read": bench.read,
        "pack": bench.pack,
        "hash": bench.hash_only,
        "sketch": bench.sketch,
        "join": bench.join,
        "count": bench.count,
        "mask": bench.mask,
        "cut": bench.cut,
        "build": bench.build,
    }
    if sourmash:
        cases["sourmash"] = sourmash.sketch
    times = measure.in_turns(cases, rounds, torch.device("cpu"), budget_s)
    rows = [
        row("pack", "reading FASTA, 80 letters a line", times["read"], bench.mbp),
        row("pack", "from FASTA to packed bases, with statistics", times["pack"], bench.mbp),
        row("sketch", "hashing alone, from memory", times["hash"], bench.mbp),
        row("sketch", "of a packed assembly, to a file", times["sketch"], bench.mbp),
        row("join", "both assemblies, to near-copies", times["join"], 2 * bench.mbp),
        row("mask", "counting k-mers exactly", times["count"], bench.mbp),
        row("mask", "covering repeats, rewriting the file", times["mask"], bench.mbp),
        row("cut", "windows, with their N, GC and repeats", times["cut"], bench.mbp),
        row("build", "whole, of both assemblies, repeats as in the FASTA", times["build"], 2 * bench.mbp),
    ]
    results: dict[str, Any] = {"rows": rows}
    n_rows = sum(int(SketchFile(path).n_hashes().sum()) for path in bench.sketches)
    results["join_hashes_per_s"] = round(n_rows / statistics.median(times["join"]))
    if sourmash:
        found = sourmash.seconds[-len(times["hash"]) :]
        rows.append(row("sketch", f"sourmash {sourmash.version}, add_sequence", found, bench.mbp))
        results["sourmash_over_hash"] = measure.ratio(found, times["hash"])
        results["sourmash_over_sketch"] = measure.ratio(found, times["sketch"])
    return results


def run(n_bases: int, rounds: int, budget_s: float, python: str | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), n_bases)
        gate = bench.gate()
        sourmash = None
        if python:
            text = Path(name) / "bases.txt"
            text.write_text(decode(bench.codes))
            sourmash = Sourmash(python, text)
            sourmash.sketch()
            ours = len(np.unique(sketch(bench.codes, K, SCALED)[0]))
            # The hash functions differ, so the sketches agree in size only.
            gate["size_error"] = abs(ours / sourmash.n_hashes - 1)
        wrong = {key: value for key, value in gate.items() if not value < LIMITS[key]}
        if wrong:
            sys.exit(f"a stage is wrong, so nothing is timed: {wrong} against {LIMITS}")
        return {"gate": gate, **time_stages(bench, rounds, budget_s, sourmash)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--mbp", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds; two rounds are made at least")
    parser.add_argument("--sourmash", default=None, help="a Python that has sourmash")
    parser.add_argument("--commit", default=None, help="where git is not at hand")
    parser.add_argument("--note", default=None, help="what else a reader must know, such as what else ran")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    facts = measure.facts(torch.device("cpu"), arguments.commit)
    results = run(int(arguments.mbp * 1e6), arguments.rounds, arguments.budget, arguments.sourmash)
    settings = {"k": K, "scaled": SCALED, "segment_bp": SEGMENT_BP, "min_copies": MIN_COPIES, "gap_bp": GAP_BP}
    measure.write_rows(arguments.out, {**facts, "note": arguments.note, "settings": settings, **results})
    for each in results["rows"]:
        print(each)


if __name__ == "__main__":
    main()
