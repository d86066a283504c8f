"""Put a model beside its baselines on the datasets of a suite, row by row, so that a killed benchmark goes on."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from umbel.config import BenchConfig, to_dict
from umbel.data.labelled.prepared import Splits, prepare
from umbel.errors import ConfigError, LabelError, RunError
from umbel.evaluate.bench.joining import FORMAT, FORMAT_VERSION, RESULT_FILE
from umbel.evaluate.bench.page import write_pages
from umbel.evaluate.bench.rows import ROWS, Bench
from umbel.evaluate.bench.table import dataset_table
from umbel.evaluate.facts import model_facts
from umbel.evaluate.stages import code_version
from umbel.evaluate.suites import Suite, load_suite
from umbel.evaluate.suites.reading import locate, read_dataset
from umbel.files import write_json
from umbel.model.shipped import model_path
from umbel.ops.devices import resolve_device
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter, reporter_or_silent

_LAST: dict[str, Any] = {}
_DEVICE = ["cpu"]


@dataclass(frozen=True)
class _Job:
    """One row of one dataset."""

    checkpoint: Path
    weights_hash: str
    suite: Suite
    dataset: str
    row: str
    data: Path
    out: Path
    config: BenchConfig
    window_bp: int


def bench(
    checkpoint: str | Path,
    suite: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    config: BenchConfig | None = None,
    datasets: Sequence[str] = (),
    allow_missing: bool = False,
    devices: Sequence[str] = ("auto",),
    threads: int = 0,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Measure a model on a suite, with seeds, intervals and its four baselines, and write ``bench.json`` and pages.

    Every prediction is kept; every number comes from the predictions. Rows that are on disk are not computed again.

    Parameters
    ----------
    checkpoint
        A run folder of ``umbel pretrain``, or a checkpoint folder.
    suite
        Name of a suite, or a TOML file of one's own.
    data
        Folder with its files, see ``umbel suite check``.
    out
        Folder for the results.
    datasets
        Only these; empty takes all.
    allow_missing
        Leave out datasets whose files are not there, and say so in the table.
    devices
        One row at a time is computed on each, ``cpu`` named twice among them, too.
    threads
        CPU threads of each, where there are several; 0 shares this machine's among them.

    Returns
    -------
    The content of ``bench.json``.

    Raises
    ------
    CheckpointError, LabelError, ConfigError
        If the model, the files or the settings are wrong.
    RunError
        If ``out`` is a file.
    """
    reporter = reporter_or_silent(reporter)
    config, folder, told = config or BenchConfig(), Path(out), load_suite(suite)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file. Give a folder for the results with -o.")
    predictor = Predictor.load(checkpoint, device="cpu")
    names, missing = _choose(told, Path(data), datasets, allow_missing)
    model = model_path(checkpoint)
    jobs = [
        _Job(model, predictor.weights_hash, told, name, row, Path(data), folder, config, predictor.window_bp)
        for name in names
        for row in ROWS
    ]
    if len(devices) > 1:
        _run_all(jobs, devices, threads, reporter)
    results: dict[str, Any] = {}
    for name in names:
        mine = [job for job in jobs if job.dataset == name]
        dataset, splits = told.dataset(name), _splits(mine[0])
        # On several devices all of this is on disk by now.
        rows = {job.row: _bench(job, devices[0], reporter).runs(job.row) for job in mine}
        reporter.say(f"{name}: resampling")
        results[name] = {
            "group": dataset.group,
            "task": dataset.task,
            "species": list(dataset.species),
            "licence": dataset.source.licence,
            "notes": list(dataset.notes),
            "data": splits.facts | {"hashes": splits.hashes},
            "told": list(splits.told),
        } | dataset_table(rows, dataset.metric, n_draws=config.n_draws)
    result = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "umbel": code_version(),
        "suite": {
            "name": told.name,
            "title": told.title,
            "paper": told.paper,
            "page": told.page,
            "datasets": {dataset.name: dataset.group for dataset in told.datasets},
        },
        "model": model_facts(predictor, model.name),
        "config": to_dict(config),
        "datasets": results,
        "missing": missing,
    }
    write_json(folder / RESULT_FILE, result)
    write_pages([result], folder)
    return result


def _choose(suite: Suite, data: Path, wanted: Sequence[str], allow_missing: bool) -> tuple[list[str], list[str]]:
    """Give the datasets to run, and those whose files are not there.

    Raises
    ------
    LabelError
        If files are missing and that was not allowed, or nothing is left.
    """
    names = [suite.dataset(name).name for name in wanted] or [dataset.name for dataset in suite.datasets]
    missing = [
        name
        for name in names
        if any(locate(suite.dataset(name), f, data) is None for _, f in suite.dataset(name).splits())
    ]
    left = [name for name in names if name not in missing]
    if not left or (missing and not allow_missing):
        raise LabelError(
            f"files of {len(missing)} of {len(names)} datasets of suite {suite.name} are not there: "
            f"{', '.join(missing)}. umbel suite check {suite.name} {data} says which and how to get them; "
            "--allow-missing goes on with the others, --dataset chooses",
            data,
        )
    return left, missing


def _splits(job: _Job) -> Splits:
    """Read and prepare a dataset; the last one stays in memory for its next row."""
    key = (job.suite.name, job.dataset, str(job.data), repr(job.config), job.window_bp)
    if _LAST.get("key") != key:
        found = read_dataset(job.suite, job.dataset, job.data)
        if "train" not in found:
            raise ConfigError(
                f"dataset {job.dataset} of suite {job.suite.name} has no training examples, and a benchmark fits its "
                "rows: leave it out with --dataset"
            )
        splits = prepare(
            found["train"],
            found.get("dev"),
            found["test"],
            job.config.finetune,
            max_bp=job.window_bp,
            max_train=job.config.max_train,
            keep_copies=True,
        )
        _LAST.update(key=key, splits=splits)
    return _LAST["splits"]


def _bench(job: _Job, device: str, reporter: Reporter) -> Bench:
    dataset = job.suite.dataset(job.dataset)
    return Bench(
        job.checkpoint,
        job.weights_hash,
        _splits(job),
        job.config,
        # Where nobody says that a label holds for both strands, it is asked of the strand given.
        dataset.strand != "both",
        job.out / "datasets" / job.dataset,
        resolve_device(device),
        reporter,
        job.dataset,
    )


def _run_all(jobs: Sequence[_Job], devices: Sequence[str], threads: int, reporter: Reporter) -> None:
    """Compute every row, one at a time on each of several devices."""
    bar = reporter.start("benchmark", len(jobs), "rows")
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    for device in devices:
        places.put((device, threads or max(1, torch.get_num_threads() // len(devices))))
    with ProcessPoolExecutor(len(devices), context, _take_device, (places,)) as pool:
        for _ in pool.map(_run_elsewhere, jobs):
            bar.advance()
    bar.close()


def _take_device(places: Any) -> None:
    device, threads = places.get()
    torch.set_num_threads(threads)
    _DEVICE[0] = device


def _run_elsewhere(job: _Job) -> None:
    _bench(job, _DEVICE[0], Reporter(quiet=True)).runs(job.row)
