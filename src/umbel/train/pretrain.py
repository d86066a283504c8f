"""Pretraining: a run folder from a recipe and a corpus, continued exactly where it was left."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from umbel.config import RunConfig, to_dict
from umbel.data.batches import TrainingBatches
from umbel.data.corpus.store import Corpus
from umbel.data.tokenizers import hf_tokenizer, make_tokens, require_vocabulary
from umbel.errors import RunError
from umbel.model.checkpoint import save_checkpoint
from umbel.model.shipped import model_path
from umbel.ops.devices import autocast_dtype
from umbel.progress import Reporter, reporter_or_silent
from umbel.train.announcement import announcement
from umbel.train.learner import Learner, untrained_model
from umbel.train.log import RunLog
from umbel.train.loop import fit
from umbel.train.processes import World, join_world
from umbel.train.run_folder import describe_run, differences, open_run
from umbel.train.run_page import missing_for_page, write_run_page
from umbel.train.schedule import require_schedule
from umbel.train.speed import SpeedMeter, matrix_rate
from umbel.train.starting import first_model, weights_facts
from umbel.train.state import StateWriter, newest_state
from umbel.train.step import Metrics
from umbel.train.validation import placement_batches, validation_batches

_RATE_SECONDS = 0.1
"""Spent at the start on measuring what MFU is a share of."""


@dataclass(frozen=True)
class PretrainResult:
    """Where the run is, and its last numbers: the last ``train`` and ``valid`` lines of ``metrics.jsonl``.

    Process 0, which ``is_first``, alone has the numbers.
    """

    folder: Path
    checkpoint: Path
    train: Metrics
    valid: Metrics
    is_first: bool = True


class _RunKeeper:
    """Writes a run's log, states and checkpoints; what one process writes, all of them prepare."""

    def __init__(self, folder: Path, learner: Learner, log: RunLog | None, states: StateWriter, reporter: Reporter):
        self._folder, self._learner, self._log, self._states = folder, learner, log, states
        self._reporter = reporter
        tokens = make_tokens(learner.run.tokens)
        self._tokens, self._tokenizer = tokens, hf_tokenizer(tokens, learner.run.corpus.window_bp)

    def record(self, record: Metrics) -> None:
        if self._log is not None:
            self._log(record)

    def save(self) -> None:
        self._states.save(self._learner.step, self._learner.tensors(), self._learner.numbers())

    def keep_best(self) -> None:
        self.write_checkpoint("best", averaged=self._learner.ema is not None)

    def roll_back(self, text: str) -> None:
        learner, bad_step = self._learner, self._learner.step
        self._states.wait()
        restore(learner, self._folder / "state", self._reporter, after_rollback=True)
        if self._log is not None:
            self._log.roll_back(bad_step, learner.step, f"step {bad_step}: {text}. The batches since are left out")

    def finish(self) -> None:
        self._states.wait()

    def write_checkpoint(self, name: str, *, averaged: bool = False) -> Path:
        """Write the weights, or their averages, as a checkpoint for umbel and transformers."""
        learner = self._learner
        with learner.ema.in_place_of_weights() if averaged and learner.ema is not None else nullcontext():
            weights = learner.spread.whole_weights()

        def write() -> None:
            model = untrained_model(learner.run, self._tokens)
            model.load_state_dict(weights)
            save_checkpoint(self._folder / name, model, self._tokenizer)

        learner.world.first(write)
        return self._folder / name


def restore(learner: Learner, folder: Path, reporter: Reporter, *, after_rollback: bool = False) -> bool:
    """Load the newest whole state, if there is one; tell whether there was."""
    found = learner.world.first(lambda: newest_state(folder, reporter))
    if found is None:
        return False
    learner.load(*found, after_rollback=after_rollback)
    return True


