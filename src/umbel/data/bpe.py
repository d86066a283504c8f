"""DNA words learnt by byte-pair encoding, with the bases that every token stands for.

The vocabulary holds the special tokens, A C G T N, and the learnt words from id 12 on; no word holds an N. A sequence
is cut at every N and after every 512 bases of a stretch without N, and words never cross a cut: the time grows with
the length and not faster, and a change of one base changes no token beyond the cut.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models

from umbel.data.kmers import FRAMING, Encoding, framed, require_bases
from umbel.data.tokenizer_parts import assemble, pieces_of
from umbel.data.vocabulary import BASE_ID, SPECIAL_TOKENS, UNK_ID, WORD_ID
from umbel.errors import InputError
from umbel.files import sha256_json
from umbel.genome import sequence

STRETCH_BP = 512
"""Longest run of bases that is tokenized as one; of 128, 512 and no bound it is the fastest that costs below 1 %."""
TOKENIZER_FILE = "tokenizer.json"
FIXED = (*SPECIAL_TOKENS, *"ACGTN")

_REMEDY = "Give a file made by umbel tokenizer train."


class BpeTokens:
    """Words of a learnt vocabulary.

    Parameters
    ----------
    words
        Every token as text, in the order of ids; the first twelve are those that every vocabulary has.
    merges
        Pairs of tokens, in the order in which they are joined.

    Attributes
    ----------
    size
        Tokens in the vocabulary.
    words
        Every token as text, in the order of ids.
    first_word, n_words
        The ids of the learnt words: ``n_words`` of them from ``first_word`` on.
    lengths
        ``(size,)`` bases of each token; 0 at special tokens.
    shortest, n_covering
        Bases of the shortest sequence that has tokens, and tokens that stand for one base: one and one.

    Raises
    ------
    ValueError
        If words and merges are no such vocabulary.

    Examples
    --------
    >>> tokens = BpeTokens([*FIXED, "AC", "ACG"], [("A", "C"), ("AC", "G")])
    >>> encoding = tokens.encode(np.array([0, 1, 2, 0, 1, 4, 3]))
    >>> [tokens.words[i] for i in encoding.ids], encoding.ends.tolist()
    (['[CLS]', 'ACG', 'AC', 'N', 'T', '[SEP]'], [0, 3, 5, 6, 7, 7])
    >>> tokens.decode(encoding.ids).tolist()
    [0, 1, 2, 0, 1, 4, 3]
    """

    first_word, shortest, n_covering = WORD_ID, 1, 1

    def __init__(self, words: Sequence[str], merges: Sequence[tuple[str, str]]):
        self.words, self.merges = tuple(words), tuple((left, right) for left, right in merges)
        _require_layout(self.words, self.merges)
        self.size, self.n_words = len(self.words), len(self.words) - WORD_ID
        self.lengths = np.array([0] * BASE_ID + [len(word) for word in self.words[BASE_ID:]], np.int64)
        self._rust = Tokenizer(self._model())
        self._rust.pre_tokenizer = pieces_of(STRETCH_BP)

    @classmethod
    def read(cls, path: str | Path) -> BpeTokens:
        """Read the vocabulary of a ``tokenizer.json``, or of the folder that holds one.

        Raises
        ------
        InputError
            If the file is missing, damaged, or another kind of tokenizer.
        """
        source = Path(path)
        source = source / TOKENIZER_FILE if source.is_dir() else source
        try:
            told = json.loads(source.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}. {_REMEDY}", source) from error
        except ValueError as error:
            raise InputError(f"damaged, not readable as JSON ({error}). {_REMEDY}", source) from error
        try:
            model = told["model"]
            if model["type"] != "BPE":
                raise ValueError(f"its model is {model['type']}, not BPE")
            ids: dict[str, int] = model["vocab"]
            if sorted(ids.values()) != list(range(len(ids))):
                raise ValueError("its ids are not 0, 1, 2 and so on")
            tokens = cls(sorted(ids, key=lambda word: ids[word]), [tuple(pair) for pair in model["merges"]])
            ours = json.loads(tokens.backend().to_str())
            for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "model"):
                if told.get(part) != ours[part]:
                    raise ValueError(f"its {part} is another")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"no {error}" if isinstance(error, KeyError) else error
            raise InputError(f"not a DNA vocabulary of umbel: {problem}. {_REMEDY}", source) from error
        return tokens

    @cached_property
    def sha256(self) -> str:
        """What identifies the vocabulary: the hash of its words with their ids, and of its merges."""
        return sha256_json({"vocabulary": dict(zip(self.words, range(self.size), strict=True)), "merges": self.merges})

    def backend(self) -> Tokenizer:
        """Make what ``tokenizer.json`` holds."""
        return assemble(self._model(), pieces_of(STRETCH_BP))

    def _model(self) -> models.BPE:
        vocabulary = {word: i for i, word in enumerate(self.words)}
        # Stretches of a genome hardly repeat: a cache of them costs memory and finds nothing.
        return models.BPE(vocabulary, list(self.merges), unk_token=SPECIAL_TOKENS[UNK_ID], cache_capacity=0)

    def encode(self, codes: np.ndarray) -> Encoding:
        """Turn base codes (A 0, C 1, G 2, T 3, N 4), ``(L,)``, into tokens.

        Raises
        ------
        ValueError
            If there are no bases.
        """
        if not len(codes):
            raise ValueError("a sequence of 0 bases has no tokens; give at least 1")
        ids = np.array(self._rust.encode(sequence.decode(codes), add_special_tokens=False).ids, np.int64)
        ends = np.cumsum(self.lengths[ids])
        return framed(ids, ends - self.lengths[ids], ends, len(codes))

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Turn tokens back into base codes, uint8 ``(L,)``; framing and padding stand for nothing.

        Raises
        ------
        ValueError
            At an id that stands for no known bases, such as ``[MASK]``.
        """
        require_bases(ids := np.asarray(ids), self.words)
        spelled = "".join(self.words[token] for token in ids.tolist() if token not in FRAMING)
        return sequence.encode(spelled.encode("ascii"))[0]


def _require_layout(words: tuple[str, ...], merges: tuple[tuple[str, str], ...]) -> None:
    """Refuse words and merges that are not a DNA vocabulary of ours."""
    if words[:WORD_ID] != FIXED:
        wrong = next((i for i, word in enumerate(words[:WORD_ID]) if word != FIXED[i]), len(words))
        found = repr(words[wrong]) if wrong < len(words) else "nothing"
        raise ValueError(f"id {wrong} is {found}, must be {FIXED[wrong]!r}")
    learnt = words[WORD_ID:]
    if not learnt:
        raise ValueError("it has no words of two bases or more")
    odd = next((word for word in learnt if len(word) < 2 or set(word) - set("ACGT")), None)
    if odd is not None:
        raise ValueError(f"{odd!r} is no word of two or more of A, C, G and T")
    made = {left + right for left, right in merges}
    known = {*learnt, *"ACGT"}
    if sorted(made) != sorted(learnt) or not {part for pair in merges for part in pair} <= known:
        raise ValueError("its merges do not make its words")
