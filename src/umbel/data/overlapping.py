"""Overlapping k-mers for Hugging Face: the one tokenizer that ``tokenizer.json`` cannot describe.

A pre-tokenizer that can be written to a file cuts text into parts that do not overlap. So this class cuts in Python,
and takes the cutter off while it is saved. ``AutoTokenizer`` finds the class once umbel is imported. Without umbel the
folder still loads, but text is then one piece up to the next special token: a k-mer or less gets its right id, and
anything longer is an error, because the file names no token for unknown words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tokenizers import NormalizedString, PreTokenizedString, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from umbel.data.kmers import KmerTokens
from umbel.data.tokenizer_parts import assemble, dressed

_NO_UNKNOWN = "overlapping k-mers: import umbel, then AutoTokenizer.from_pretrained"
_RUN = re.compile(r"[ACGT]+|[\s\S]")
_PART = 512


class _Cutter:
    """Cuts text at every letter that is no base, and the runs between into words that begin at every base."""

    def __init__(self, k: int):
        self.k = k

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        # Finding a slice takes time in proportion to where it begins: short parts first keep a chromosome feasible.
        text.split(self._parts)
        text.split(self._words)

    def _parts(self, _: int, piece: Any) -> list[NormalizedString]:
        parts = []
        for run in _RUN.finditer(piece.normalized):
            start, end = run.span()
            for first in range(start, max(start, end - self.k) + 1, _PART):
                parts.append(piece[first : min(first + _PART + self.k - 1, end)])
        return parts

    def _words(self, _: int, piece: Any) -> list[NormalizedString]:
        n_words = len(piece.normalized) - self.k + 1
        return [piece[first : first + self.k] for first in range(n_words)] if n_words > 1 else [piece]


class UmbelOverlappingTokenizer(PreTrainedTokenizerFast):
    """A k-mer at every base; ids, offsets and decoding are those of :class:`~umbel.data.kmers.KmerTokens`.

    Examples
    --------
    >>> tokenizer = overlapping_tokenizer(KmerTokens(3, overlapping=True), 512)
    >>> built = tokenizer("acgtN", return_offsets_mapping=True)
    >>> tokenizer.convert_ids_to_tokens(built.input_ids), built.offset_mapping
    (['[CLS]', 'ACG', 'CGT', 'N', '[SEP]'], [(0, 0), (0, 3), (1, 4), (4, 5), (0, 0)])
    >>> tokenizer.decode(built.input_ids, skip_special_tokens=True)
    'ACGTN'
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._attach()

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        """Leave ``tokenizer.json`` to be read as it is."""
        return kwargs

    @property
    def k(self) -> int:
        """Bases in a word."""
        return max(len(word) for word in self._tokenizer.get_vocab() if not set(word) - set("ACGT"))

    def _attach(self) -> None:
        self._tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(_Cutter(self.k))
        self._tokenizer.model.unk_token = self.unk_token

    @contextmanager
    def _detached(self) -> Iterator[Tokenizer]:
        """Give the backend in the form that can be written."""
        self._tokenizer.pre_tokenizer = None
        self._tokenizer.model.unk_token = _NO_UNKNOWN
        try:
            yield self._tokenizer
        finally:
            self._attach()

    def __getstate__(self) -> dict[str, Any]:
        with self._detached() as backend:
            return {**self.__dict__, "_tokenizer": Tokenizer.from_str(backend.to_str())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._attach()

    def _save_pretrained(self, *args: Any, **kwargs: Any) -> tuple[str, ...]:
        with self._detached():
            return super()._save_pretrained(*args, **kwargs)

    def _spelled(self, tokens: list[str]) -> list[str]:
        """Text that each token adds: full words that follow each other overlap in all but one base."""
        k, before, spelled = self.k, False, []
        for token in tokens:
            is_full = len(token) == k and not set(token) - set("ACGT")
            spelled.append(token[-1] if before and is_full else token)
            before = is_full
        return spelled

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Join tokens, undoing their overlap."""
        return "".join(self._spelled(tokens))

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        tokens = self.convert_ids_to_tokens([token_ids] if isinstance(token_ids, int) else token_ids)
        dropped = {t.content for t in self.added_tokens_decoder.values() if t.special} if skip_special_tokens else set()
        # Overlap is undone before special tokens are dropped: [MASK] between two words parts them.
        pairs = zip(tokens, self._spelled(tokens), strict=True)
        return "".join(text for token, text in pairs if token not in dropped)


def overlapping_tokenizer(tokens: KmerTokens, window_bp: int) -> UmbelOverlappingTokenizer:
    """Make the tokenizer of overlapping k-mers; ``model_max_length`` is 2 more than a window without N has."""
    model = models.WordLevel({word: i for i, word in enumerate(tokens.words)}, unk_token=_NO_UNKNOWN)
    n_words = max(1, window_bp - tokens.k + 1)
    return dressed(assemble(model, None), n_words + 2, UmbelOverlappingTokenizer)


class _OverlappingTokensConfig(PreTrainedConfig):
    """No model's config: ``AutoTokenizer.register`` learns a tokenizer class by name only beside one."""

    model_type = "umbel-overlapping-tokens"


AutoTokenizer.register(_OverlappingTokensConfig, UmbelOverlappingTokenizer, exist_ok=True)
