"""What is counted in a sequence, and which token of a tokenizer that somebody else wrote stands for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError
from umbel.genome.sequence import Codes, N, decode

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Items:
    """A sequence as tokens of a model, and its items.

    Attributes
    ----------
    ids
        int64 ``(L,)``: token ids, those that the tokenizer adds included.
    token
        int64 ``(T,)``: for each item the index of the token that stands for it.
    tokens
        int32 ``(T,)``: what :attr:`umbel.evaluate.experts.routes.RoutedSequence.tokens` holds.
    counted
        bool ``(T,)``
    """

    ids: Ints
    token: Ints
    tokens: npt.NDArray[np.int32]
    counted: npt.NDArray[np.bool_]


def text_items(tokenizer: Any, text: str) -> Items:
    """Make items of text: its tokens, of which those that the tokenizer adds are not counted.

    A word that is not in the vocabulary is a token like others.
    """
    encoded = tokenizer(text, truncation=False, verbose=False)
    ids = np.asarray(encoded["input_ids"], np.int64)
    unknown = getattr(tokenizer, "unk_token_id", None)
    special = [i for i in tokenizer.all_special_ids if i != unknown]
    return Items(ids, np.arange(len(ids)), ids.astype(np.int32), ~np.isin(ids, special))


def dna_items(tokenizer: Any, codes: Codes) -> Items:
    """Make items of base codes ``(T,)``: each base has the token that covers it, of several the last to begin.

    The tokenizer reads upper-case letters. N is not counted.

    Raises
    ------
    ConfigError
        If it gives the unknown token for a base, or none, or does not tell which letters a token stands for.
    """
    letters = decode(codes)
    encoded = tokenizer(letters, truncation=False, verbose=False, **_asking_for_offsets(tokenizer))
    ids = np.asarray(encoded["input_ids"], np.int64)
    spans = encoded.get("offset_mapping") or _spans(tokenizer, ids, letters)
    token = np.full(len(codes), -1, np.int64)
    begin = np.full(len(codes), -1, np.int64)
    for i, (start, end) in enumerate(spans):
        if end > start:
            covered = slice(start, end)
            later = begin[covered] <= start
            token[covered][later], begin[covered][later] = i, start
    counted = codes < N
    unknown = getattr(tokenizer, "unk_token_id", None)
    for base in np.flatnonzero(counted):
        if token[base] < 0:
            raise ConfigError(
                f"the tokenizer has no token for base {base + 1} of a sequence, which is {letters[base]}: "
                "this model's tokenizer does not read DNA as upper-case letters"
            )
        if unknown is not None and ids[token[base]] == unknown and not _covers_n(spans, int(token[base]), codes):
            raise ConfigError(
                f"the tokenizer gives its unknown token for base {base + 1} of a sequence, which is {letters[base]}: "
                "this model's tokenizer does not read DNA as upper-case letters"
            )
    return Items(ids, token.clip(min=0), codes.astype(np.int32), counted)


def _covers_n(spans: Sequence[tuple[int, int]], token: int, codes: Codes) -> bool:
    # A word with an N in it may well be in no vocabulary.
    start, end = spans[token]
    return bool((codes[start:end] == N).any())


def _asking_for_offsets(tokenizer: Any) -> dict[str, bool]:
    return {"return_offsets_mapping": True} if getattr(tokenizer, "is_fast", False) else {}


def _spans(tokenizer: Any, ids: Ints, letters: str) -> list[tuple[int, int]]:
    """Find what each token covers where the tokenizer does not say: words end to end, or k-mers one base apart."""
    special = set(tokenizer.all_special_ids) - {getattr(tokenizer, "unk_token_id", None)}
    unknown = getattr(tokenizer, "unk_token_id", None)
    words = [
        "" if int(i) in special else "N" if i == unknown else str(word).upper()
        for i, word in zip(ids, tokenizer.convert_ids_to_tokens(ids.tolist()), strict=True)
    ]
    ends = np.cumsum([len(word) for word in words])
    if "".join(words) == letters:
        return [(int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True)]
    real = [word for word in words if word]
    k = len(real[0]) if real else 0
    if k > 1 and len(real) == len(letters) - k + 1 and all(letters[i : i + k] == w for i, w in enumerate(real)):
        starts = iter(range(len(real)))
        return [(start, start + k) if word else (0, 0) for word in words for start in ([next(starts)] if word else [0])]
    raise ConfigError(
        "this tokenizer does not tell which letters each token stands for, and its tokens are neither words end to "
        "end nor k-mers one base apart: use a fast tokenizer (tokenizer.json)"
    )
