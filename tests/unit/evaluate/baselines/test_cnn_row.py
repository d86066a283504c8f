import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from baseline_examples import TASKS, drawn

from umbel.errors import RunError
from umbel.evaluate.baselines import cnn
from umbel.evaluate.baselines.cnn import Cnn
from umbel.evaluate.baselines.cnn_network import RealBatchNorm, new_network, pooled_max, pooled_mean
from umbel.genome.sequence import revcomp

torch.set_num_threads(1)


def padded(sequences, width):
    codes = torch.full((len(sequences), width), cnn.PADDING, dtype=torch.uint8)
    for row, sequence in enumerate(sequences):
        codes[row, : len(sequence)] = torch.from_numpy(sequence)
    return codes, codes != cnn.PADDING


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing(kind, training):
    sequences = drawn(kind, 6).codes
    network = new_network(TASKS[kind], 8).train(training)
    found = []
    for width in (70, 71, 123):
        state = {name: value.clone() for name, value in network.state_dict().items()}
        found.append(network(*padded(sequences, width)))
        network.load_state_dict(state)
    for other in found[1:]:
        if TASKS[kind].is_along_sequence:
            bin_bp = TASKS[kind].bin_bp
            for a, b, sequence in zip(found[0], other, sequences, strict=True):
                rows = -(-len(sequence) // bin_bp)
                torch.testing.assert_close(a[:rows], b[:rows], atol=1e-5, rtol=1e-4)
        else:
            torch.testing.assert_close(found[0], other, atol=1e-5, rtol=1e-4)


def test_pools_are_plain_loops():
    x, lengths = torch.randn(3, 2, 10), (10, 7, 3)
    mask = torch.stack([torch.arange(10) < n for n in lengths])[:, None].float()
    largest, left = pooled_max(x, mask, 4)
    mean = pooled_mean(x, mask, 4)
    for row, n in enumerate(lengths):
        for group in range(3):
            inside = x[row, :, group * 4 : min(n, group * 4 + 4)]
            assert left[row, 0, group] == (inside.shape[1] > 0)
            expected = inside.amax(1) if inside.shape[1] else torch.zeros(2)
            torch.testing.assert_close(largest[row, :, group], expected)
            torch.testing.assert_close(mean[row, :, group], inside.mean(1) if inside.shape[1] else torch.zeros(2))


def test_batch_norm_is_torchs_where_nothing_is_padded():
    ours, theirs = RealBatchNorm(5), torch.nn.BatchNorm1d(5)
    x = torch.randn(4, 5, 9) * 3 + 1
    torch.testing.assert_close(ours(x, torch.ones(4, 1, 9)), theirs(x))
    torch.testing.assert_close(ours.mean, theirs.running_mean)


def test_both_strands_count_the_same_unless_the_task_has_them():
    train, dev, test = drawn("binary", 60), drawn("binary", 20, 1), drawn("binary", 20, 2)
    flipped = type(test)(
        test.task, test.ids, tuple(revcomp(codes) for codes in test.codes), test.targets, test.source, test.rows
    )
    both, one = (Cnn(width=8, epochs=2, stranded=stranded).fit(train, dev) for stranded in (False, True))
    np.testing.assert_allclose(both.scores(flipped), both.scores(test), atol=1e-5)
    assert np.abs(one.scores(flipped) - one.scores(test)).max() > 1e-4


def test_seeds_differ_and_leave_torchs_own_alone():
    train, dev, test = drawn("regression", 60), drawn("regression", 20, 1), drawn("regression", 20, 2)
    before = torch.random.get_rng_state()
    a, b = (Cnn(width=8, epochs=2).fit(train, dev, seed=seed).scores(test) for seed in (0, 1))
    assert np.abs(a - b).max() > 1e-4
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_best_epoch_is_kept_and_training_stops():
    train, dev = drawn("binary", 60), drawn("binary", 30, 1)
    facts = Cnn(width=8, epochs=30, patience=2, lr=0.05).fit(train, dev).facts
    history = facts["dev_of_epoch"]
    assert facts["chosen"]["dev"] == max(history) == history[facts["chosen"]["epoch"] - 1]
    assert len(history) < 30 and len(history) - facts["chosen"]["epoch"] == 2
    assert facts["n_bases_seen"] == len(history) * facts["n_train_bases"]


def test_the_budget_of_bases_is_kept():
    train, dev = drawn("binary", 60), drawn("binary", 30, 1)
    facts = Cnn(width=8, epochs=50, patience=50, budget_bp=5000).fit(train, dev).facts
    assert 5000 <= facts["n_bases_seen"] < 5000 + 32 * 70
    assert len(facts["dev_of_epoch"]) <= 10


def test_a_loss_that_is_not_finite_is_refused():
    train, dev = drawn("regression", 40), drawn("regression", 20, 1)
    train.targets[3, 0] = np.inf
    with pytest.raises(RunError, match=r"loss of the CNN baseline is (nan|inf) in epoch 1"), np.errstate(all="ignore"):
        Cnn(width=8, epochs=1).fit(train, dev)
