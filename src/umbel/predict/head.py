"""A tuned model ready for use: what its head says of sequences, in the units of its target."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from umbel.config import from_dict
from umbel.data.labelled.batches import require_places
from umbel.data.labelled.outputs import outputs_in_groups
from umbel.data.labelled.task import Task
from umbel.data.tokenizers import Tokens, load_tokens
from umbel.errors import AdapterError, CheckpointError, ConfigError
from umbel.files import sha256_file, sha256_json
from umbel.genome.sequence import Codes
from umbel.model.adapters.files import CARD_FILE, WEIGHTS_FILE, load_adapter, read_card
from umbel.model.bases import to_device
from umbel.model.checkpoint import checkpoint_folder, weights_hash
from umbel.model.hf import UmbelForMaskedLM
from umbel.model.shipped import model_path
from umbel.model.tuned import Tuned, load_tuned
from umbel.ops.devices import autocast_to, resolve_device
from umbel.predict.batches import similar_lengths
from umbel.predict.choices import Strand, require_strand
from umbel.predict.memory import Budget, pass_bytes
from umbel.predict.precision import Precision, autocast_of, set_precision
from umbel.progress import Reporter, reporter_or_silent

_COPIES = 4
"""Of the states of a batch, while a head averages them over bins or sequences."""


class Head:
    """A model with a head that ``umbel finetune`` has fitted, and what it says of sequences of any lengths.

    Outputs depend on their own sequence only, within 1e-5.

    Attributes
    ----------
    task
        Kind, names of the outputs, and ``bin_bp``.
    weights_hash
        Identifies the weights: SHA-256 of the weights file, or of an adapter's together with its base's.
    min_bases
        Bases of the shortest sequence that has a token.
    window_bp
        Longest window that the base saw in training.
    source
        What it was loaded from.
    strand
        The one that ``umbel finetune`` scored it on: ``forward`` of a stranded task, else ``both``. None where the
        folder stands alone, and nothing tells.
    precision
        ``fp32``, ``bf16`` or ``int8``: of the backbone; the head itself computes in float32.
    tokens_per_batch
        As :attr:`umbel.predict.loaded.LoadedModel.tokens_per_batch`.
    """

    def __init__(
        self,
        model: Tuned,
        weights_hash: str,
        device: torch.device,
        tokens: Tokens,
        source: Path,
        strand: Strand | None = None,
        precision: Precision = "fp32",
    ):
        self._model: nn.Module = model.to(device).eval()
        self._device, self.tokens, self.source, self.strand = device, tokens, source, strand
        self.precision: Precision = precision
        self._autocast = autocast_of(precision)
        set_precision(model.backbone, device, precision)
        self.weights_hash = weights_hash
        self.tokens_per_batch: int | None = None
        self._config, self._backbone = model.config.model, model.backbone
        self.task = from_dict(Task, dict(model.config.task), str(source))
        self.min_bases = tokens.shortest
        self.window_bp: int = model.config.window_bp
        require_places(self.task, tokens)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        base: str | Path | None = None,
        precision: Precision = "fp32",
    ) -> Head:
        """Load what ``umbel finetune`` wrote.

        Parameters
        ----------
        path
            Its whole result (the run that dev liked best is taken), one run of it, a ``model`` folder, or an
            ``adapter`` folder, which is merged into its base.
        base
            Of an adapter: its checkpoint or run folder, or ``mini``. None takes the one that ``finetune.json`` names.
        precision
            As in :meth:`umbel.predict.loaded.LoadedModel.load`.

        Raises
        ------
        CheckpointError
            If there is no tuned model, or it is damaged.
        AdapterError
            If an adapter's base is not told or not there, or is another one: its weights' hash decides.
        BackendError
            If the device is not here, or cannot compute in this precision.
        """
        place, folder = resolve_device(device), find_tuned(Path(path))
        if not (folder / CARD_FILE).is_file():
            model = load_tuned(folder)
            tokens = load_tokens(folder, model.config.tokens)
            return cls(model, weights_hash(folder), place, tokens, Path(path), _scored_strand(folder), precision)
        ground = _base_of(folder) if base is None else model_path(base)
        merged = load_adapter(ground, folder)
        if isinstance(merged, UmbelForMaskedLM) or getattr(merged.config, "task", None) is None:
            raise AdapterError(f"{folder}: this adapter has no head for a task: it changes the language model alone")
        model = cast(Tuned, merged)
        key = sha256_json([read_card(folder).base_hash, sha256_file(folder / WEIGHTS_FILE)])
        tokens = load_tokens(checkpoint_folder(ground), model.config.tokens)
        return cls(model, key, place, tokens, Path(path), _scored_strand(folder), precision)

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the last axis of :meth:`outputs` stands for: classes, labels, or quantities."""
        return self.task.names

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self._device

    def outputs(
        self, codes: Sequence[Codes], strand: Strand = "forward", *, reporter: Reporter | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """Say what the head says: logits of classes or labels, numbers in the units of the target.

        Parameters
        ----------
        codes
            Base codes, ``(L_i,)`` each.
        strand
            ``forward`` as given; ``revcomp``: the reverse complement's outputs; ``both``: the mean of the two, which
            is what ``umbel finetune`` scores unless a task is ``stranded``. Row i is base or bin i of the sequence as
            given, whatever the strand: bins are the same stretches of it on both, also where the last is short.

        Returns
        -------
        One float32 array a sequence: ``(outputs,)``; for ``bases`` ``(L_i, classes)``; for ``bins``
        ``(ceil(L_i / bin_bp), outputs)``.

        Raises
        ------
        ValueError
            If a sequence is shorter than one token, or the strand is none of the three.
        ConfigError
            If one sequence alone takes more memory than there is; nothing is computed then.
        """
        require_strand(strand)
        for i, sequence in enumerate(codes):
            if len(sequence) < self.min_bases:
                raise ValueError(
                    f"sequence {i} has {len(sequence)} bases, and this model's tokens have {self.min_bases}"
                )
        # No sequence has more tokens than bases and framing.
        groups = similar_lengths([len(sequence) + 2 for sequence in codes], self.budget().rows_of)
        bar = reporter_or_silent(reporter).start("predicting", len(codes), "sequences")
        found = outputs_in_groups(self.task, self.tokens, codes, self._say, groups, strand, bar.advance)
        bar.close()
        return list(found)

    def budget(self) -> Budget:
        """Tell how many sequences go into one pass, by what its buffers take and by the memory that is free now."""
        cost = pass_bytes(self._backbone, self._device, self._autocast)
        each = cost.each + 4 * _COPIES * self._config.d_model
        return Budget(replace(cost, each=each), self._device, self.tokens_per_batch)

    def probabilities(
        self, codes: Sequence[Codes], strand: Strand = "forward", *, reporter: Reporter | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """Turn :meth:`outputs` into probabilities: of classes, which add up to 1, or of each label for itself.

        Raises
        ------
        ConfigError
            If the outputs are quantities.
        ValueError
            As :meth:`outputs`.
        """
        if self.task.is_numbers:
            raise ConfigError(f"{self.source}: a {self.task.kind} task has numbers and no probabilities: use outputs")
        found = (torch.from_numpy(each) for each in self.outputs(codes, strand, reporter=reporter))
        return [(each.softmax(-1) if self.task.is_classes else each.sigmoid()).numpy() for each in found]

    @torch.inference_mode()
    def _say(self, inputs: dict[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        with autocast_to(self._device, self._autocast):
            logits = self._model(**to_device(inputs, self._device)).logits
        return logits.float().cpu().numpy()


def find_tuned(path: Path) -> Path:
    """Find the folder of a tuned model or an adapter in what the user named.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    told = path / "finetune.json"
    best = [path / "runs" / str(_read(told).get("best_run"))] if told.is_file() else []
    for folder in (path, *best):
        for candidate in (folder, folder / "model", folder / "adapter"):
            if (candidate / CARD_FILE).is_file() or (candidate / "config.json").is_file():
                return candidate
    raise CheckpointError(f"{path}: no tuned model there. Name what umbel finetune wrote, one of its runs, or a model/")


def _base_of(adapter: Path) -> Path:
    """Find an adapter's base by the result that the adapter lies in."""
    told = _result_of(adapter)
    where = _read(told).get("base", {}).get("path") if told.is_file() else None
    if where is None or not model_path(str(where)).is_dir():
        card = read_card(adapter)
        lost = f", and {where}, which {told.name} names, is not there" if where else ""
        raise AdapterError(
            f"{adapter}: this adapter belongs to a base ({card.base}) with weights {card.base_hash}{lost}: say where "
            "it is (base=)"
        )
    return model_path(str(where))


def _result_of(folder: Path) -> Path:
    """Where the result stands that a model or an adapter is a run of."""
    return folder.resolve().parent.parent.parent / "finetune.json"


def _scored_strand(folder: Path) -> Strand | None:
    told = _result_of(folder)
    stranded = _read(told).get("config", {}).get("stranded") if told.is_file() else None
    return None if stranded is None else "forward" if stranded else "both"


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error})") from error
