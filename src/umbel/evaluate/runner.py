"""Evaluate a checkpoint on a corpus's held-out contigs, stage by stage, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

import umbel
from umbel.config import Natural, from_dict
from umbel.data.store import Corpus
from umbel.errors import ConfigError, CorpusError, RunError
from umbel.evaluate.experts import Router, record_experts
from umbel.evaluate.markov import MAX_ORDER, FlankModel, choose_order, count_flanks
from umbel.evaluate.masked_loss import (
    RowSums,
    Scorer,
    choose_windows,
    read_hidden,
    score_windows,
    summarise_rows,
)
from umbel.evaluate.probes import (
    MIN_PER_CLASS,
    Embedder,
    ProbeWindows,
    find_all_windows,
    fit_embedding_probe,
    fit_kmer_probes,
    summarise_probes,
)
from umbel.evaluate.report import verdict_lines, write_report
from umbel.evaluate.training_curve import read_curve
from umbel.files import sha256_json, whole_file, write_json, writing
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "umbel-evaluation"
FORMAT_VERSION = 1
RESULT_FILE, REPORT_FILE, STAGES_FOLDER = "evaluation.json", "report.html", "stages"
HELD_OUT = "test"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EvaluationSettings:
    """What decides an evaluation, apart from the checkpoint and the corpus."""

    seed: Natural = 0
    """Of hidden positions, random weights, choice of windows, and bootstrap."""
    mask_frac: Annotated[float, Field(gt=0, le=1)] = 0.15
    """Chance that a real base is hidden."""
    n_windows: Natural = 0
    """Most windows of the held-out and of the validation role; 0 takes all."""
    n_draws: Annotated[int, Field(ge=100)] = 1000
    """Bootstrap draws."""
    probe_bp: Annotated[int, Field(ge=16)] = 128
    """Length of a probe window."""
    probe_n_per_class: Annotated[int, Field(ge=MIN_PER_CLASS)] = 1000
    """Most probe windows of one class in one role."""
    max_k: Annotated[int, Field(ge=0, le=MAX_ORDER)] = MAX_ORDER
    """Largest flank of the Markov model."""


def read_settings(texts: Iterable[str]) -> EvaluationSettings:
    """Read settings from ``name=value`` texts, as the command line's ``--set`` gives them; the last of a name counts.

    Raises
    ------
    ConfigError
        If a text has no ``=``, a name does not exist, or a value does not fit.

    Examples
    --------
    >>> read_settings(["seed=3", "n_windows=200"]).n_windows
    200
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or name not in EvaluationSettings.__dataclass_fields__:
            known = ", ".join(EvaluationSettings.__dataclass_fields__)
            raise ConfigError(f"--set {text}: no such setting. Write name=value; here one of: {known}")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return from_dict(EvaluationSettings, values, "--set")


class Subject(Scorer, Embedder, Router, Protocol):
    """What is evaluated; ``umbel.predict.predictor.Predictor`` is one."""

    @property
    def window_bp(self) -> int:
        """Longest window the model was trained on."""

    @property
    def weights_hash(self) -> str:
        """Identifies the weights."""

    @property
    def n_parameters(self) -> int:
        """All parameters."""

    @property
    def n_active_parameters(self) -> int:
        """Parameters that one base uses."""

    def with_random_weights(self, seed: int) -> Subject:
        """Return the same network before any training."""


