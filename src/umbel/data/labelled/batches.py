"""Padded batches of labelled examples: steps of training in an order that can be resumed, and prediction by length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umbel.data.kmers import Encoding
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.problems import row_list
from umbel.data.labelled.task import IGNORED
from umbel.data.masking import stream
from umbel.data.vocabulary import PAD_ID
from umbel.errors import ConfigError, LabelError
from umbel.genome.sequence import revcomp

if TYPE_CHECKING:
    from umbel.data.tokenizers import Tokens

Array = npt.NDArray[Any]

_ORDER, _STRANDS = 201, 202


@dataclass(frozen=True)
class LabelledBatch:
    """Examples padded on the right to one length, B of them.

    Attributes
    ----------
    input_ids, attention_mask
        int64 ``(B, T)``; the mask is 1 at tokens, ``[CLS]`` and ``[SEP]`` included.
    index
        int64 ``(B,)``: which example each row is.
    is_reversed
        bool ``(B,)``: shown as its reverse complement.
    n_bases
        int64 ``(B,)``.
    targets
        As :class:`~umbel.data.labelled.examples.Examples` has them, those of the examples in ``index``; along the
        sequence in one array, padded to the longest, int64 ``(B, L)`` with -100 or float32 ``(B, bins, outputs)`` with
        NaN, and turned round where the example is.
    token_of_base, offset
        int64 ``(B, L)`` for tasks along the sequence, else None: the token that stands for each base, and the place
        of the base in it; -1 where there is no base. Of overlapping words it is the last to begin.
    """

    input_ids: npt.NDArray[np.int64]
    attention_mask: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    is_reversed: npt.NDArray[np.bool_]
    n_bases: npt.NDArray[np.int64]
    targets: Array
    token_of_base: npt.NDArray[np.int64] | None = None
    offset: npt.NDArray[np.int64] | None = None


def make_batch(
    examples: Examples, tokens: Tokens, index: Sequence[int] | Array, is_reversed: Sequence[bool] | Array | None = None
) -> LabelledBatch:
    """Encode some examples and pad them.

    Parameters
    ----------
    index
        ``(B,)``: which examples, at least one.
    is_reversed
        ``(B,)``: which of them to show as reverse complements; None shows none.

    Raises
    ------
    ConfigError
        If bins are to be turned round, and the last bin of a sequence is shorter than the others.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> from umbel.data.labelled.task import Task
    >>> codes = (np.array([0, 1, 2], np.uint8), np.array([3], np.uint8))
    >>> targets = (np.array([0, 1, 1]), np.array([0]))
    >>> examples = Examples(Task("bases", ("x", "y")), ("a", "b"), codes, targets, "a.csv", np.arange(2))
    >>> batch = make_batch(examples, KmerTokens(1), [0, 1], [True, False])
    >>> batch.input_ids.tolist(), batch.targets.tolist()
    ([[0, 8, 9, 10, 1], [0, 10, 1, 4, 4]], [[1, 1, 0], [0, -100, -100]])
    >>> batch.token_of_base.tolist()
    [[1, 2, 3], [1, -1, -1]]
    """
    chosen = np.asarray(index, np.int64)
    turned = np.zeros(len(chosen), bool) if is_reversed is None else np.asarray(is_reversed, bool)
    encoded: list[Encoding] = []
    n_bases = np.array([len(examples.codes[i]) for i in chosen], np.int64)
    for i, is_turned in zip(chosen.tolist(), turned.tolist(), strict=True):
        codes = examples.codes[i]
        encoded.append(tokens.encode(revcomp(codes) if is_turned else codes))
    shape = len(chosen), max(len(one.ids) for one in encoded)
    input_ids, attention_mask = np.full(shape, PAD_ID, np.int64), np.zeros(shape, np.int64)
    for row, one in enumerate(encoded):
        input_ids[row, : len(one.ids)] = one.ids
        attention_mask[row, : len(one.ids)] = 1
    targets = _targets(examples, chosen, turned)
    if not examples.task.is_along_sequence:
        return LabelledBatch(input_ids, attention_mask, chosen, turned, n_bases, targets)
    token_of_base = np.full((len(chosen), int(n_bases.max())), -1, np.int64)
    offset = token_of_base.copy()
    for row, one in enumerate(encoded):
        n = int(n_bases[row])
        token_of_base[row, :n] = one.token_of_base(n)
        offset[row, :n] = np.arange(n) - one.starts[token_of_base[row, :n]]
    return LabelledBatch(input_ids, attention_mask, chosen, turned, n_bases, targets, token_of_base, offset)


def _targets(examples: Examples, index: npt.NDArray[np.int64], turned: npt.NDArray[np.bool_]) -> Array:
    task = examples.task
    if not isinstance(examples.targets, tuple):
        return np.asarray(examples.targets[index])
    own = [np.asarray(examples.targets[i]) for i in index]
    for row, i in enumerate(index.tolist()):
        if turned[row]:
            if task.kind == "bins" and len(examples.codes[i]) % task.bin_bp:
                raise ConfigError(
                    f"{examples.source}, row {examples.rows[i]}: bins of {task.bin_bp} bp cannot be turned round, "
                    f"because {len(examples.codes[i])} bp are no multiple. Crop to one, or set revcomp_frac=0"
                )
            own[row] = own[row][::-1]
    longest = max(map(len, own))
    fill = IGNORED if task.kind == "bases" else np.nan
    padded = np.full((len(own), longest, *own[0].shape[1:]), fill, own[0].dtype)
    for row, target in enumerate(own):
        padded[row, : len(target)] = target
    return padded


def require_tokens(examples: Examples, tokens: Tokens) -> None:
    """See that every sequence is long enough for a token.

    Raises
    ------
    LabelError
        With the rows of those that are not.
    """
    short = [int(row) for row, codes in zip(examples.rows, examples.codes, strict=True) if len(codes) < tokens.shortest]
    if short:
        raise LabelError(
            f"{row_list(short)}: sequences are shorter than a token of the model, {tokens.shortest} bp. Take them out.",
            examples.source,
            min(short),
        )


def _by_budget(lengths: npt.NDArray[np.int64], order: npt.NDArray[np.int64], budget: int) -> list[Array]:
    """Cut ``order``, lengths ascending, into parts of at most ``budget`` padded tokens, at least one example each."""
    cut: list[Array] = []
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * lengths[order[end]] > budget:
            cut.append(order[begin:end])
            begin = end
    return cut


def token_lengths(examples: Examples, tokens: Tokens) -> npt.NDArray[np.int64]:
    """Count the tokens of each example as it stands, ``[CLS]`` and ``[SEP]`` included: int64 ``(n,)``."""
    return np.array([len(tokens.encode(codes).ids) for codes in examples.codes], np.int64)


class FinetuneBatches:
    """Steps of training, each a pure function of (examples, settings, seed, epoch, step).

    An epoch shows every example once, in an order drawn from (seed, epoch). A step has exactly ``batch_size`` examples,
    the last of an epoch what is left. It is cut into micro-batches of like lengths, whose number and size change
    nothing but memory.

    Parameters
    ----------
    examples, tokens
        What is shown, and how bases become tokens.
    batch_size
        Examples of a step.
    micro_batch_tokens
        Padded tokens of a micro-batch, at most, if it has more than one example.
    revcomp_frac
        Share of examples shown as reverse complements, drawn for each (seed, epoch, example).
    seed
        Of order and strands.

    Attributes
    ----------
    n_steps
        Steps of an epoch.

    Raises
    ------
    LabelError
        If a sequence is shorter than a token.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> from umbel.data.labelled.task import Task
    >>> codes = tuple(np.zeros(n, np.uint8) for n in (4, 9, 5))
    >>> task = Task("binary", ("no", "yes"))
    >>> examples = Examples(task, ("a", "b", "c"), codes, np.array([0, 1, 1]), "a.csv", np.arange(3))
    >>> batches = FinetuneBatches(examples, KmerTokens(1), 3, 16, 0.0, seed=0)
    >>> batches.n_steps, [micro.input_ids.shape for micro in batches.step(0, 0)]
    (1, [(2, 7), (1, 11)])
    """

    def __init__(
        self,
        examples: Examples,
        tokens: Tokens,
        batch_size: int,
        micro_batch_tokens: int,
        revcomp_frac: float,
        seed: int,
    ):
        require_tokens(examples, tokens)
        self.examples, self.tokens = examples, tokens
        self._batch_size, self._budget = batch_size, micro_batch_tokens
        self._revcomp_frac, self._seed = revcomp_frac, seed
        self.n_steps = -(-len(examples) // batch_size)
        # Of the strand given: its reverse complement may have a token more or fewer, which only cuts differently.
        self._lengths = token_lengths(examples, tokens)

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Draw the order of the examples in an epoch: a permutation, int64 ``(n,)``."""
        return stream(self._seed, _ORDER, epoch, 0).permutation(len(self.examples))

    def reversed_in(self, epoch: int) -> npt.NDArray[np.bool_]:
        """Draw which examples an epoch shows as reverse complements, ``(n,)``."""
        return stream(self._seed, _STRANDS, epoch, 0).random(len(self.examples)) < self._revcomp_frac

    def step(self, epoch: int, step: int) -> list[LabelledBatch]:
        """Make the micro-batches of one step of an epoch, both counted from 0.

        Raises
        ------
        ValueError
            If an epoch has no such step.
        """
        if not 0 <= step < self.n_steps:
            raise ValueError(f"step {step} is none of 0 to {self.n_steps - 1}")
        chosen = self.order(epoch)[step * self._batch_size : (step + 1) * self._batch_size]
        turned = self.reversed_in(epoch)
        chosen = chosen[np.argsort(self._lengths[chosen], kind="stable")]
        return [
            make_batch(self.examples, self.tokens, part, turned[part])
            for part in _by_budget(self._lengths, chosen, self._budget)
        ]

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[list[LabelledBatch]]:
        """Give the steps of an epoch, from ``first_step`` on."""
        for step in range(first_step, self.n_steps):
            yield self.step(epoch, step)


