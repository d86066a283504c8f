"""Labelled sequences as padded batches, and the steps of training on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.bpe import BpeTokens
from umbel.data.kmers import Encoding
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import IGNORED, Task
from umbel.data.tokenizers import Tokens
from umbel.data.vocabulary import PAD_ID
from umbel.errors import ConfigError, LabelError
from umbel.genome.sequence import Codes, revcomp

_ORDER, _STRAND = 1, 2


@dataclass(frozen=True)
class LabelledBatch:
    """Padded sequences and their targets: B sequences, T tokens, L bases.

    Attributes
    ----------
    indices
        int64 ``(B,)``: which examples they are.
    inputs
        ``input_ids`` and ``attention_mask``, int64 ``(B, T)``; where something is asked of every base or bin also
        ``token_of_base`` and ``offset`` int64 ``(B, L)``: the token that stands for a base, and which of the token's
        bases it is; -1 beyond the end.
    targets
        As :class:`~umbel.data.labelled.examples.Examples` has them, stacked; -100 or NaN beyond the end.
    """

    indices: npt.NDArray[np.int64]
    inputs: dict[str, npt.NDArray[np.int64]]
    targets: npt.NDArray[Any]

    @property
    def n_tokens(self) -> int:
        """Real tokens."""
        return int(self.inputs["attention_mask"].sum())


def require_places(task: Task, tokens: Tokens) -> None:
    """See that the tokens say of every base where it is, if the task asks for that.

    Raises
    ------
    ConfigError
        If they are learnt words.
    """
    if task.is_along_sequence and isinstance(tokens, BpeTokens):
        raise ConfigError(
            f"a task of {task.kind} needs tokens with a fixed number of bases, and this model's are learnt words "
            "(BPE): take a model of single nucleotides or k-mers"
        )


def require_tokens(examples: Examples, tokens: Tokens) -> None:
    """See that every sequence has at least one token.

    Raises
    ------
    LabelError
        Naming the first row that has not.
    """
    for i, codes in enumerate(examples.codes):
        if len(codes) < tokens.shortest:
            raise LabelError(
                f"a sequence of {len(codes)} bases, and this model's tokens have {tokens.shortest}: leave it out",
                examples.source,
                int(examples.rows[i]),
            )


def turned_round(task: Task, targets: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give one example's targets for the reverse complement of its sequence.

    Bins are counted from the start, so a short last bin would come first; such a sequence has no reverse.

    Examples
    --------
    >>> turned_round(Task("bases", ("a", "b")), np.array([0, 0, 1])).tolist()
    [1, 0, 0]
    """
    return targets[::-1] if task.is_along_sequence else targets


def can_turn(task: Task, n_bases: int) -> bool:
    """Tell whether a sequence of so many bases has targets on its reverse complement: whole bins, or none."""
    return task.kind != "bins" or n_bases % task.bin_bp == 0


def make_batch(
    task: Task, tokens: Tokens, codes: Sequence[Codes], targets: Sequence[npt.NDArray[Any]], indices: Sequence[int]
) -> LabelledBatch:
    """Pad sequences on the right to the longest of them; ``targets`` are one entry a sequence."""
    return LabelledBatch(np.array(indices, np.int64), make_inputs(task, tokens, codes), _stack(task, targets))


def make_inputs(
    task: Task, tokens: Tokens, codes: Sequence[Codes], leads: Sequence[int] | None = None
) -> dict[str, npt.NDArray[np.int64]]:
    """Pad sequences on the right to the longest of them; see :attr:`LabelledBatch.inputs`.

    Parameters
    ----------
    leads
        Where something is asked of bases or bins: places before each sequence's first base that are no bases, so that
        bins are cut as if they were there.
    """
    encodings = [tokens.encode(sequence) for sequence in codes]
    width = max(len(encoding.ids) for encoding in encodings)
    inputs = {
        "input_ids": np.full((len(codes), width), PAD_ID, np.int64),
        "attention_mask": np.zeros((len(codes), width), np.int64),
    }
    for row, encoding in enumerate(encodings):
        inputs["input_ids"][row, : len(encoding.ids)] = encoding.ids
        inputs["attention_mask"][row, : len(encoding.ids)] = 1
    if task.is_along_sequence:
        inputs |= _places(encodings, codes, [0] * len(codes) if leads is None else leads)
    return inputs


