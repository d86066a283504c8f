"""Pretraining: a run folder from a recipe and a corpus, continued exactly where it was left."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import umbel
from umbel.config import RunConfig, from_dict, to_dict
from umbel.data.batches import Batch, TrainingBatches, collate
from umbel.data.corpus.store import Corpus
from umbel.data.kmers import Encoding
from umbel.data.masking import Example, anchor_frac, hidden_positions, hide
from umbel.data.objectives import make_example
from umbel.data.tokenizers import Tokens, describe, hf_tokenizer, make_tokens, require_vocabulary
from umbel.errors import ConfigError, RunError
from umbel.files import write_json, writing
from umbel.model.backbone import count_parameters
from umbel.model.checkpoint import save_checkpoint
from umbel.model.hf import UmbelForMaskedLM, new_model
from umbel.ops.devices import autocast_dtype, resolve_device
from umbel.progress import Reporter, reporter_or_silent
from umbel.train.loop import Metrics, fit
from umbel.train.optim import make_optimizers
from umbel.train.schedule import require_schedule
from umbel.train.state import load_newest_state, rewind_metrics, save_state


@dataclass(frozen=True)
class PretrainResult:
    """Where the run is, and its last numbers: the last ``train`` and ``valid`` lines of ``metrics.jsonl``."""

    folder: Path
    checkpoint: Path
    train: Metrics
    valid: Metrics


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """List where two nested dictionaries differ, as ``a.b: old -> new``."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}: {a} -> {b}")
    return found


def _open_run(
    folder: Path, run: RunConfig, corpus: Corpus, tokens: Tokens, device: torch.device, reporter: Reporter
) -> None:
    """Write ``run.json``, or see that the one there is of the same run."""
    # The file that tokens.file names may change; k-mers follow from the settings.
    vocabulary = describe(tokens).get("sha256")
    facts = {
        "config": to_dict(run),
        "corpus": {"path": str(corpus.path.resolve()), "hash": corpus.hash},
        "vocabulary": vocabulary,
        "umbel": umbel.__version__,
        "torch": torch.__version__,
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    path = folder / "run.json"
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder}: not empty, and no run of ours (no run.json). Choose another --out")
        write_json(path, facts)
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        # Through RunConfig, so that settings that came after that run count with their defaults.
        old_config = to_dict(from_dict(RunConfig, old["config"], "config"))
        old_hash = old["corpus"]["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); choose another --out") from error
    except ConfigError as error:
        raise RunError(f"{path}: not a run that this umbel knows ({error}); choose another --out") from error
    differences = _differences(
        {"config": old_config, "corpus": {"hash": old_hash}, "vocabulary": old.get("vocabulary")},
        {"config": facts["config"], "corpus": {"hash": corpus.hash}, "vocabulary": vocabulary},
    )
    if differences:
        raise RunError(
            f"{folder}: holds another run ({'; '.join(differences)}). Repeat that run's settings to continue it, "
            "or choose another --out"
        )
    for key in ("device", "threads", "torch"):
        if old.get(key) != facts[key]:
            reporter.say(
                f"warning: this run began with {key} {old.get(key)} and goes on with {facts[key]}: "
                "the result is as good, but not the same to the last bit"
            )


def validation_batches(corpus: Corpus, run: RunConfig, tokens: Tokens) -> list[Batch]:
    """Take up to ``eval_windows`` evenly spaced windows of role ``valid``, masked the same way every time.

    About ``mask_frac`` of the tokens are hidden, as in training. Evaluation (:mod:`umbel.evaluate`) hides bases
    instead, the same ones for every vocabulary.
    """
    examples = []
    for window_id in _validation_windows(corpus, run):
        codes, _ = corpus.read_window(int(window_id))
        encoding = tokens.encode(codes)
        examples.append(hide(encoding, _hidden_bases(codes, encoding, run, int(window_id), tokens)))
    return _cut(examples, run)


def placement_batches(corpus: Corpus, run: RunConfig, tokens: Tokens) -> list[Batch]:
    """Take the windows of :func:`validation_batches` with spans cut out, the same ones every time.

    None where the run does not place spans; windows without room for them are left out.
    """
    if not run.masking.placement_weight:
        return []
    alone = replace(run.masking, uniform_weight=0.0, span_weight=0.0, placement_weight=1.0)
    examples = []
    for window_id in _validation_windows(corpus, run):
        codes, soft_mask = corpus.read_window(int(window_id))
        examples.append(make_example(codes, soft_mask, alone, run.train.seed, 0, int(window_id), tokens))
    return _cut([example for example in examples if not example.is_unplaced], run)


def _validation_windows(corpus: Corpus, run: RunConfig) -> np.ndarray:
    ids = corpus.window_ids("valid")
    if len(ids) <= run.train.eval_windows:
        return ids
    return ids[np.linspace(0, len(ids) - 1, run.train.eval_windows).astype(int)]


def _cut(examples: Sequence[Example], run: RunConfig) -> list[Batch]:
    size = run.train.micro_batch_windows
    return [collate(examples[start : start + size]) for start in range(0, len(examples), size)]


def untrained_model(run: RunConfig, tokens: Tokens) -> UmbelForMaskedLM:
    """Make the network that a run begins with; one that is to place spans has a head for it."""
    placement = run.masking.placement_weight > 0
    return new_model(run.model, run.corpus.window_bp, run.train.seed, describe(tokens), placement=placement)


