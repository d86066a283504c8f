"""Batches of a corpus for a training step: which windows, on which strand, corrupted how, in which rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from umbel.config import RunConfig
from umbel.data.balance import balance_text, cap_chances
from umbel.data.corpus.store import Corpus, Window
from umbel.data.draws import SpeciesDraws
from umbel.data.masking import IGNORED, Example, is_reversed
from umbel.data.objectives import make_example
from umbel.data.rows import PackedRows
from umbel.data.train_windows import choose_windows
from umbel.data.vocabulary import PAD_ID
from umbel.errors import ConfigError
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


class TrainingBatches:
    """The batches of a run; batch ``step`` is a pure function of corpus, settings and step.

    Species are drawn by ``run.balance``; each shows its windows (or packed rows) in an order drawn for each of its
    epochs, every one once. With one species this is the corpus in epochs.

    Parameters
    ----------
    corpus
        Where the windows of role ``train`` come from.
    run
        Its balance, masking, rows of tokens, batch size, number of steps and seed are read.
    tokens
        How bases become tokens.
    reporter
        Told while the tokens of windows are counted for packing.

    Attributes
    ----------
    windows
        What is trained on, by species.
    packed
        The packed rows, or None.
    chances
        ``(S,)`` chance of each species of the corpus, caps included.
    draws
        Which species each sample of a step shows.

    Raises
    ------
    CorpusError
        If no window has the role ``train``.
    ConfigError
        If the species cannot keep what ``run.balance`` promises.
    """

    def __init__(self, corpus: Corpus, run: RunConfig, tokens: Tokens, reporter: Reporter | None = None):
        self._corpus, self._run, self._tokens = corpus, run, tokens
        row_tokens, train, balance = run.tokens.row_tokens, run.train, run.balance
        self.windows = choose_windows(corpus, balance, train.seed)
        self.packed = (
            PackedRows(corpus, self.windows, run.masking, tokens, row_tokens, reporter) if row_tokens else None
        )
        self.chances = cap_chances(
            self.windows.chances, self.epoch_sizes, balance.max_epochs, train.steps, train.batch_windows
        )
        families = [species.family for species in corpus.species]
        self.draws = SpeciesDraws(self.chances, train.batch_windows, train.seed, balance.min_species, families)

    @cached_property
    def epoch_sizes(self) -> np.ndarray:
        """Windows, or rows of the first epoch, of each species, ``(S,)`` int64."""
        if self.packed is None:
            return self.windows.n_windows
        return np.array([self.packed.n_rows(species, 0) for species in range(len(self.windows.species))], np.int64)

    def rows(self, step: int, rank: int = 0, world_size: int = 1) -> list[list[Example]]:
        """Make the rows of one step, steps counting from 0, or one process' share of them: the sequences in each."""
        draws = self.draws.rank_samples(step, rank, world_size)
        rows: list[list[Example]] = [[] for _ in draws.sample]
        # By species and number, because neighbouring rows share a window.
        for i in np.lexsort((draws.number, draws.species)).tolist():
            species, number = int(draws.species[i]), int(draws.number[i])
            if self.packed is not None:
                rows[i] = self.packed.row(species, number)
            else:
                rows[i] = [self._example(step, int(draws.sample[i]), self.windows.drawn(species, number))]
        return rows

    def _example(self, step: int, sample: int, window_id: int) -> Example:
        masking, seed = self._run.masking, self._run.train.seed
        codes, soft_mask = self._corpus.read_window(window_id)
        if is_reversed(masking, seed, step, sample):
            codes, soft_mask = revcomp(codes), soft_mask[::-1]
        return make_example(codes, soft_mask, masking, seed, step, sample, self._tokens)

    def shown(self, step: int, rank: int = 0, world_size: int = 1) -> list[tuple[Window, bool]]:
        """Tell which windows a step shows where each is a row of its own, and which as reverse complements.

        Raises
        ------
        ConfigError
            If windows are packed into rows.
        """
        if self.packed is not None:
            raise ConfigError(
                "a packed row holds parts of several windows: set tokens.row_tokens=0 to ask for one each"
            )
        draws = self.draws.rank_samples(step, rank, world_size)
        return [
            (
                self._corpus.window(self.windows.drawn(species, number)),
                is_reversed(self._run.masking, self._run.train.seed, step, sample),
            )
            for sample, species, number in zip(
                draws.sample.tolist(), draws.species.tolist(), draws.number.tolist(), strict=True
            )
        ]

    def told(self) -> list[str]:
        """Say in a few lines what is trained on, and how often."""
        windows, train = self.windows, self._run.train
        lines = [
            balance_text(
                [species.name for species in windows.species],
                self.chances,
                train.steps * train.batch_windows / np.maximum(self.epoch_sizes, 1),
                self.draws.least_species,
            )
        ]
        if self._run.balance.pool_bp:
            lines.append(
                f"pool: {windows.n_bases.sum():,} of {windows.n_bases_there.sum():,} bases, in "
                f"{len(windows.ids):,} windows"
            )
        if self.packed is not None:
            n_rows, width = int(self.epoch_sizes.sum()), self._run.tokens.row_tokens
            n_tokens = sum(self.packed.n_tokens(species, 0) for species in range(len(windows.species)))
            lines.append(
                f"packed into {n_rows:,} rows of {width:,} tokens an epoch, {n_tokens / (n_rows * width):.2%} of them "
                "filled"
            )
        return lines

    def micro_batches(self, step: int, micro_batch_windows: int) -> list[Batch]:
        """Cut one step's rows into padded micro-batches."""
        rows = self.rows(step)
        starts = range(0, len(rows), micro_batch_windows)
        width = self._run.tokens.row_tokens
        return [collate_rows(rows[start : start + micro_batch_windows], width) for start in starts]

    def stream(self, first_step: int, last_step: int, micro_batch_windows: int) -> Iterator[list[Batch]]:
        """Give the steps from ``first_step`` up to ``last_step`` (exclusive), one step prepared ahead."""
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.micro_batches, first_step, micro_batch_windows)
            for step in range(first_step, last_step):
                batches = coming.result()
                if step + 1 < last_step:
                    coming = ahead.submit(self.micro_batches, step + 1, micro_batch_windows)
                yield batches
