"""``umbel finetune``: from files of labelled sequences to tuned models, everything they said, and how good that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from umbel.config import FinetuneConfig, to_dict
from umbel.data.corpus.store import Corpus
from umbel.data.labelled.prepared import Splits, prepare
from umbel.data.labelled.reading import Reading, read_labelled
from umbel.data.labelled.task import Kind, Task
from umbel.data.tokenizers import Tokens, hf_tokenizer, load_tokens
from umbel.errors import RunError
from umbel.evaluate.bench.runs import Run
from umbel.evaluate.bench.tuned_rows import TunedRow
from umbel.evaluate.forgetting import forgetting, forgetting_lines
from umbel.evaluate.judging import metric_for, quality
from umbel.evaluate.scores.definitions import metric_names, why_collapsed
from umbel.evaluate.scores.intervals import intervals
from umbel.evaluate.stages import code_version
from umbel.files import sha256_json, write_json
from umbel.model.adapters.files import AdapterCard, load_adapter, save_adapter
from umbel.model.checkpoint import checkpoint_folder, load_checkpoint, weights_hash
from umbel.model.shipped import model_path, model_text
from umbel.model.tuned import load_tuned, save_tuned
from umbel.ops.devices import resolve_device
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter, reporter_or_silent
from umbel.train.finetune.tune import Tuned

RESULT_FILE = "finetune.json"
MODEL_FOLDER, ADAPTER_FOLDER = "model", "adapter"
MOST_WINDOWS = 2_000
"""Windows of a corpus on which forgetting is measured."""


@dataclass(frozen=True)
class LabelledFiles:
    """What the user gives: files, and how they are to be read.

    Attributes
    ----------
    train, valid, test
        CSV, TSV, Parquet or FASTA with labels; without ``valid``, dev is set aside from train.
    sequence, label, id
        Columns, where they are not the usual ones.
    task
        Kind of task, where it is not the one that the labels look like.
    bin_bp
        Bases in a bin of a ``bins`` task.
    on_bad
        ``skip`` leaves bad rows out, and lists them; ``stop`` makes them an error.
    keep_copies
        Only tell where valid or test repeat sequences of train.
    """

    train: Path
    valid: Path | None = None
    test: Path | None = None
    sequence: str | None = None
    label: tuple[str, ...] = ()
    id: str | None = None
    task: Kind | None = None
    bin_bp: int = 0
    on_bad: Literal["stop", "skip"] = "stop"
    keep_copies: bool = False

    def read(self, path: Path, task: Task | Kind | None) -> Reading:
        """Read one of the files."""
        label: str | Sequence[str] | None = self.label[0] if len(self.label) == 1 else self.label or None
        return read_labelled(
            path,
            task=task,
            sequence=self.sequence,
            label=label,
            id=self.id,
            bin_bp=self.bin_bp,
            on_bad=self.on_bad,
        )


@dataclass(frozen=True)
class Species:
    """What an adapter's card tells of the organism."""

    name: str = ""
    taxid: int = 0