def _hidden_bases(codes: np.ndarray, encoding: Encoding, run: RunConfig, window_id: int, tokens: Tokens) -> np.ndarray:
    """Choose bases, ``(L,)`` bool, whose tokens are ``mask_frac`` of all."""
    frac, seed = run.masking.mask_frac, run.train.seed
    if tokens.n_covering > 1:
        return hidden_positions(codes, seed, window_id, anchor_frac(frac, tokens))
    begins = np.zeros(len(codes), bool)
    begins[encoding.starts[1:-1]] = True
    return begins & hidden_positions(codes, seed, window_id, frac)


class _Log:
    """Writes each measurement to ``metrics.jsonl``, TensorBoard and the progress bar."""

    def __init__(self, folder: Path, run: RunConfig, first_step: int, reporter: Reporter, stack: ExitStack):
        self._path = folder / "metrics.jsonl"
        earlier = rewind_metrics(self._path, first_step)
        self.last: dict[str, Metrics] = {record["kind"]: record for record in earlier}
        self._file = stack.enter_context(self._path.open("a", encoding="utf-8"))
        self._task = reporter.start(f"training {run.name}", run.train.steps, "steps", done=first_step)
        stack.callback(self._task.close)
        self._board: Any = None
        if find_spec("tensorboard") is None:
            reporter.say("tensorboard is not installed (pip install 'umbel[train]'): curves go to metrics.jsonl only")
        else:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step + 1)
            stack.callback(self._board.close)

    def __call__(self, record: Metrics) -> None:
        with writing(self._path):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        self.last[record["kind"]] = record
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{record['kind']}/{name}", value, record["step"])
            for layer in record.get("experts", ()):
                for name in ("max_over_mean", "cv", "n_dead"):
                    self._board.add_scalar(f"experts/layer_{layer['layer']}/{name}", layer[name], record["step"])
        if record["kind"] == "train":
            self._task.advance(1, self._note(record))

    def _note(self, record: Metrics) -> str:
        parts = []
        if "loss" in record:
            parts.append(f"loss {record['loss']:.3f} acc {record['accuracy']:.3f}")
        if "placement_loss" in record:
            parts.append(f"placed {record['placement_accuracy']:.3f}")
        parts.append(f"{record['tokens_per_s']:,.0f} tok/s")
        valid = self.last.get("valid", {})
        if "loss" in valid:
            parts.append(f"valid {valid['loss']:.3f}")
        return " ".join(parts)


def pretrain(
    run: RunConfig, corpus: str | Path, out: str | Path, *, device: str = "auto", reporter: Reporter | None = None
) -> PretrainResult:
    """Train a masked language model; called again with the same arguments, it goes on where it was killed.

    On a CPU with an unchanged number of threads the continued run is the same, bit for bit, as one that
    never stopped. The folder gets ``run.json``, ``metrics.jsonl``, ``tensorboard/``, ``state/`` and, at the
    end, ``checkpoint/`` for :func:`umbel.load` and ``transformers``.

    Parameters
    ----------
    run
        What to train, from :mod:`umbel.train.recipes`.
    corpus
        Folder made by :func:`umbel.build_corpus`, cut as ``run.corpus`` says.
    out
        Run folder.

    Raises
    ------
    RunError
        If the folder holds another run, the corpus is cut otherwise, or the loss stops being finite.
    OutputError
        If the disk is full. Earlier states are whole, and the same command continues from the last.
    """
    reporter = reporter_or_silent(reporter)
    require_schedule(run.optim, run.train.steps)
    place = resolve_device(device)
    folder, source = Path(out), Corpus.open(corpus)
    differences = _differences(to_dict(source.config), to_dict(run.corpus))
    if differences:
        raise RunError(
            f"{corpus}: built with other settings than recipe {run.name} wants ({'; '.join(differences)}). Build it "
            f"with --recipe {run.name}, or repeat its settings with --set corpus.NAME=VALUE"
        )
    tokens = make_tokens(run.tokens)
    require_vocabulary(tokens, run.model.vocab_size)
    tokenizer = hf_tokenizer(tokens, run.corpus.window_bp)
    _open_run(folder, run, source, tokens, place, reporter)
    model = untrained_model(run, tokens).to(place)
    optimizers = make_optimizers(model, run.optim)
    first_step = _restore(folder / "state", model, optimizers, place, reporter)
    total, active = count_parameters(run.model)
    reporter.say(f"{run.name}: {total:,} parameters, {active:,} active, on {place}, corpus {source.hash[:12]}")
    if model.placement is not None:
        reporter.say(f"and {sum(p.numel() for p in model.placement.parameters()):,} parameters that place cut spans")

    training = TrainingBatches(source, run, tokens, reporter)
    for line in training.told():
        reporter.say(line)

    def save(step: int) -> None:
        content = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
        save_state(folder / "state", step, content, run.train.keep_states)

    with ExitStack() as stack:
        log = _Log(folder, run, first_step, reporter, stack)
        fit(
            model,
            optimizers,
            training,
            [*validation_batches(source, run, tokens), *placement_batches(source, run, tokens)],
            run,
            first_step=first_step,
            device=place,
            dtype=autocast_dtype(place, run.train.autocast),
            record=log,
            save=save,
        )
    save_checkpoint(folder / "checkpoint", model, tokenizer)
    return PretrainResult(folder, folder / "checkpoint", log.last.get("train", {}), log.last.get("valid", {}))


def _restore(
    folder: Path,
    model: UmbelForMaskedLM,
    optimizers: Sequence[torch.optim.Optimizer],
    device: torch.device,
    reporter: Reporter,
) -> int:
    """Load the newest whole state, if any; give the number of finished steps."""
    state = load_newest_state(folder, device, reporter)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    reporter.say(f"continuing after step {state['step']:,}")
    return int(state["step"])
