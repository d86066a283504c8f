"""Promoter and terminator strength by mini: a probe of frozen embeddings, an adapter, and full tuning.

    python benchmarks/mini/strength.py CKPT --data DIR -o benchmarks/results/mini_strength.json --work FOLDER

Measured by Plant STARR-seq in tobacco leaf: promoters of Jores et al. 2021 (the authors' test file, split anew by gene)
and terminators of Gorjifard et al. 2024. The data have no licence file: they are read from the user's path and never
copied out of ``--work``. All sequences of one gene are on one side; those of chromosome 1 of *A. thaliana*, which mini
has seen without labels, are never tested on.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from held_out import FILES, begin, finish, parser

from umbel.config import BenchConfig, FinetuneConfig
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.evaluate.bench.runner import bench
from umbel.evaluate.suites.own import OwnDataset, write_suite
from umbel.genome.sequence import encode
from umbel.progress import Reporter

LENGTH_BP = 170
TEST_SHARE = 0.25
GENE = re.compile(r"AT[1-5MC]G\d{5}|Zm\d+d\d+|SORBI_\d+G\d+")
METHODS = {"probe": 1e-3, "adapter": 3e-3, "full": 1e-3}
"""Learning rate of each way."""
SHARED_ROWS = ("cnn", "kmer", "majority")
METRICS = ("spearman", "pearson2", "r2")
LICENCE = "author data without a licence file; read from the user's path"


def rows_of(path: Path, name: str) -> Iterator[tuple[str, str, float]]:
    """Yield gene, sequence and strength."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if name == "promoter_leaf":
                gene, sequence, value = row["gene"], row["sequence"], row["enrichment"]
            else:
                if row["variant"] != "WT" or row["Controls"] != "Gene":
                    continue
                gene, sequence, value = row["id"], row["seq"], row["mean_enrichment_tobacco"]
            if value not in ("", "NA") and len(sequence) == LENGTH_BP:
                found = GENE.match(gene)
                yield found.group() if found else gene, sequence, float(value)


def is_test(gene: str) -> bool:
    """Whether a gene is tested on: decided by its name, so that no list is needed."""
    draw = int.from_bytes(hashlib.sha256(gene.encode()).digest()[:4], "big") / 2**32
    return not gene.startswith("AT1G") and draw < TEST_SHARE


def examples(rows: list[tuple[str, str, float]], name: str) -> Examples:
    return Examples(
        Task("regression", (name,)),
        tuple(f"row-{i}" for i in range(len(rows))),
        tuple(encode(sequence.encode())[0] for _, sequence, _ in rows),
        np.array([[value] for _, _, value in rows], np.float32),
        name,
        np.arange(len(rows)) + 1,
    )


def split(path: Path, name: str, n_train: int, n_test: int, seed: int) -> OwnDataset:
    """Draw examples; all of a gene are on one side, and no sequence is on both."""
    every = sorted(set(rows_of(path, name)))
    order = np.random.default_rng(seed).permutation(len(every))
    test = [every[i] for i in order if is_test(every[i][0])][: n_test or None]
    shown = {sequence for _, sequence, _ in test}
    train = [every[i] for i in order if not is_test(every[i][0]) and every[i][1] not in shown][: n_train or None]
    return OwnDataset({"train": examples(train, name), "test": examples(test, name)}, "spearman", True)


def main() -> None:
    words = parser(__doc__, "mini_strength.json")
    words.add_argument("--work", type=Path, help="folder for predictions; a stopped run goes on there")
    words.add_argument("--n-train", type=int, default=800, help="0: all")
    words.add_argument("--n-test", type=int, default=500, help="0: all")
    words.add_argument("--epochs", type=int, default=4)
    words.add_argument("--batch-size", type=int, default=8)
    words.add_argument("--seeds", type=int, default=3)
    words = words.parse_args()
    predictor, began = begin(words)
    work = words.work or Path(tempfile.mkdtemp())
    files = {"promoter_leaf": words.data / FILES["promoters"], "terminator_leaf": words.data / FILES["terminators"]}
    datasets = {name: split(path, name, words.n_train, words.n_test, words.seed) for name, path in files.items()}
    suite = work / "suite"
    write_suite(
        suite,
        "strength",
        "Strength of promoters and terminators",
        datasets,
        licence=LICENCE,
        page="benchmarks/mini/strength.py",
    )
    results: dict[str, Any] = {
        "epochs": words.epochs,
        "batch_size": words.batch_size,
        "seeds": words.seeds,
        "n": {name: {role: len(own) for role, own in one.splits.items()} for name, one in datasets.items()},
        "tables": {},
    }
    for method, lr in METHODS.items():
        finetune = FinetuneConfig(
            seeds=tuple(range(words.seeds)), lr=(lr,), epochs=words.epochs, patience=0, batch_size=words.batch_size
        )
        config = BenchConfig(finetune=finetune, n_draws=words.n_draws, retries=1)
        config = dataclasses.replace(config, method=method)
        out = work / method
        for name in datasets if method != "probe" else ():
            # These rows know nothing of the method: they are the same runs.
            for row in SHARED_ROWS:
                target = out / "datasets" / name / row
                if not target.exists():
                    shutil.copytree(work / "probe" / "datasets" / name / row, target)
        found = bench(
            predictor.source,
            suite / "suite.toml",
            suite,
            out,
            config=config,
            devices=("cpu",),
            threads=words.threads,
            reporter=Reporter(quiet=True),
        )
        results["tables"][method] = {name: shortened(one) for name, one in found["datasets"].items()} | {"lr": lr}
        for name in datasets:
            rows = results["tables"][method][name]["rows"]
            print(
                f"{method} {name}: " + "  ".join(f"{r} {v['spearman']['value']:.3f}" for r, v in rows.items()),
                flush=True,
            )
    finish(words, began, results, predictor)


def shortened(dataset: dict[str, Any]) -> dict[str, Any]:
    """Keep of a dataset's table what the card tells."""
    return {
        "rows": {
            row: {metric: found["metrics"][metric] for metric in METRICS}
            | {"seconds": round(found["seconds"], 1), "collapsed": found["collapsed"]}
            for row, found in dataset["rows"].items()
        },
        "differences": dataset["differences"],
    }


if __name__ == "__main__":
    main()
