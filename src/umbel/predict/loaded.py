"""A checkpoint loaded for use: where it computes, in which precision, and how its passes are filled."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from umbel.data.bpe import BpeTokens
from umbel.data.kmers import Encoding
from umbel.data.tokenizers import Tokens, describe, load_tokens
from umbel.errors import CheckpointError, ConfigError
from umbel.genome.sequence import Codes
from umbel.model.backbone import Backbone, Output, count_parameters
from umbel.model.checkpoint import checkpoint_folder, load_checkpoint, weights_hash
from umbel.model.hf import UmbelForMaskedLM, new_model
from umbel.model.shipped import model_path
from umbel.ops.devices import autocast_to, resolve_device
from umbel.predict.batches import padded, similar_lengths
from umbel.predict.memory import TOKENS_ON_CPU, Budget, pass_bytes
from umbel.predict.precision import Precision, autocast_of, set_precision

LOGITS_AT_ONCE = 2**24
"""Logits of hidden bases that are held at a time."""
_COPIES = 3
"""Of these logits, while log-probabilities are made of them."""


class LoadedModel:
    """A masked language model on a device.

    Attributes
    ----------
    window_bp
        Longest window seen in training; longer sequences are computed, but nobody has trained for them.
    weights_hash
        SHA-256 of the weights file, or ``random-SEED``.
    tokens
        How bases become tokens.
    min_bases
        Bases of the shortest sequence that has a token.
    precision
        ``fp32``, ``bf16`` or ``int8``.
    source
        What it was loaded from; None where it was made in memory.
    tokens_per_batch
        Most padded tokens of a pass; None, as it is unless set, takes what is fast on the device. Memory may allow
        less. It changes memory and speed, not results.
    """

    def __init__(
        self,
        model: UmbelForMaskedLM,
        weights_hash: str,
        device: torch.device,
        tokens: Tokens,
        precision: Precision = "fp32",
        source: Path | None = None,
    ):
        self._model = model.to(device).eval()
        self._device, self._autocast = device, autocast_of(precision)
        self.precision: Precision = precision
        set_precision(self._model.backbone, device, precision)
        self.source = source
        self.weights_hash = weights_hash
        self.tokens = tokens
        self.min_bases = tokens.shortest
        self.window_bp: int = model.config.window_bp
        self.config = model.config.model
        self.n_parameters, self.n_active_parameters = count_parameters(self.config)
        self.n_experts: int = self.config.n_experts
        self.moe_layers = tuple(i for i, kind in enumerate(self.config.layer_kinds) if kind[1] == "e")
        self.tokens_per_batch: int | None = None

    @classmethod
    def load(cls, path: str | Path, device: str = "auto", precision: Precision = "fp32") -> Self:
        """Load a checkpoint folder, a run folder, a released PlantBiMoE folder, or a model that comes with umbel.

        Parameters
        ----------
        path
            The text ``mini`` is the model of the package, and ``./mini`` the folder of that name; see
            :func:`umbel.model.shipped.model_path`.
        device
            ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision
            ``fp32``; ``bf16``: large products in half the bits, fast on GPUs that have it and few CPUs; ``int8``: on
            a CPU, large weights in 8 bits. Routers, scans, norms and heads stay in float32. What it costs and gains
            :meth:`precision_report` measures.

        Raises
        ------
        CheckpointError
            If it does not hold a model of ours, whole.
        BackendError
            If the device is not here, or cannot compute in this precision.
        """
        place = resolve_device(device)
        model = load_checkpoint(path)
        tokens = load_tokens(checkpoint_folder(path), model.config.tokens)
        if tokens.size > model.config.vocab_size:
            raise CheckpointError(f"{path}: config.json tells of {tokens.size} tokens, and the model has fewer")
        return cls(model, weights_hash(path), place, tokens, precision, model_path(path))

    def with_random_weights(self, seed: int) -> Self:
        """Make the same network as it was before training: the baseline of every claim about its weights."""
        model = new_model(self.config, self.window_bp, seed, describe(self.tokens))
        return type(self)(model, f"random-{seed}", self._device, self.tokens, self.precision)

    def with_backbone(self, backbone: Backbone, weights_hash: str) -> Self:
        """Put this model's language head on another backbone of its shape: one that was tuned, wholly or by an adapter.

        Parameters
        ----------
        backbone
            Shared, not copied: it moves to this predictor's device and into evaluation mode. Adapters may be in it.
            Its weights are never rounded: under ``int8`` it computes in ``fp32``.
        weights_hash
            What identifies its weights.

        Raises
        ------
        ConfigError
            If it has another shape.
        """
        if backbone.config != self.config:
            raise ConfigError("this backbone has another shape than the model, whose language head cannot stand on it")
        # The copy takes the other backbone in place of its own; a tied head keeps the base's embedding.
        model = copy.deepcopy(self._model, {id(self._model.backbone): backbone})
        precision: Precision = "fp32" if self.precision == "int8" else self.precision
        return type(self)(model, weights_hash, self._device, self.tokens, precision)

    @property
    def backbone(self) -> Backbone:
        """The network below the head, on its device and ready for inference."""
        return self._model.backbone

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self._device

    def require_base_probabilities(self) -> None:
        """See that the tokens let one base be hidden at a time.

        Raises
        ------
        ConfigError
            If they are learnt words.
        """
        if isinstance(self.tokens, BpeTokens):
            raise ConfigError(
                "this model's tokens are learnt words (BPE), and where a hidden word ends would give its bases away: "
                "it has no probability of a single base, and so no masked loss per base. umbel embed and umbel scan "
                "work with it"
            )

    def budget(self) -> Budget:
        """Tell how many sequences go into one pass, by what its buffers take and by the memory that is free now."""
        cost = pass_bytes(self.backbone, self._device, self._autocast)
        logits = min(LOGITS_AT_ONCE, self.tokens.size * (self.tokens_per_batch or TOKENS_ON_CPU))
        return Budget(replace(cost, fixed=cost.fixed + 4 * _COPIES * logits), self._device, self.tokens_per_batch)

    def _encode(self, codes: Sequence[Codes]) -> list[Encoding]:
        for i, sequence in enumerate(codes):
            if len(sequence) < self.min_bases:
                raise ValueError(
                    f"sequence {i} has {len(sequence)} bases, and this model's tokens have {self.min_bases}"
                )
        return [self.tokens.encode(sequence) for sequence in codes]

    @torch.inference_mode()
    def _run(
        self, ids: Sequence[np.ndarray], use: Callable[[Tensor, Output, list[int]], None], n_layers: int | None = None
    ) -> None:
        """Run every sequence through the first layers, or all; ``use`` gets each padded batch with its indices.

        Raises
        ------
        ConfigError
            If one sequence alone takes more memory than there is; nothing is computed then.
        """
        for indices in similar_lengths([len(each) for each in ids], self.budget().rows_of):
            batch = padded([ids[i] for i in indices]).to(self._device)
            with autocast_to(self._device, self._autocast):
                output = self._model.backbone(batch, n_layers=n_layers)
            use(batch, output, indices)
