"""What tuning is told to have cost."""

import numpy as np
import pytest

from umbel.config import ModelConfig
from umbel.data.kmers import KmerTokens
from umbel.data.labelled.examples import Examples
from umbel.data.labelled.task import Task
from umbel.model.flops import count_flops
from umbel.train.finetune.tune import training_flops


@pytest.mark.parametrize(("k", "n_tokens"), [(1, 32), (3, 12)])
def test_operations_are_passes_times_tokens_of_the_mean_length(k, n_tokens):
    codes = tuple(np.zeros(n, np.uint8) for n in (15, 30, 45))
    task = Task("regression", ("y",))
    examples = Examples(task, tuple("abc"), codes, np.zeros((3, 1), np.float32), "a.csv", np.arange(3))
    shape = ModelConfig(pattern="Ad", n_layers=2, d_model=16, n_heads=2, ffn_hidden=24)
    # [CLS] and [SEP] stand around 30 bases, or 10 words, on average.
    one = count_flops(shape, n_tokens).total
    assert training_flops(shape, examples, KmerTokens(k), 1_000, full=True) == 3 * one * 1_000
    assert training_flops(shape, examples, KmerTokens(k), 1_000, full=False) == 2 * one * 1_000
