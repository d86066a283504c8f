"""What a run is validated on: the same windows, hidden the same way, at every evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from umbel.config import RunConfig
from umbel.data.batches import Batch, collate
from umbel.data.corpus.store import Corpus
from umbel.data.kmers import Encoding
from umbel.data.masking import Example, anchor_frac, hidden_positions, hide
from umbel.data.objectives import make_example
from umbel.data.tokenizers import Tokens


def validation_batches(corpus: Corpus, run: RunConfig, tokens: Tokens) -> list[Batch]:
    """Take up to ``eval_windows`` evenly spaced windows of role ``valid``, masked the same way every time.

    About ``mask_frac`` of the tokens are hidden, as in training. Evaluation (:mod:`umbel.evaluate`) hides bases
    instead, the same ones for every vocabulary.
    """
    examples = []
    for window_id in _validation_windows(corpus, run):
        codes, _ = corpus.read_window(int(window_id))
        encoding = tokens.encode(codes)
        examples.append(hide(encoding, _hidden_bases(codes, encoding, run, int(window_id), tokens)))
    return _cut(examples, run)


def placement_batches(corpus: Corpus, run: RunConfig, tokens: Tokens) -> list[Batch]:
    """Take the windows of :func:`validation_batches` with spans cut out, the same ones every time.

    None where the run does not place spans; windows without room for them are left out.
    """
    if not run.masking.placement_weight:
        return []
    alone = replace(run.masking, uniform_weight=0.0, span_weight=0.0, placement_weight=1.0)
    examples = []
    for window_id in _validation_windows(corpus, run):
        codes, soft_mask = corpus.read_window(int(window_id))
        examples.append(make_example(codes, soft_mask, alone, run.train.seed, 0, int(window_id), tokens))
    return _cut([example for example in examples if not example.is_unplaced], run)


def _validation_windows(corpus: Corpus, run: RunConfig) -> np.ndarray:
    ids = corpus.window_ids("valid")
    if len(ids) <= run.train.eval_windows:
        return ids
    return ids[np.linspace(0, len(ids) - 1, run.train.eval_windows).astype(int)]


def _cut(examples: Sequence[Example], run: RunConfig) -> list[Batch]:
    size = run.train.micro_batch_windows
    return [collate(examples[start : start + size]) for start in range(0, len(examples), size)]


def _hidden_bases(codes: np.ndarray, encoding: Encoding, run: RunConfig, window_id: int, tokens: Tokens) -> np.ndarray:
    """Choose bases, ``(L,)`` bool, whose tokens are ``mask_frac`` of all."""
    frac, seed = run.masking.mask_frac, run.train.seed
    if tokens.n_covering > 1:
        return hidden_positions(codes, seed, window_id, anchor_frac(frac, tokens))
    begins = np.zeros(len(codes), bool)
    begins[encoding.starts[1:-1]] = True
    return begins & hidden_positions(codes, seed, window_id, frac)