def _places(
    encodings: Sequence[Encoding], codes: Sequence[Codes], leads: Sequence[int]
) -> dict[str, npt.NDArray[np.int64]]:
    longest = max(lead + len(sequence) for lead, sequence in zip(leads, codes, strict=True))
    token_of_base = np.full((len(codes), longest), -1, np.int64)
    offset = np.full((len(codes), longest), -1, np.int64)
    for row, (encoding, sequence, lead) in enumerate(zip(encodings, codes, leads, strict=True)):
        here = slice(lead, lead + len(sequence))
        token_of_base[row, here] = encoding.token_of_base(len(sequence))
        offset[row, here] = np.arange(len(sequence)) - encoding.starts[token_of_base[row, here]]
    return {"token_of_base": token_of_base, "offset": offset}


def _stack(task: Task, targets: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    if not task.is_along_sequence:
        return np.stack([np.asarray(target) for target in targets])
    longest = max(len(target) for target in targets)
    empty = np.full((longest,), IGNORED, np.int64) if task.kind == "bases" else None
    stacked = []
    for target in targets:
        whole = np.full((longest, task.n_outputs), np.nan, np.float32) if empty is None else empty.copy()
        whole[: len(target)] = target
        stacked.append(whole)
    return np.stack(stacked)


def within_budget(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Group neighbours of a list of lengths so that a group, padded to its longest, holds at most ``budget``.

    One that is longer than the budget goes alone.

    Examples
    --------
    >>> list(within_budget([5, 5, 2, 30, 1], 10))
    [[0, 1], [2], [3], [4]]
    """
    group: list[int] = []
    longest = 0
    for i, length in enumerate(lengths):
        if group and max(longest, length) * (len(group) + 1) > budget:
            yield group
            group, longest = [], 0
        group.append(i)
        longest = max(longest, length)
    if group:
        yield group


class TrainingExamples:
    """The steps of a fine-tuning run: which examples, in what order, on which strand.

    All of it is a function of (seed, epoch, example), so that a run goes on where it was.

    Parameters
    ----------
    batch_size
        Examples in a step; the last step of an epoch has what is left.
    micro_batch_tokens
        Padded tokens in a forward pass; it changes nothing but memory.
    revcomp_frac
        Chance that an example is shown as its reverse complement.

    Examples
    --------
    >>> from umbel.data.kmers import KmerTokens
    >>> task = Task("regression", ("y",))
    >>> codes = tuple(np.full(n, n % 4, np.uint8) for n in (3, 4, 5))
    >>> examples = Examples(task, ("a", "b", "c"), codes, np.zeros((3, 1), np.float32), "a.csv", np.arange(3))
    >>> settings = {"batch_size": 2, "micro_batch_tokens": 100, "revcomp_frac": 0, "seed": 0}
    >>> training = TrainingExamples(examples, KmerTokens(1), **settings)
    >>> training.steps_per_epoch, [len(batch.indices) for batch in training.step(1)]
    (2, [1])
    """

    def __init__(
        self,
        examples: Examples,
        tokens: Tokens,
        *,
        batch_size: int,
        micro_batch_tokens: int,
        revcomp_frac: float,
        seed: int,
    ):
        require_places(examples.task, tokens)
        require_tokens(examples, tokens)
        self.examples, self.tokens, self.seed = examples, tokens, seed
        self.batch_size, self.micro_batch_tokens, self.revcomp_frac = batch_size, micro_batch_tokens, revcomp_frac
        self.steps_per_epoch = -(-len(examples) // batch_size)
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Give the order of the examples in an epoch, from 0; every one comes once."""
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, _ORDER, epoch])
            self._order = epoch, rng.permutation(len(self.examples))
        return self._order[1]

    def step(self, step: int) -> list[LabelledBatch]:
        """Give the micro-batches of a step, counted from 0 over all epochs; the longest sequences come first."""
        epoch, place = divmod(step, self.steps_per_epoch)
        chosen = self.order(epoch)[place * self.batch_size : (place + 1) * self.batch_size]
        chosen = chosen[np.argsort([-len(self.examples.codes[i]) for i in chosen], kind="stable")]
        task = self.examples.task
        shown = []
        for i in chosen:
            codes, target = self.examples.codes[i], np.asarray(self.examples.targets[i])
            turn = np.random.default_rng([self.seed, _STRAND, epoch, int(i)]).random() < self.revcomp_frac
            if turn and can_turn(task, len(codes)):
                codes, target = revcomp(codes), turned_round(task, target)
            shown.append((codes, target))
        return [
            make_batch(
                task, self.tokens, [shown[j][0] for j in group], [shown[j][1] for j in group], chosen[group].tolist()
            )
            for group in within_budget([len(codes) for codes, _ in shown], self.micro_batch_tokens)
        ]
