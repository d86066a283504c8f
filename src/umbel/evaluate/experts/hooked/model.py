"""A mixture-of-experts model of Hugging Face as a model whose routing can be recorded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from umbel.errors import ConfigError
from umbel.evaluate.experts.hooked.items import Items, dna_items, text_items
from umbel.evaluate.experts.hooked.loading import load_folder, model_facts
from umbel.evaluate.experts.hooked.probing import Probe, probe
from umbel.evaluate.experts.hooked.recorder import Recorder
from umbel.evaluate.experts.hooked.sites import find_routers
from umbel.evaluate.experts.routes import RoutedSequence, SiteRoutes
from umbel.genome.sequence import Codes
from umbel.ops.devices import resolve_device
from umbel.predict.batches import similar_lengths

UNTOLD_WINDOW = 4096
"""Tokens that are read at once where neither model nor tokenizer names a limit."""
TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 32768}
_NO_LIMIT = 10**9
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length")
_CLOSE = {torch.float32: 1e-3, torch.float64: 1e-6}
_CLOSE_IN_LOW_PRECISION = 0.1


class HookedModel:
    """A model that somebody else wrote, whose routers are read by forward hooks while it runs.

    Implements :class:`umbel.evaluate.experts.routes.RoutedModel`. Text is split into the model's tokens, which are
    the items. DNA (arrays of base codes) is given to the tokenizer as upper-case letters, and items are its bases.
    A model with encoder and decoder gets the same tokens in both. Nothing of the model is changed; a few random
    tokens are run through it to learn how its routers are read (see :attr:`notes`).

    Parameters
    ----------
    model
        A module of Hugging Face, with or without a head, or with an adapter around it. It is put on the device, and
        into evaluation mode.
    tokenizer
        Its tokenizer.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; None leaves the model where it is.
    window
        Most tokens that it reads at once; None takes what model and tokenizer tell, or 4,096 where they do not.
    tokens_per_batch
        Most padded tokens of a pass. It changes memory and speed, not routes.
    padding_side
        ``right`` or ``left``; it changes no route.
    top_k
        Experts that a token takes, for routers that do not tell.
    facts
        What is known of its origin.

    Attributes
    ----------
    sites, window, facts
        See :class:`umbel.evaluate.experts.routes.RoutedModel`.
    notes
        A sentence for each module that was hooked: how it was found, and how it is read; and one on batches.
    n_dropped
        For each site the items counted so far that took fewer experts than they chose, because these were full. Their
        ``experts`` are -1 there, and their ``weights`` 0.

    Raises
    ------
    ConfigError
        If no router is found, none runs, or one cannot be read.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        device: str | None = None,
        window: int | None = None,
        tokens_per_batch: int | None = None,
        padding_side: str = "right",
        top_k: int | None = None,
        facts: dict[str, Any] | None = None,
    ):
        if padding_side not in ("left", "right"):
            raise ConfigError(f"padding_side {padding_side!r}: left or right")
        # Quantised weights stay where they were loaded.
        if device is not None and getattr(getattr(model, "config", None), "quantization_config", None) is None:
            model.to(resolve_device(device))
        self._model, self._tokenizer, self._padding_side = model.eval(), tokenizer, padding_side
        self._network = _without_head(model)
        self._device = next(self._network.parameters()).device
        self._accepts = set(inspect.signature(self._network.forward).parameters)
        self._two_stacks = "decoder_input_ids" in self._accepts
        self._pad = _pad_id(tokenizer)
        self._n_special = len(tokenizer("")["input_ids"])
        limit = self._limit()
        self._max_tokens = min(window, limit) if window is not None else min(limit, _NO_LIMIT)
        if self._max_tokens == _NO_LIMIT:
            self._max_tokens = UNTOLD_WINDOW
        self._tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH.get(self._device.type, 4096)
        found = find_routers(model)
        dtype = next(self._network.parameters()).dtype
        self._probe: Probe = probe(
            self._run,
            found,
            self._ordinary_ids(),
            _text_config(self._network),
            top_k,
            _CLOSE.get(dtype, _CLOSE_IN_LOW_PRECISION),
        )
        self.notes = self._probe.notes
        self.sites = tuple(router.site for router in self._probe.routers)
        self.window = max(1, self._max_tokens - self._n_special)
        self.n_dropped = np.zeros(len(self.sites), np.int64)
        self.facts: dict[str, Any] = {
            **model_facts(model, self._network),
            **(facts or {}),
            "padding_side": padding_side,
            "batching": self._probe.batching,
            "hooked": list(self.notes),
        }

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str = "auto",
        *,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        adapter: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """Load a folder of Hugging Face, without the network.

        Parameters
        ----------
        path
            A folder with ``config.json``, weights and tokenizer.
        device
            ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype
            ``auto`` (as saved), ``float32``, ``bfloat16`` or ``float16``. Lower precision changes routes.
        trust_remote_code
            Let code that lies in the folder run.
        adapter
            Folder of a PEFT adapter to put on it.
        options
            As the class takes them.

        Raises
        ------
        CheckpointError
            If there is no such model, or it cannot be loaded.
        ConfigError
            If it brings code that is not trusted, has no routers, or they cannot be read.
        """
        model, tokenizer, facts = load_folder(path, dtype=dtype, trust_remote_code=trust_remote_code, adapter=adapter)
        return cls(model, tokenizer, device=device, facts=facts, **options)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, on the device."""
        return {name: tensor.detach() for name, tensor in self._model.state_dict().items()}

    def route(self, sequences: Sequence[Codes] | Sequence[str]) -> Iterator[RoutedSequence]:
        """Route sequences, longest first; what one is told does not depend on the others, nor on padding.

        Raises
        ------
        ConfigError
            If one is longer than the model reads, before anything is computed; or a router answers otherwise than it
            did when its reading was learnt.
        """
        items = [self._items(i, sequences[i]) for i in range(len(sequences))]
        with_tokens = [i for i, each in enumerate(items) if len(each.ids)]
        for i in sorted(set(range(len(items))) - set(with_tokens)):
            yield RoutedSequence(i, items[i].tokens, items[i].counted, tuple(_no_routes(s.top_k) for s in self.sites))
        for group in self._groups([len(items[i].ids) for i in with_tokens]):
            yield from self._routed([with_tokens[i] for i in group], items)

    def _items(self, i: int, sequence: Codes | str) -> Items:
        made = (
            text_items(self._tokenizer, sequence) if isinstance(sequence, str) else dna_items(self._tokenizer, sequence)
        )
        if len(made.ids) > self._max_tokens:
            raise ConfigError(
                f"sequence {i} has {len(made.ids)} tokens, and this model reads {self._max_tokens} at once, of which "
                f"{self._n_special} are its own: cut it into windows of at most {self.window}; nothing is left out here"
            )
        return made

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        if self._probe.batching == "single":
            return [[i] for i in sorted(range(len(lengths)), key=lambda i: -lengths[i])]
        groups = similar_lengths(lengths, lambda width: max(1, self._tokens_per_batch // width))
        if self._probe.batching == "padded":
            return groups
        same: dict[tuple[int, int], list[int]] = {}
        for number, group in enumerate(groups):
            for i in group:
                same.setdefault((number, lengths[i]), []).append(i)
        return list(same.values())

    def _routed(self, group: Sequence[int], items: Sequence[Items]) -> Iterator[RoutedSequence]:
        with Recorder([router.found for router in self._probe.routers]) as recorder:
            (n, width), starts = self._run([items[i].ids for i in group])
        tables = []
        for number, router in enumerate(self._probe.routers):
            call = recorder.single(number)
            if call is None:
                raise ConfigError(f"{router.found.name} ran in the first pass, and now it does not: it is not recorded")
            tables.append(_table(router.decide(call, n * width)))
        for row, i in enumerate(group):
            at = row * width + starts[row] + items[i].token
            sites = tuple(table.part(at) for table in tables)
            counted = items[i].counted
            self.n_dropped += [int((site.experts[counted] < 0).any(1).sum()) for site in sites]
            yield RoutedSequence(i, items[i].tokens, counted, sites)

    @torch.inference_mode()
    def _run(self, ids: Sequence[np.ndarray]) -> tuple[tuple[int, int], np.ndarray]:
        """Run sequences of token ids as one padded batch; give its shape, and where each row's sequence starts."""
        lengths = np.array([len(each) for each in ids])
        width = int(lengths.max())
        starts = width - lengths if self._padding_side == "left" else np.zeros_like(lengths)
        batch = np.full((len(ids), width), self._pad, np.int64)
        mask = np.zeros((len(ids), width), np.int64)
        for row, (each, start) in enumerate(zip(ids, starts, strict=True)):
            batch[row, start : start + len(each)] = each
            mask[row, start : start + len(each)] = 1
        tokens, real = (torch.from_numpy(x).to(self._device) for x in (batch, mask))
        given: dict[str, Any] = {"input_ids": tokens}
        if "attention_mask" in self._accepts:
            given["attention_mask"] = real
        if starts.any() and "position_ids" in self._accepts:
            given["position_ids"] = (real.cumsum(1) - 1).clamp(min=0)
        if self._two_stacks:
            given["decoder_input_ids"] = tokens
            if "decoder_attention_mask" in self._accepts:
                given["decoder_attention_mask"] = real
        if "use_cache" in self._accepts:
            given["use_cache"] = False
        self._network(**given)
        return (len(ids), width), starts

    def _limit(self) -> int:
        config = _text_config(self._network)
        told = [getattr(config, name, None) for name in _LIMITS] + [getattr(self._tokenizer, "model_max_length", None)]
        return min((value for value in told if isinstance(value, int) and 0 < value < _NO_LIMIT), default=_NO_LIMIT)

    def _ordinary_ids(self) -> np.ndarray:
        """Ids of tokens that stand for text: a stray image token would ask for an image."""
        embedding = getattr(self._network, "get_input_embeddings", lambda: None)()
        size = int(getattr(embedding, "num_embeddings", _NO_LIMIT))
        special = {*self._tokenizer.all_special_ids, *_special_ids(getattr(self._network, "config", None))}
        ids = sorted(i for i in self._tokenizer.get_vocab().values() if i < size and i not in special)
        if not ids:
            raise ConfigError("the tokenizer has no token of its own that this model has an embedding of")
        return np.array(ids, np.int64)


