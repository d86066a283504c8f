"""Evaluate a checkpoint on a corpus's held-out contigs, stage by stage, so that a killed run goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from umbel.config import from_dict, read_value
from umbel.config.values import Natural
from umbel.data.corpus.store import Corpus
from umbel.errors import ConfigError, CorpusError, RunError
from umbel.evaluate.baselines.probe import Embedder
from umbel.evaluate.experts.in_windows import Router, record_experts
from umbel.evaluate.facts import corpus_facts, find_run, model_facts, run_facts
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
    ProbeWindows,
    find_all_windows,
    fit_embedding_probe,
    fit_kmer_probes,
    summarise_probes,
)
from umbel.evaluate.report import write_report
from umbel.evaluate.stages import Stages, code_version, refuse_non_finite
from umbel.evaluate.training_curve import read_curve
from umbel.evaluate.wording import verdict_lines
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
        values[name] = read_value(value)
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
        A run folder of ``umbel pretrain``, a checkpoint folder, or ``mini``.
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
    ConfigError
        If the model's tokens are learnt words, which have no masked loss per base.
    CorpusError
        If the corpus is damaged, has no test window with a base to predict, or a window shorter than one token.
    RunError
        If ``out`` is a file.
    OutputError
        If the disk is full or not ours to write to.
    """
    folder, run = find_run(checkpoint)
    opened = Corpus.open(corpus)
    predictor = Predictor.load(folder, device=device)
    predictor.require_base_probabilities()
    opened.require_length(predictor.min_bases)
    return evaluate_predictor(
        predictor,
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
    stages = Stages(out / STAGES_FOLDER, key, reporter)
    networks = _Networks(predictor, settings.seed)
    result = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "key": key,
        "hash": sha256_json(key),
        "model": model_facts(predictor, name),
        "run": run_facts(run),
        "corpus": corpus_facts(corpus, ids, HELD_OUT),
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
    stages: Stages,
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
    networks: _Networks, corpus: Corpus, settings: EvaluationSettings, stages: Stages, reporter: Reporter
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
