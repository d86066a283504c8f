"""Batches of a corpus for a training step: which windows, on which strand, corrupted how, in which rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from umbel.config import MaskingConfig
from umbel.data.corpus.store import Corpus
from umbel.data.masking import IGNORED, Example, epoch_order, is_reversed
from umbel.data.objectives import make_example
from umbel.data.rows import PackedRows
from umbel.data.vocabulary import PAD_ID
from umbel.errors import CorpusError
from umbel.genome.sequence import revcomp
from umbel.progress import Reporter

if TYPE_CHECKING:
    from umbel.data.tokenizers import Tokens


@dataclass(frozen=True)
class Batch:
    """Rows padded on the right to one length, ``(B, L)`` each; see :class:`~umbel.data.masking.Example`.

    Attributes
    ----------
    segment_ids
        int64: which sequence of its row a token belongs to, 0, 1, 2, ...; padding counts as one more. None
        where every row is one sequence.
    placement
        int64, see :func:`umbel.data.placement.cut_spans`; None where no row has cut spans.
    n_unplaced
        Windows that had no room for the spans that were to be cut out.
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    segment_ids: np.ndarray | None = None
    placement: np.ndarray | None = None
    n_unplaced: int = 0


def collate(examples: Sequence[Example]) -> Batch:
    """Pad examples, one a row, on the right to the longest of them.

    Examples
    --------
    >>> one, two = Example(*np.ones((3, 4))), Example(*np.ones((3, 2)))
    >>> collate([one, two]).attention_mask.tolist()
    [[1, 1, 1, 1], [1, 1, 0, 0]]
    """
    return collate_rows([[example] for example in examples])


def collate_rows(rows: Sequence[Sequence[Example]], row_tokens: int = 0) -> Batch:
    """Lay each row's sequences end to end, and pad on the right.

    Parameters
    ----------
    rows
        The sequences of each row, at least one.
    row_tokens
        Length of a row; 0 takes that of the longest.

    Examples
    --------
    >>> one, two = Example(*np.ones((3, 3))), Example(*np.ones((3, 2)))
    >>> collate_rows([[one, two], [two]], row_tokens=6).segment_ids.tolist()
    [[0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 1]]
    """
    lengths = [[len(example.input_ids) for example in row] for row in rows]
    shape = len(rows), row_tokens or max(map(sum, lengths))
    batch = Batch(
        np.full(shape, PAD_ID),
        np.zeros(shape, np.int64),
        np.full(shape, IGNORED),
        np.zeros(shape, np.float32),
        None if all(len(row) == 1 for row in rows) else np.zeros(shape, np.int64),
        None if all(example.placement is None for row in rows for example in row) else np.zeros(shape, np.int64),
        sum(example.is_unplaced for row in rows for example in row),
    )
    for i, row in enumerate(rows):
        place = 0
        for segment, example in enumerate(row):
            end = place + lengths[i][segment]
            batch.input_ids[i, place:end] = example.input_ids
            batch.labels[i, place:end] = example.labels
            batch.weights[i, place:end] = example.weights
            if batch.placement is not None and example.placement is not None:
                batch.placement[i, place:end] = example.placement
            if batch.segment_ids is not None:
                # What follows is counted on until the next sequence writes over it; padding keeps its own number.
                batch.segment_ids[i, place:end] = segment
                batch.segment_ids[i, end:] = segment + 1
            place = end
        batch.attention_mask[i, :place] = 1
    return batch


_epoch_order = lru_cache(maxsize=2)(epoch_order)


class TrainingBatches:
    """The batches of a run; batch ``step`` is a pure function of corpus, settings, seed and step.

    Every window is seen once an epoch, in an order drawn for that epoch.

    Parameters
    ----------
    corpus
        Where the windows of role ``train`` come from.
    batch_windows
        Rows per step.
    tokens
        How bases become tokens.
    row_tokens
        Pack windows into rows of this many tokens (see :mod:`umbel.data.rows`); 0 gives each a row of its own.
    reporter
        Told while the tokens of windows are counted for packing.

    Attributes
    ----------
    packed
        The packed rows, or None.

    Raises
    ------
    CorpusError
        If no window has the role ``train``.
    """

    def __init__(
        self,
        corpus: Corpus,
        masking: MaskingConfig,
        batch_windows: int,
        seed: int,
        tokens: Tokens,
        row_tokens: int = 0,
        reporter: Reporter | None = None,
    ):
        self._corpus, self._masking, self._tokens = corpus, masking, tokens
        self._window_ids = corpus.window_ids("train")
        if not len(self._window_ids):
            raise CorpusError(
                f"{corpus.path}: no train windows, so there is nothing to train on. Give some contigs the role train "
                "in the manifest and build the corpus again."
            )
        self._batch_windows, self._seed, self._row_tokens = batch_windows, seed, row_tokens
        self.packed = PackedRows(corpus, masking, seed, tokens, row_tokens, reporter) if row_tokens else None

    def rows(self, step: int) -> list[list[Example]]:
        """Make the rows of one step, steps counting from 0: the sequences in each."""
        numbers = range(step * self._batch_windows, (step + 1) * self._batch_windows)
        if self.packed is not None:
            return [self.packed.row(number) for number in numbers]
        return [[self._example(step, sample)] for sample in range(self._batch_windows)]

    def _example(self, step: int, sample: int) -> Example:
        count = len(self._window_ids)
        epoch, place = divmod(step * self._batch_windows + sample, count)
        window_id = self._window_ids[_epoch_order(count, self._seed, epoch)[place]]
        codes, soft_mask = self._corpus.read_window(int(window_id))
        if is_reversed(self._masking, self._seed, step, sample):
            codes, soft_mask = revcomp(codes), soft_mask[::-1]
        return make_example(codes, soft_mask, self._masking, self._seed, step, sample, self._tokens)

    def micro_batches(self, step: int, micro_batch_windows: int) -> list[Batch]:
        """Cut one step's rows into padded micro-batches."""
        rows = self.rows(step)
        starts = range(0, len(rows), micro_batch_windows)
        return [collate_rows(rows[start : start + micro_batch_windows], self._row_tokens) for start in starts]

    def stream(self, first_step: int, last_step: int, micro_batch_windows: int) -> Iterator[list[Batch]]:
        """Give the steps from ``first_step`` up to ``last_step`` (exclusive), one step prepared ahead."""
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.micro_batches, first_step, micro_batch_windows)
            for step in range(first_step, last_step):
                batches = coming.result()
                if step + 1 < last_step:
                    coming = ahead.submit(self.micro_batches, step + 1, micro_batch_windows)
                yield batches
