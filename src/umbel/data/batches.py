"""Batches of a corpus for a training step: which windows, on which strand, corrupted how."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from umbel.config import MaskingConfig
from umbel.data.masking import IGNORED, Example, corrupt, is_reversed
from umbel.data.store import Corpus
from umbel.data.vocabulary import PAD_ID
from umbel.genome.sequence import revcomp

_ORDER = 4


@dataclass(frozen=True)
class Batch:
    """Examples padded on the right to one length, ``(B, L)`` each; see :class:`~umbel.data.masking.Example`."""

    input_ids: np.ndarray
    attention_mask: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def collate(examples: list[Example]) -> Batch:
    """Pad examples on the right to the longest of them.

    Examples
    --------
    >>> one, two = Example(*np.ones((3, 4))), Example(*np.ones((3, 2)))
    >>> collate([one, two]).attention_mask.tolist()
    [[1, 1, 1, 1], [1, 1, 0, 0]]
    """
    shape = len(examples), max(len(example.input_ids) for example in examples)
    batch = Batch(
        np.full(shape, PAD_ID), np.zeros(shape, np.int64), np.full(shape, IGNORED), np.zeros(shape, np.float32)
    )
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        batch.input_ids[row, :length] = example.input_ids
        batch.attention_mask[row, :length] = 1
        batch.labels[row, :length] = example.labels
        batch.weights[row, :length] = example.weights
    return batch


@lru_cache(maxsize=2)
def _epoch_order(n_windows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, _ORDER], counter=[0, 0, 0, epoch])).permutation(n_windows)


class TrainingBatches:
    """The batches of a run; batch ``step`` is a pure function of corpus, settings, seed and step.

    Every window is seen once an epoch, in an order drawn for that epoch.

    Parameters
    ----------
    corpus
        Where the windows of role ``train`` come from.
    batch_windows
        Windows per step.
    """

    def __init__(self, corpus: Corpus, masking: MaskingConfig, batch_windows: int, seed: int):
        self._corpus, self._masking = corpus, masking
        self._window_ids = corpus.window_ids("train")
        self._batch_windows, self._seed = batch_windows, seed

    def examples(self, step: int) -> list[Example]:
        """Make the examples of one step, steps counting from 0."""
        count = len(self._window_ids)
        examples = []
        for sample in range(self._batch_windows):
            epoch, place = divmod(step * self._batch_windows + sample, count)
            window_id = self._window_ids[_epoch_order(count, self._seed, epoch)[place]]
            codes, soft_mask = self._corpus.read_window(int(window_id))
            if is_reversed(self._masking, self._seed, step, sample):
                codes, soft_mask = revcomp(codes), soft_mask[::-1]
            examples.append(corrupt(codes, soft_mask, self._masking, self._seed, step, sample))
        return examples

    def micro_batches(self, step: int, micro_batch_windows: int) -> list[Batch]:
        """Cut one step's examples into padded micro-batches."""
        examples = self.examples(step)
        starts = range(0, len(examples), micro_batch_windows)
        return [collate(examples[start : start + micro_batch_windows]) for start in starts]

    def stream(self, first_step: int, last_step: int, micro_batch_windows: int) -> Iterator[list[Batch]]:
        """Give the steps from ``first_step`` up to ``last_step`` (exclusive), one step prepared ahead."""
        with ThreadPoolExecutor(1) as ahead:
            coming = ahead.submit(self.micro_batches, first_step, micro_batch_windows)
            for step in range(first_step, last_step):
                batches = coming.result()
                if step + 1 < last_step:
                    coming = ahead.submit(self.micro_batches, step + 1, micro_batch_windows)
                yield batches