def prediction_batches(
    examples: Examples, tokens: Tokens, max_tokens: int, *, is_reversed: bool = False
) -> Iterator[LabelledBatch]:
    """Give every example once, like lengths together; ``batch.index`` says where outputs belong.

    Parameters
    ----------
    max_tokens
        Padded tokens of a batch, at most, if it has more than one example.
    is_reversed
        Show all as reverse complements; targets along the sequence are then turned round, too.

    Raises
    ------
    LabelError
        If a sequence is shorter than a token.
    ConfigError
        If bins would be turned round whose last one is short.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> from umbel.data.labelled.task import Task
    >>> codes = tuple(np.zeros(n, np.uint8) for n in (4, 9, 5))
    >>> task = Task("binary", ("no", "yes"))
    >>> examples = Examples(task, ("a", "b", "c"), codes, np.array([0, 1, 1]), "a.csv", np.arange(3))
    >>> [batch.index.tolist() for batch in prediction_batches(examples, KmerTokens(1), 16)]
    [[0, 2], [1]]
    """
    require_tokens(examples, tokens)
    lengths = token_lengths(examples, tokens)
    for part in _by_budget(lengths, np.argsort(lengths, kind="stable"), max_tokens):
        yield make_batch(examples, tokens, part, np.full(len(part), is_reversed))
