"""Time `umbel embed` against the network alone, and against the obvious way, in the same run.

Use: python benchmarks/embedding_speed.py -o OUT.json [--device cpu] [--models small,published] [--quick]

Random weights, random bases: the clock does not care. The network alone is every forward pass of the rows, both
strands, on padded batches that are made beforehand; nothing is read, pooled or kept. ``umbel embed`` reads a FASTA,
cuts, tokenises, computes, pools and writes the table (Parquet; loading the model is in neither). The obvious way reads
the FASTA whole and takes one window at a time: tokenizer of Hugging Face, both strands, mean, list; it gets fewer
windows. Processor time is compared too, in which nothing can hide behind anything. Before the clock starts, rows must
equal the embedding of each window alone within 1e-5 of its largest number (1e-3 on a GPU, whose matrix products have
another order in a batch); else nothing is written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import measure
import numpy as np
import pyarrow.parquet as pq
import torch

from umbel.config import ModelConfig
from umbel.data.kmers import KmerTokens
from umbel.data.tokenizers import describe, hf_tokenizer
from umbel.genome.fasta import read_fasta
from umbel.genome.sequence import decode, revcomp
from umbel.model.hf import new_model
from umbel.predict.batches import padded, similar_lengths
from umbel.predict.embed import EmbedSettings
from umbel.predict.predictor import Predictor

WINDOW_BP = 512
SMALL = ModelConfig(n_layers=8, d_model=64, d_state=8, ffn_hidden=128)
MODELS = {"small": SMALL, "published": ModelConfig()}


def predictor(config: ModelConfig, device: torch.device) -> Predictor:
    tokens = KmerTokens(1)
    return Predictor(new_model(config, WINDOW_BP, 0, describe(tokens)), "random-0", device, tokens)


def genome(folder: Path, n_windows: int) -> tuple[Path, Path]:
    """Write a FASTA of so many windows in four contigs, and a BED of regions of 100 to 512 bases on it."""
    rng = np.random.default_rng(0)
    fasta, bed = folder / "genome.fa", folder / "regions.bed"
    contig_bp = WINDOW_BP * n_windows // 4
    with fasta.open("w") as handle:
        for number in range(4):
            letters = "".join(rng.choice(list("ACGT"), contig_bp))
            lines = "\n".join(letters[i : i + 60] for i in range(0, contig_bp, 60))
            handle.write(f">chr{number}\n{lines}\n")
    lengths = rng.integers(100, WINDOW_BP + 1, n_windows)
    starts = rng.integers(0, contig_bp - WINDOW_BP, n_windows)
    rows = zip(rng.integers(0, 4, n_windows), starts, starts + lengths, strict=True)
    bed.write_text("".join(f"chr{contig}\t{start}\t{end}\n" for contig, start, end in rows))
    return fasta, bed


def windows(table: Any, fasta: Path) -> list[np.ndarray]:
    codes = {record.name: record.codes for record in read_fasta(fasta)}
    places = zip(*(table[name].to_pylist() for name in ("contig", "start", "end")), strict=True)
    return [codes[contig][start:end] for contig, start, end in places]


def require_equal(model: Predictor, table: Any, shown: list[np.ndarray]) -> float:
    some = np.linspace(0, len(shown) - 1, min(8, len(shown))).astype(int)
    found = np.stack([table["embedding"][int(i)].as_py() for i in some])
    alone = np.concatenate([model.embed([shown[i]]) for i in some])
    apart = float(np.abs(found - alone).max() / np.abs(alone).max())
    if not apart <= (1e-5 if model.device.type == "cpu" else 1e-3):
        sys.exit(f"rows differ from each window alone by {apart:.1e}, so nothing is timed")
    return apart


def network_alone(model: Predictor, shown: list[np.ndarray]) -> Callable[[], None]:
    ids = [model.tokens.encode(read).ids for codes in shown for read in (codes, revcomp(codes))]
    groups = similar_lengths([len(each) for each in ids], model.budget().rows_of)
    batches = [padded([ids[i] for i in indices]).to(model.device) for indices in groups]

    @torch.inference_mode()
    def run() -> None:
        for batch in batches:
            model.backbone(batch)
        if model.device.type == "cuda":
            torch.cuda.synchronize()

    return run


def obvious(model: Predictor, fasta: Path, n_windows: int) -> Callable[[], None]:
    tokenizer = hf_tokenizer(KmerTokens(1), WINDOW_BP)

    @torch.inference_mode()
    def run() -> None:
        rows = []
        for record in read_fasta(fasta):
            for start in range(0, len(record.codes), WINDOW_BP):
                if len(rows) == n_windows:
                    return
                codes = record.codes[start : start + WINDOW_BP]
                vectors = []
                for read in (codes, revcomp(codes)):
                    ids = tokenizer(decode(read), return_tensors="pt").input_ids.to(model.device)
                    vectors.append(model.backbone(ids).hidden[0, 1:-1].mean(0).cpu().numpy())
                rows.append(np.mean(vectors, 0).tolist())

    return run


def counted(run: Callable[[], None], busy: list[float]) -> Callable[[], None]:
    """Note the processor time of each call, of all threads: what other programs do on the machine is not in it."""

    def counting() -> None:
        began = time.process_time()
        run()
        busy.append(time.process_time() - began)

    return counting


def measure_model(model: Predictor, n_windows: int, rounds: int, device: torch.device) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fasta, bed = genome(folder, n_windows)
        out = folder / "out.parquet"
        jobs: dict[str, dict[str, Any]] = {
            "windows of a FASTA": {"source": fasta},
            "regions of 100 to 512 bases": {"source": bed, "fasta": fasta},
        }
        for name, words in jobs.items():

            def embed(words: dict[str, Any] = words) -> None:
                model.embed_file(**words, out=out, settings=EmbedSettings(window_bp=WINDOW_BP))

            embed()
            table = pq.read_table(out)
            shown = windows(table, fasta)
            apart = require_equal(model, table, shown)
            cases = {"network": network_alone(model, shown), "embed": embed}
            n_obvious = max(4, n_windows // 8)
            if "fasta" not in words:
                cases["obvious"] = obvious(model, fasta, n_obvious)
            busy: dict[str, list[float]] = {case: [] for case in cases}
            took = measure.in_turns(
                {case: counted(run, busy[case]) for case, run in cases.items()}, rounds, device, budget_s=240
            )
            bases = 2 * sum(map(len, shown))
            row: dict[str, Any] = {
                "rows": len(shown),
                "bases_of_both_strands": bases,
                "us_per_base": {
                    "network": measure.per_token(took["network"], bases),
                    "embed": measure.per_token(took["embed"], bases),
                },
                "share_of_the_network": measure.ratio(took["network"], took["embed"]),
                "share_of_its_processor_time": measure.ratio(busy["network"][1:], busy["embed"][1:]),
                "largest_difference": apart,
            }
            if "obvious" in took:
                n_bases = 2 * WINDOW_BP * n_obvious
                row["us_per_base"]["obvious"] = measure.per_token(took["obvious"], n_bases)
                scaled = [seconds / n_bases * bases for seconds in took["obvious"]]
                row["times_as_fast_as_obvious"] = measure.ratio(scaled, took["embed"])
            rows.append({"job": name, **row})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", default="small,published")
    parser.add_argument("--windows", default="", help="of each model, such as 512,48")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--commit", help="where git is not at hand")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few windows, to try the script")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    counts = [int(n) for n in arguments.windows.split(",")] if arguments.windows else [512, 48]
    results: dict[str, Any] = {**measure.facts(device, arguments.commit), "window_bp": WINDOW_BP, "models": {}}
    for name, n_windows in zip(arguments.models.split(","), counts, strict=True):
        config = replace(SMALL, n_layers=2, d_model=16) if arguments.quick else MODELS[name]
        model = predictor(config, device)
        n = 16 if arguments.quick else n_windows
        rows = measure_model(model, n, 2 if arguments.quick else arguments.rounds, device)
        results["models"][name] = {"parameters": model.n_parameters, "jobs": rows}
        measure.write(arguments.out, results)


if __name__ == "__main__":
    main()
