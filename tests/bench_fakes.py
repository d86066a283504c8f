"""Results of benchmarks with rows of planted quality, computed from small synthetic predictions."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from umbel.config import BenchConfig, FinetuneConfig, to_dict
from umbel.data.labelled.audit import audit
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.evaluate.bench.runs import Run
from umbel.evaluate.bench.table import dataset_table
from umbel.evaluate.scores.predictions import Predictions
from umbel.evaluate.suites import load_suite

SHARES = {"model": 0.1, "random": 0.3, "cnn": 0.1, "kmer": 0.25, "majority": 0.5}
"""Share of answers that say nothing, row by row; the majority's are constant."""
N_TEST = 120
FLOPS = {"model": 3e15, "random": 3e15, "cnn": 0.0, "kmer": 0.0, "majority": 0.0}


def predictions(kind: str, blind: float, seed: int, *, n: int = N_TEST, constant: bool = False) -> Predictions:
    """Binary or numeric predictions that are right but for a share of noise; the truth is the same for every seed."""
    truth_of, rng = np.random.default_rng(5), np.random.default_rng([seed, int(1000 * blind)])
    ids = tuple(f"e{i}" for i in range(n))
    noise = rng.normal(size=n)
    if kind == "regression":
        truth = truth_of.normal(size=n)
        said = np.zeros(n) if constant else (1 - blind) * truth + blind * noise
        shape = (n, 1)
        return Predictions(
            Task("regression", ("strength",)),
            ids,
            truth.reshape(shape).astype(np.float32),
            said.reshape(shape).astype(np.float32),
            np.arange(n),
        )
    labels = (truth_of.random(n) < 0.5).astype(np.int64)
    at_random = rng.random(n) < blind
    positive = 1 / (1 + np.exp(-(np.where(at_random, noise, 3.0 * (2 * labels - 1) + 0.5 * noise))))
    positive = np.full(n, 0.4) if constant else positive
    scores = np.stack([1 - positive, positive], axis=1).astype(np.float32)
    return Predictions(Task("binary", ("no", "yes")), ids, labels, scores, np.arange(n))


@cache
def copies(n_copied: int = 2) -> dict[str, Any]:
    """An audit of random sequences, of which the first of test repeat those of train."""
    codes = [row for row in np.random.default_rng(0).integers(0, 4, (36, 120)).astype(np.uint8)]
    for i in range(n_copied):
        codes[30 + i] = codes[i]

    def part(start: int, end: int, source: str) -> Examples:
        n = end - start
        ids = tuple(f"row-{i}" for i in range(n))
        rows = np.arange(n) + 2
        return Examples(Task("binary", ("no", "yes")), ids, tuple(codes[start:end]), np.zeros(n, int), source, rows)

    parts = {"train": part(0, 20, "train.csv"), "dev": part(20, 30, "dev.csv"), "test": part(30, 36, "test.csv")}
    return audit(parts)


@cache
def table(
    kind: str,
    metric: str,
    shares: tuple[tuple[str, float], ...],
    flops: tuple[tuple[str, float], ...],
    seeds: tuple[int, ...],
    n_test: int,
    n_draws: int,
) -> dict[str, Any]:
    """Give rows and differences of one dataset."""
    rows, took = {}, dict(flops)
    for row, blind in shares:
        runs = []
        for seed in (0,) if row in ("kmer", "majority") else seeds:
            said = predictions(kind, blind, seed, n=n_test, constant=row == "majority")
            facts = {"seconds": 12.0, "flops": took[row], "seed": seed, "n_parameters": 10, "problem": None}
            facts |= {"chosen": {"k": 5, "by": "mcc", "dev": 0.5}} if row == "kmer" else {}
            facts |= {"lr": 3e-4, "collapsed_tries": []} if took[row] else {}
            runs.append(Run(said, said, facts))
        rows[row] = runs
    return dataset_table(rows, metric, n_draws=n_draws)


def result(
    datasets: Sequence[str],
    *,
    suite: str = "mpgb",
    name: str = "toy",
    method: str = "adapter",
    shares: Mapping[str, float] | None = None,
    weights_hash: str = "",
    seeds: Sequence[int] = (0, 1, 2),
    n_test: int = N_TEST,
    flops: Mapping[str, float] | None = None,
    n_draws: int = 200,
    max_train: int = 0,
) -> dict[str, Any]:
    """Give the content of ``bench.json`` for these datasets of a suite."""
    told = load_suite(suite)
    config = BenchConfig(
        method=method, finetune=FinetuneConfig(seeds=tuple(seeds)), n_draws=n_draws, max_train=max_train
    )
    blind = tuple((SHARES | dict(shares or {})).items())
    took = tuple((FLOPS | dict(flops or {})).items())
    found = {}
    for dataset_name in datasets:
        dataset = told.dataset(dataset_name)
        kind = "regression" if dataset.task == "regression" else "binary"
        sizes = {"train": 1000, "dev": 100, "test": n_test}
        used = sizes | ({"train": max_train, "dev": max_train // 4} if max_train else {})
        found[dataset_name] = {
            "group": dataset.group,
            "task": dataset.task,
            "species": list(dataset.species),
            "licence": dataset.source.licence,
            "notes": list(dataset.notes),
            "data": {
                "dev_from": "0.1 of train, near-duplicates together, seed 0",
                "copies": copies(),
                "test_hash": f"{n_test:064x}",
                "found": sizes,
                "used": used,
                "hashes": {each: f"{n_test:064x}" for each in ("train", "dev", "test")},
            },
            "told": [],
        } | copy.deepcopy(table(kind, dataset.metric, blind, took, tuple(seeds), n_test, n_draws))
    return {
        "format": "umbel-bench",
        "format_version": 1,
        "umbel": "0.7.0+0123456789ab",
        "suite": {
            "name": told.name,
            "title": told.title,
            "paper": told.paper,
            "page": told.page,
            "datasets": {each.name: each.group for each in told.datasets},
        },
        "model": {
            "name": name,
            "weights_hash": weights_hash or hashlib.sha256(name.encode()).hexdigest(),
            "n_parameters": 1_234_567,
            "n_active_parameters": 654_321,
            "window_bp": 512,
            "moe_layers": [1, 3],
            "n_experts": 8,
        },
        "config": to_dict(config),
        "datasets": found,
        "missing": [],
    }