def finetune(
    checkpoint: str | Path,
    files: LabelledFiles,
    out: str | Path,
    *,
    config: FinetuneConfig | None = None,
    species: Species | None = None,
    corpus: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Fit a model to labelled sequences; choose on dev, report on test.

    For every seed ``runs/seed-S-lr-R/`` gets the model (or adapter) and all predictions for dev and test;
    ``finetune.json`` tells what was read, chosen and scored. Test is looked at at the end of a run, and decides
    nothing. What is on disk is not computed again.

    Parameters
    ----------
    checkpoint
        A run folder of ``umbel pretrain``, a checkpoint folder, a released PlantBiMoE folder, or ``mini``.
    files
        Labelled sequences.
    out
        Folder for the results.
    species
        For an adapter's card.
    corpus
        A built corpus with test windows, best of species held out of pretraining: the masked loss on them before and
        after tuning is told, see :func:`umbel.evaluate.forgetting.forgetting`.

    Returns
    -------
    The content of ``finetune.json``.

    Raises
    ------
    LabelError
        If a file is wrong, naming rows; or valid or test repeat sequences of train.
    ConfigError, CheckpointError, AdapterError
        If settings, base or adapter do not fit.
    RunError
        If ``out`` is a file, or no run gave finite numbers.
    """
    reporter, config, folder = reporter_or_silent(reporter), config or FinetuneConfig(), Path(out)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file. Give a folder for the results with -o.")
    checkpoint = model_path(checkpoint)
    if corpus is not None:
        # Before hours of training, not after them.
        Corpus.open(corpus)
        Predictor.load(checkpoint, device="cpu").require_base_probabilities()
    base = load_checkpoint(checkpoint)
    tokens = load_tokens(checkpoint_folder(checkpoint), base.config.tokens)
    window_bp = base.config.window_bp
    readings = _read(files, reporter)
    examples = {name: reading.examples for name, reading in readings.items()}
    splits = prepare(
        examples["train"],
        examples.get("valid"),
        examples.get("test"),
        config,
        max_bp=window_bp,
        keep_copies=files.keep_copies,
    )
    for line in splits.told:
        reporter.say(line)
    base_hash = weights_hash(checkpoint)
    keeper = _Keeper(checkpoint, base_hash, tokens, window_bp, splits, config, species or Species())
    row = TunedRow(
        lambda seed: load_checkpoint(checkpoint),
        base_hash,
        tokens,
        splits,
        config,
        0,
        folder / "runs",
        resolve_device(device),
        reporter,
        "fine-tuning",
        keeper.keep,
    )
    runs = row.runs()
    result = {
        "umbel": code_version(),
        "base": {"path": model_text(checkpoint), "weights_hash": base_hash},
        "task": to_dict(splits.task),
        "reason": readings["train"].reason,
        "left_out": {name: [str(problem) for problem in reading.problems] for name, reading in readings.items()},
        "data": splits.facts | {"hashes": splits.hashes},
        "config": to_dict(config),
        **summary(runs, splits.task, config.select_by),
    }
    if corpus is not None:
        best = folder / "runs" / result["best_run"]
        result["forgetting"] = _forgetting(checkpoint, best, Path(corpus), device, reporter)
    write_json(folder / RESULT_FILE, result)
    return result


def load_tuned_run(checkpoint: str | Path, run: Path) -> Any:
    """Load what a run of ``finetune`` kept: the model, or the adapter merged into its base."""
    if (run / ADAPTER_FOLDER).is_dir():
        return load_adapter(checkpoint, run / ADAPTER_FOLDER)
    return load_tuned(run / MODEL_FOLDER)


def _forgetting(checkpoint: str | Path, run: Path, corpus: Path, device: str, reporter: Reporter) -> dict[str, Any]:
    base = Predictor.load(checkpoint, device=device)
    base.require_base_probabilities()
    tuned = base.with_backbone(load_tuned_run(checkpoint, run).backbone, f"tuned-{run.name}")
    found = forgetting(base, tuned, Corpus.open(corpus), n_windows=MOST_WINDOWS, reporter=reporter)
    for line in forgetting_lines(found):
        reporter.say(line)
    return found


def _read(files: LabelledFiles, reporter: Reporter) -> dict[str, Reading]:
    """Read the files; the task of train is that of the others."""
    readings = {"train": files.read(files.train, files.task)}
    task = readings["train"].examples.task
    for name, path in (("valid", files.valid), ("test", files.test)):
        if path is not None:
            readings[name] = files.read(path, task)
    for name, reading in readings.items():
        for line in reading.told():
            reporter.say(f"{name}: {line}")
    return readings


def summary(runs: Sequence[Run], task: Task, wish: str) -> dict[str, Any]:
    """Tell the metrics of several seeds on dev and test, and the run that dev likes best."""
    metric = metric_for(task, wish)
    best = max(runs, key=lambda run: quality(run.dev, metric))
    said = {"dev": [run.dev for run in runs]}
    if runs[0].test is not None:
        said["test"] = [run.test for run in runs if run.test is not None]
    return {
        "selected_by": metric,
        "lr": runs[0].facts["lr"],
        "best_seed": best.facts["seed"],
        "best_run": best.facts["run"],
        "runs": [run.facts for run in runs],
        "collapsed": {name: [why_collapsed(each) for each in all_of] for name, all_of in said.items()},
        "scores": {
            name: {
                each: estimate.to_dict() for each, estimate in intervals(all_of).items() if each in metric_names(task)
            }
            for name, all_of in said.items()
        },
    }


@dataclass(frozen=True)
class _Keeper:
    """Saves what was tuned beside its run."""

    checkpoint: Path
    base_hash: str
    tokens: Tokens
    window_bp: int
    splits: Splits
    config: FinetuneConfig
    species: Species

    def keep(self, folder: Path, tuned: Tuned) -> None:
        """Write the model, or the adapter with its card."""
        if tuned.adapter is None:
            save_tuned(folder / MODEL_FOLDER, tuned.model, hf_tokenizer(self.tokens, self.window_bp))
            return
        best = tuned.fitted.best or {}
        card = AdapterCard(
            species=self.species.name,
            taxid=self.species.taxid or None,
            base=self.checkpoint.name,
            base_hash=self.base_hash,
            data_hash=sha256_json(self.splits.hashes),
            task=dataclasses.asdict(self.splits.task),
            metrics={f"dev {metric_for(self.splits.task, self.config.select_by)}": best.get("score")},
        )
        save_adapter(folder / ADAPTER_FOLDER, tuned.adapter, card)