def _table(decisions: Any) -> SiteRoutes:
    experts, weights = decisions.experts.to(torch.int16).cpu().numpy(), _numbers(decisions.weights)
    return SiteRoutes(experts, weights, _numbers(decisions.entropy()), _numbers(decisions.margin()))


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def _no_routes(top_k: int) -> SiteRoutes:
    none = np.zeros(0, np.float32)
    return SiteRoutes(np.zeros((0, top_k), np.int16), np.zeros((0, top_k), np.float32), none, none)


def _without_head(model: nn.Module) -> nn.Module:
    """Give the part that has the layers: what a head makes of them costs much and routes nothing."""
    inner: Callable[[], nn.Module] | None = getattr(model, "get_base_model", None)
    network = inner() if inner is not None and hasattr(model, "peft_config") else model
    trunk = getattr(network, "base_model", network)
    return trunk if isinstance(trunk, nn.Module) else network


def _text_config(network: nn.Module) -> Any:
    config = getattr(network, "config", None)
    text = getattr(config, "get_text_config", None)
    return text() if text is not None else config


def _special_ids(config: Any) -> set[int]:
    told = vars(config) if config is not None else {}
    ids = {value for key, value in told.items() if key.endswith(("token_id", "token_index")) and isinstance(value, int)}
    for value in told.values():
        if hasattr(value, "model_type"):
            ids |= _special_ids(value)
    return ids


def _pad_id(tokenizer: Any) -> int:
    for name in ("pad_token_id", "eos_token_id"):
        value = getattr(tokenizer, name, None)
        if isinstance(value, int):
            return value
    return 0
