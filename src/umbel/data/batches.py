"""Batches of a corpus for a training step: which windows, on which strand, in which pieces and rows, corrupted how."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from umbel.config import RunConfig
from umbel.data.balance import balance_text, cap_chances
from umbel.data.corpus.store import Corpus, Window
from umbel.data.draws import SpeciesDraws
from umbel.data.lengths import pieces, shortest_piece_bp, stage_bp
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

_PIECE_BITS = 40


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

    In a stage of ``run.train.length_stages`` a window is cut into pieces, each a row of its own. Windows, strands and
    bases of a step are what they would be without stages.

    Parameters
    ----------
    corpus
        Where the windows of role ``train`` come from.
    run
        Its balance, masking, rows of tokens, batch size, length stages, number of steps and seed are read.
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
        If the species cannot keep what ``run.balance`` promises, or pieces of windows could be shorter than a token.
    """

    def __init__(self, corpus: Corpus, run: RunConfig, tokens: Tokens, reporter: Reporter | None = None):
        self._corpus, self._run, self._tokens = corpus, run, tokens
        row_tokens, train, balance = run.tokens.row_tokens, run.train, run.balance
        for stage in train.length_stages:
            if shortest_piece_bp(stage.window_bp) < tokens.shortest:
                raise ConfigError(
                    f"train.length_stages cuts windows into pieces of {stage.window_bp} bp, which may leave "
                    f"{shortest_piece_bp(stage.window_bp)}, and a token has {tokens.shortest} bases: make the stage at "
                    f"least {2 * tokens.shortest - 1} bp"
                )
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
        """Make the rows of one step, steps counting from 0, or one process' share of them: the sequences in each.

        In a stage of short lengths a sample has several rows, one after the other.
        """
        return list(chain.from_iterable(self._samples(step, rank, world_size)))

    def _samples(self, step: int, rank: int, world_size: int) -> list[list[list[Example]]]:
        """Make the rows of each sample of one process."""
        draws = self.draws.rank_samples(step, rank, world_size)
        samples: list[list[list[Example]]] = [[] for _ in draws.sample]
        # By species and number, because neighbouring rows share a window.
        for i in np.lexsort((draws.number, draws.species)).tolist():
            species, number = int(draws.species[i]), int(draws.number[i])
            if self.packed is not None:
                samples[i] = [self.packed.row(species, number)]
            else:
                window_id = self.windows.drawn(species, number)
                samples[i] = [[piece] for piece in self._pieces(step, int(draws.sample[i]), window_id)]
        return samples

    def _pieces(self, step: int, sample: int, window_id: int) -> list[Example]:
        """Make the examples of one window: one, or in a stage of short lengths one a piece."""
        masking, seed, stages = self._run.masking, self._run.train.seed, self._run.train.length_stages
        codes, soft_mask = self._corpus.read_window(window_id)
        if is_reversed(masking, seed, step, sample):
            codes, soft_mask = revcomp(codes), soft_mask[::-1]
        # A stream of random numbers is told by the sample and this: no two pieces share one, and the first has that of
        # a whole window.
        return [
            make_example(
                codes[start:end],
                soft_mask[start:end],
                masking,
                seed,
                step,
                sample + (piece << _PIECE_BITS),
                self._tokens,
            )
            for piece, (start, end) in enumerate(pieces(len(codes), stage_bp(stages, step, len(codes))))
        ]

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
        if train.length_stages:
            lines.append(f"lengths: {self._lengths_told()}")
        return lines

    def _lengths_told(self) -> str:
        """Say how long the pieces of windows are, and over which steps."""
        told, left = [], self._run.train.steps
        for stage in self._run.train.length_stages:
            told.append(f"pieces of {stage.window_bp:,} bp for {min(stage.steps, left):,} steps")
            left -= min(stage.steps, left)
        return ", then ".join([*told, f"whole windows for {left:,}"])

    def micro_batches(self, step: int, micro_batch_windows: int, rank: int = 0, world_size: int = 1) -> list[Batch]:
        """Cut one step's rows, or one process' share of them, into padded micro-batches.

        Each is the rows of ``micro_batch_windows`` samples: as many bases in every stage, in more rows while windows
        are cut, and as many micro-batches in every process, whatever the lengths of their windows.

        Raises
        ------
        ConfigError
            If the samples of a step cannot be shared out evenly.
        """
        n_samples = self._run.train.batch_windows
        if n_samples % world_size:
            raise ConfigError(
                f"train.batch_windows is {n_samples}, and {world_size} processes cannot have equal shares of it: make "
                f"it a multiple of {world_size}"
            )
        samples = self._samples(step, rank, world_size)
        starts = range(0, len(samples), micro_batch_windows)
        width = self._run.tokens.row_tokens
        return [
            collate_rows(list(chain.from_iterable(samples[start : start + micro_batch_windows])), width)
            for start in starts
        ]

    def stream(
        self, first_step: int, last_step: int, micro_batch_windows: int, rank: int = 0, world_size: int = 1
    ) -> Iterator[list[Batch]]:
        """Give the steps from ``first_step`` up to ``last_step`` (exclusive), one step prepared ahead.

        Steps are those of the data; see :meth:`micro_batches` for the rest.
        """
        share = micro_batch_windows, rank, world_size
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.micro_batches, first_step, *share)
            for step in range(first_step, last_step):
                batches = coming.result()
                if step + 1 < last_step:
                    coming = ahead.submit(self.micro_batches, step + 1, *share)
                yield batches