class _Stages:
    """Results of finished stages, on disk, each with the key that it belongs to."""

    def __init__(self, folder: Path, key: dict[str, Any], reporter: Reporter):
        self._folder, self._key, self._reporter = folder, key, reporter

    def run(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the stored result of a stage, or compute and store it."""
        path = self._folder / f"{name}.json"
        if path.exists():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                changed = [part for part, value in self._key.items() if stored["key"].get(part) != value]
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
                changed = ["file is damaged"]
            if not changed:
                self._reporter.say(f"{name}: already done")
                return stored["result"]
            self._reporter.say(f"{name}: computed again, because of another {', '.join(changed)}")
        result = compute()
        refuse_non_finite(result, name)
        write_json(path, {"key": self._key, "result": result})
        return result


def refuse_non_finite(value: Any, where: str) -> None:
    """Raise if a number anywhere in ``value`` is NaN or infinite.

    Raises
    ------
    RunError
        Naming the place.

    Examples
    --------
    >>> refuse_non_finite({"a": [1.0, None]}, "result")
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            refuse_non_finite(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            refuse_non_finite(inner, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise RunError(f"{where} came out as {value}, which is no result. Please report this with your settings.")


def code_version() -> str:
    """Version of umbel and a hash of its sources, so that no stage of other code is reused."""
    digest = hashlib.sha256()
    root = Path(umbel.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{umbel.__version__}+{digest.hexdigest()[:12]}"


def find_run(checkpoint: Path) -> tuple[Path, Path | None]:
    """Tell the checkpoint folder and the run folder (None: it has none) from either of the two.

    Examples
    --------
    >>> find_run(Path("no/such/folder"))
    (PosixPath('no/such/folder'), None)
    """
    if (checkpoint / "checkpoint").is_dir():
        return checkpoint / "checkpoint", checkpoint
    is_run = checkpoint.name == "checkpoint" and (checkpoint.parent / "run.json").is_file()
    return checkpoint, checkpoint.parent if is_run else None


def evaluate_checkpoint(
    checkpoint: str | Path,
    corpus: str | Path,
    out: str | Path,
    *,
    settings: EvaluationSettings | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Evaluate a trained model beside its baselines, and write ``evaluation.json`` and ``report.html``.

    ``docs/spec/evaluation.md`` defines every number.

    Parameters
    ----------
    checkpoint
        A run folder of ``umbel pretrain``, or a checkpoint folder.
    corpus
        A built corpus. Its test windows are what is reported; its train and valid windows are for baselines and probe.
    out
        Folder for the results. Finished stages in it are reused if weights, corpus, settings and code are the same.
    settings
        Seed, share of hidden bases, sizes.
    device
        Where the network runs.
    reporter
        Where progress goes.

    Returns
    -------
    The content of ``evaluation.json``.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be loaded, or its predictions are not finite.
    CorpusError
        If the corpus is damaged or has no test window with a base to predict.
    RunError
        If ``out`` is a file.
    OutputError
        If the disk is full or not ours to write to.
    """
    folder, run = find_run(Path(checkpoint))
    opened = Corpus.open(corpus)
    return evaluate_predictor(
        Predictor.load(folder, device=device),
        opened,
        Path(out),
        settings=settings or EvaluationSettings(),
        name=(run or folder).name,
        run=run,
        reporter=reporter,
    )


def evaluate_predictor(
    predictor: Subject,
    corpus: Corpus,
    out: Path,
    *,
    settings: EvaluationSettings,
    name: str,
    run: Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Evaluate a model that is already loaded; see :func:`evaluate_checkpoint`."""
    reporter = reporter_or_silent(reporter)
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file. Give a folder for the results with -o.")
    ids = choose_windows(corpus.window_ids(HELD_OUT), settings.n_windows, settings.seed)
    if not len(ids):
        raise CorpusError(
            f"{corpus.path}: no {HELD_OUT} windows, so there is nothing held out to evaluate on. "
            f"Give some contigs the role {HELD_OUT} in the manifest and build the corpus again."
        )
    key = {
        "weights": predictor.weights_hash,
        "corpus": corpus.hash,
        "settings": asdict(settings),
        "code": code_version(),
    }
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    stages = _Stages(out / STAGES_FOLDER, key, reporter)
    networks = _Networks(predictor, settings.seed)
    result = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "key": key,
        "hash": sha256_json(key),
        "model": _model_facts(predictor, name),
        "run": _run_facts(run),
        "corpus": _corpus_facts(corpus, ids),
        "settings": asdict(settings),
        "masked_loss": _masked_loss(networks, corpus, ids, settings, stages, reporter),
        "probe": _probe(networks, corpus, settings, stages, reporter),
        "experts": stages.run(
            "experts",
            lambda: record_experts(
                predictor, corpus, ids, n_draws=settings.n_draws, seed=settings.seed, reporter=reporter
            ),
        ),
        "curve": read_curve(run),
    }
    result["verdict"] = verdict_lines(result)
    refuse_non_finite(result, "evaluation")
    write_json(out / RESULT_FILE, result)
    with whole_file(out / REPORT_FILE) as temporary:
        write_report(result, temporary)
    reporter.say(f"report: {out / REPORT_FILE}")
    return result


class _Networks:
    """The model, and its random twin made on first use."""

    def __init__(self, predictor: Subject, seed: int):
        self._known = {"model": predictor}
        self._seed = seed

    def __getitem__(self, name: str) -> Subject:
        if name not in self._known:
            self._known[name] = self._known["model"].with_random_weights(self._seed)
        return self._known[name]


def _masked_loss(
    networks: _Networks,
    corpus: Corpus,
    ids: npt.NDArray[np.int64],
    settings: EvaluationSettings,
    stages: _Stages,
    reporter: Reporter,
) -> dict[str, Any]:
    hiding = {"seed": settings.seed, "mask_frac": settings.mask_frac}

    def score(scorer: Scorer, title: str) -> dict[str, Any]:
        return score_windows(scorer, corpus, ids, title=title, reporter=reporter, **hiding).to_dict()  # type: ignore[arg-type]

    def valid_windows() -> Iterator[tuple[Any, Any]]:
        valid_ids = choose_windows(corpus.window_ids("valid"), settings.n_windows, settings.seed)
        for chunk in read_hidden(corpus, valid_ids, **hiding):  # type: ignore[arg-type]
            for window in chunk:
                yield window.codes, window.hidden

    def baselines() -> dict[str, Any]:
        counts = count_flanks(corpus, settings.max_k, reporter)
        found = {"composition": score(FlankModel(counts, 0, 1.0), "composition")}
        shares = dict(zip("ACGT", counts.composition.tolist(), strict=True))
        try:
            choice = choose_order(counts, valid_windows())
        except ValueError:
            reason = "The corpus has no valid windows with a hidden base, so there is nothing to choose k on."
            return {"rows": found, "composition": shares, "markov": {"missing": reason}}
        found["markov"] = score(FlankModel(counts, choice.order, choice.strength), "Markov")
        return {"rows": found, "composition": shares, "markov": choice.to_dict()}

    stored = stages.run("baselines", baselines)
    rows = {
        name: RowSums.from_dict(stages.run(f"loss_{name}", lambda name=name: score(networks[name], f"{name} loss")))  # type: ignore[misc]
        for name in ("model", "random")
    }
    rows |= {name: RowSums.from_dict(sums) for name, sums in stored["rows"].items()}
    if not rows["model"].n_bases.any():
        raise CorpusError(
            f"{corpus.path}: no base of the chosen {HELD_OUT} windows was hidden. "
            "Raise mask_frac or n_windows, or give the corpus more test sequence."
        )
    table = summarise_rows(rows, n_draws=settings.n_draws, seed=settings.seed)
    return table | {"composition": stored["composition"], "markov": stored["markov"]}


def _probe(
    networks: _Networks, corpus: Corpus, settings: EvaluationSettings, stages: _Stages, reporter: Reporter
) -> dict[str, Any]:
    windows: dict[str, ProbeWindows]
    windows, reason = find_all_windows(corpus, settings.probe_bp, settings.probe_n_per_class, settings.seed)
    if reason is not None:
        return {"missing": reason}
    baselines = stages.run("probe_baselines", lambda: fit_kmer_probes(windows))
    rows = {
        name: stages.run(
            f"probe_{name}",
            lambda name=name: fit_embedding_probe(networks[name], windows, f"{name} probe", reporter),  # type: ignore[misc]
        )
        for name in ("model", "random")
    }
    table = summarise_probes(rows | baselines, windows, n_draws=settings.n_draws, seed=settings.seed)
    return table | {"probe_bp": settings.probe_bp}


def _model_facts(predictor: Subject, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "weights_hash": predictor.weights_hash,
        "n_parameters": int(predictor.n_parameters),
        "n_active_parameters": int(predictor.n_active_parameters),
        "window_bp": int(predictor.window_bp),
        "moe_layers": [int(layer) for layer in predictor.moe_layers],
        "n_experts": int(predictor.n_experts),
    }


def _run_facts(run: Path | None) -> dict[str, Any]:
    """What ``run.json`` says of recipe, architecture and corpus, as far as it can be read."""
    if run is None:
        return {"missing": "no run folder"}
    try:
        told = json.loads((run / "run.json").read_text(encoding="utf-8"))
        config = told["config"]
        return {
            "recipe": str(config["name"]),
            "pattern": str(config["model"]["pattern"]),
            "n_layers": int(config["model"]["n_layers"]),
            "d_model": int(config["model"]["d_model"]),
            "corpus_hash": str(told["corpus"]["hash"]),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"missing": f"run.json could not be read ({type(error).__name__})"}


def _corpus_facts(corpus: Corpus, ids: npt.NDArray[np.int64]) -> dict[str, Any]:
    assemblies = [
        {"species": str(facts["species"]), "assembly": str(facts["assembly"])} for facts in corpus.facts["assemblies"]
    ]
    return {
        "hash": corpus.hash,
        "window_bp": corpus.config.window_bp,
        "overlap_bp": corpus.config.overlap_bp,
        "assemblies": assemblies,
        "n_windows": {role: len(corpus.window_ids(role)) for role in ("train", "valid", HELD_OUT)},
        "contig_bp": {
            role: sum(contig.length for contig in corpus.contigs(role)) for role in ("train", "valid", HELD_OUT)
        },
        "held_out_contigs": [f"{contig.contig} ({contig.assembly})" for contig in corpus.contigs(HELD_OUT)],
        "n_windows_used": len(ids),
    }