def pretrain(
    run: RunConfig,
    corpus: str | Path,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
) -> PretrainResult:
    """Train a masked language model; called again with the same arguments, it goes on where it was killed.

    On a CPU with an unchanged number of threads and processes the continued run is the same, bit for bit, as one that
    never stopped; with another number of processes it is the same to rounding. Under torchrun every process calls
    this with the same arguments, and they train one model together as ``run.parallel`` says.

    The folder gets ``run.json``, ``metrics.jsonl``, ``tensorboard/``, ``state/``, ``run.html``, ``best/`` and, at the
    end, ``checkpoint/`` (and ``checkpoint_ema/``) for :func:`umbel.load` and ``transformers``.

    Parameters
    ----------
    run
        What to train, from :mod:`umbel.train.recipes`.
    corpus
        Folder made by :func:`umbel.build_corpus`, cut as ``run.corpus`` says.
    out
        Run folder, on a file system that all processes see.
    weights
        Begin with the weights of this checkpoint (``mini``: the one that comes with umbel) and a fresh optimiser,
        instead of random weights. To go on with the same run, call this again with its own ``out`` and no more.

    Raises
    ------
    RunError
        If the folder holds another run, ``weights`` have another shape, the corpus is cut otherwise, steps are bad (see
        :class:`~umbel.config.HealthConfig`), or a layer's routing collapsed.
    ConfigError
        If the processes cannot share the work as ``run`` says.
    OutputError
        If the disk is full. Earlier states are whole, and the same command continues from the last.
    """
    with join_world(device) as world:
        loud = reporter_or_silent(reporter if world.is_first else None)
        start = None if weights is None else model_path(weights)
        return _pretrain(run, Path(corpus), Path(out), start, world, loud)


def _open_corpus(path: Path, run: RunConfig) -> Corpus:
    source = Corpus.open(path)
    found = differences(to_dict(source.config), to_dict(run.corpus))
    if found:
        raise RunError(
            f"{path}: built with other settings than recipe {run.name} wants ({'; '.join(found)}). Build it "
            f"with --recipe {run.name}, or repeat its settings with --set corpus.NAME=VALUE"
        )
    return source


def _pretrain(
    run: RunConfig, corpus: Path, folder: Path, weights: Path | None, world: World, reporter: Reporter
) -> PretrainResult:
    source = _open_corpus(corpus, run)
    require_schedule(run.optim, run.train.steps)
    dtype = autocast_dtype(world.device, run.train.autocast)
    plan = announcement(run, n_processes=world.size, device=world.device, dtype=dtype)
    tokens = make_tokens(run.tokens)
    require_vocabulary(tokens, run.model.vocab_size)
    model = first_model(run, tokens, weights)
    facts = describe_run(run, source, tokens, world) | {"weights": weights_facts(weights)}
    world.first(lambda: open_run(folder, facts, reporter))
    training = TrainingBatches(source, run, tokens, reporter)
    for line in (*plan, *training.told()):
        reporter.say(line)
    learner = Learner(model, run, world, dtype)
    with ExitStack() as stack:
        states = StateWriter(folder / "state", run.train.keep_states, world)
        stack.callback(states.close)
        if restore(learner, folder / "state", reporter):
            reporter.say(f"continuing after step {learner.step:,}")
        else:
            if weights is not None:
                reporter.say(f"beginning with the weights of {weights}")
            if run.health.on_bad_step == "rollback":
                states.save(0, learner.tensors(), learner.numbers())
        log = stack.enter_context(RunLog(folder, run, learner.step, reporter)) if world.is_first else None
        if log is not None and 0 < learner.step < run.train.steps:
            log.event(learner.step, "resumed", f"went on with {world.size} process{'es' if world.size > 1 else ''}")
        keeper = _RunKeeper(folder, learner, log, states, reporter)
        speed = SpeedMeter(run, world.size, matrix_rate(world.device, dtype, _RATE_SECONDS), world.device)
        validation = [*validation_batches(source, run, tokens), *placement_batches(source, run, tokens)]
        fit(learner, training, validation, keeper, speed)
        checkpoint = keeper.write_checkpoint("checkpoint")
        if learner.ema is not None:
            keeper.write_checkpoint("checkpoint_ema", averaged=True)
        last = {} if log is None else log.last
    if missing := missing_for_page():
        reporter.say(f"run.html is not drawn: {', '.join(missing)} not installed (pip install 'umbel[train]')")
    else:
        world.first(lambda: write_run_page(folder).path)
    return PretrainResult(folder, checkpoint, last.get("train", {}), last.get("valid", {}), world.is_first)
