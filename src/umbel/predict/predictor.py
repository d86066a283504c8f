"""A trained model ready for use: log-probabilities, embeddings and routes of sequences of any lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from umbel.data.kmers import KmerTokens
from umbel.data.masking import hide
from umbel.data.vocabulary import BASE_ID, PAD_ID
from umbel.genome.sequence import Codes, Mask, encode, revcomp
from umbel.model.backbone import Output, count_parameters
from umbel.model.checkpoint import load_checkpoint, weights_hash
from umbel.model.heads import mean_over_bases
from umbel.model.hf import UmbelForMaskedLM, new_model
from umbel.ops.devices import resolve_device

Strand = Literal["forward", "revcomp", "both"]

TOKENS_PER_BATCH = 16_384
"""Padded tokens of one forward pass; a longer sequence goes alone. It changes memory and speed, not results."""


class Predictor:
    """A masked language model and everything one asks of it without training.

    Sequences are arrays of base codes (A 0, C 1, G 2, T 3, N 4; see :func:`umbel.genome.sequence.encode`).
    They are sorted by length, padded and batched inside; a result depends on its own sequence only, within
    1e-5.

    Attributes
    ----------
    window_bp
        Longest window seen in training; longer sequences are computed, but nobody has trained for them.
    weights_hash
        SHA-256 of the weights file, or ``random-SEED``.
    """

    def __init__(self, model: UmbelForMaskedLM, weights_hash: str, device: torch.device):
        self._model = model.to(device).eval()
        self._device = device
        self.weights_hash = weights_hash
        self.tokens = KmerTokens(1)
        self.window_bp: int = model.config.window_bp
        self.config = model.config.model
        self.n_parameters, self.n_active_parameters = count_parameters(self.config)
        self.n_experts: int = self.config.n_experts
        self.moe_layers = tuple(i for i, kind in enumerate(self.config.layer_kinds) if kind[1] == "e")

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> Predictor:
        """Load a checkpoint folder, a run folder, or a released PlantBiMoE folder.

        Raises
        ------
        CheckpointError
            If it does not hold a model of ours, whole.
        BackendError
            If the device is not here.
        """
        place = resolve_device(device)
        return cls(load_checkpoint(path), weights_hash(path), place)

    def with_random_weights(self, seed: int) -> Predictor:
        """Make the same network as it was before training: the baseline of every claim about its weights."""
        return Predictor(new_model(self.config, self.window_bp, seed), f"random-{seed}", self._device)

    def _batches(self, ids: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Group the indices of similar lengths, longest first, within the token budget."""
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        start = 0
        while start < len(order):
            size = max(1, TOKENS_PER_BATCH // len(ids[order[start]]))
            yield order[start : start + size]
            start += size

    @torch.inference_mode()
    def _run(self, ids: Sequence[np.ndarray], use: Callable[[Tensor, Output, list[int]], None]) -> None:
        """Run every sequence through the backbone; ``use`` gets each padded batch with its indices."""
        for indices in self._batches(ids):
            width = len(ids[indices[0]])
            batch = np.full((len(indices), width), PAD_ID)
            for row, i in enumerate(indices):
                batch[row, : len(ids[i])] = ids[i]
            tensor = torch.from_numpy(batch).to(self._device)
            use(tensor, self._model.backbone(tensor), indices)

    def masked_log_probs(self, codes: Sequence[Codes], hidden: Sequence[Mask]) -> list[np.ndarray]:
        """Say how likely each base is at hidden positions, all of a sequence's hidden at once.

        Parameters
        ----------
        codes
            Sequences, ``(L_i,)`` each.
        hidden
            Where to hide the base behind ``[MASK]``, ``(L_i,)`` bool each.

        Returns
        -------
        One ``(hidden_i, 4)`` float32 array a sequence: natural-log probabilities of A, C, G and T,
        renormalised over these four.
        """
        ids = [hide(sequence, mask, self.tokens).input_ids for sequence, mask in zip(codes, hidden, strict=True)]
        results: list[np.ndarray] = [np.empty((0, 4), np.float32)] * len(ids)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            asked = torch.zeros(tensor.shape, dtype=torch.bool)
            for row, i in enumerate(indices):
                asked[row, 1 : 1 + len(hidden[i])] = torch.from_numpy(np.ascontiguousarray(hidden[i]))
            rows = self._model.lm_head(output.hidden[asked.to(self._device)]).float()
            logs = rows[:, BASE_ID : BASE_ID + 4].log_softmax(-1).cpu().numpy()
            ends = np.cumsum([int(hidden[i].sum()) for i in indices])
            for i, part in zip(indices, np.split(logs, ends[:-1]), strict=True):
                results[i] = part

        self._run(ids, use)
        return results

    def embed(self, sequences: Sequence[Codes] | Sequence[str], strand: Strand = "both") -> np.ndarray:
        """Average the last hidden state over the real bases (A, C, G, T) of each sequence.

        Parameters
        ----------
        sequences
            Base codes, ``(L_i,)`` each, or letters; every one with at least one real base.
        strand
            ``forward`` as given, ``revcomp`` as its reverse complement, ``both`` the mean of the two: the
            embedding of a sequence and of its reverse complement are then equal.

        Returns
        -------
        ``(n, D)`` float32.

        Raises
        ------
        ValueError
            If a sequence has no real base or a letter that is no nucleotide, or the strand is none of the three.
        """
        if strand not in ("forward", "revcomp", "both"):
            raise ValueError(f"strand is {strand!r}: use forward, revcomp or both")
        codes = [encode(s.encode())[0] if isinstance(s, str) else s for s in sequences]
        empty = [i for i, sequence in enumerate(codes) if not (sequence < 4).any()]
        if empty:
            raise ValueError(f"sequence {empty[0]} has no A, C, G or T: there is nothing to average")
        if strand == "both":
            return (self.embed(codes, "forward") + self.embed(codes, "revcomp")) / 2
        shown = [revcomp(sequence) if strand == "revcomp" else sequence for sequence in codes]
        result = np.empty((len(shown), self.config.d_model), np.float32)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            result[indices] = mean_over_bases(output.hidden.float(), tensor).cpu().numpy()

        self._run([self.tokens.encode(sequence).ids for sequence in shown], use)
        return result

    def routes(self, codes: Sequence[Codes]) -> list[np.ndarray]:
        """Tell which experts each base was sent to.

        Returns
        -------
        One ``(expert layers, L_i, K)`` uint8 array a sequence.
        """
        results: list[np.ndarray] = [np.empty(0, np.uint8)] * len(codes)

        def use(tensor: Tensor, output: Output, indices: list[int]) -> None:
            experts = torch.stack([routing.experts for routing in output.routings]).to(torch.uint8).cpu().numpy()
            for row, i in enumerate(indices):
                results[i] = experts[:, row, 1 : 1 + len(codes[i])]

        if self.moe_layers:
            self._run([self.tokens.encode(sequence).ids for sequence in codes], use)
            return results
        return [np.empty((0, len(sequence), self.config.top_k), np.uint8) for sequence in codes]


def load(path: str | Path, device: str = "auto") -> Predictor:
    """Load a model for use; the short form of :meth:`Predictor.load`."""
    return Predictor.load(path, device)
