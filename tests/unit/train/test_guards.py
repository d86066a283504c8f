import json
import math

import numpy as np
import pytest

from umbel.config import HealthConfig
from umbel.errors import RunError
from umbel.model.routing import expert_load
from umbel.train.guards import BadSteps, Collapse
from umbel.train.health import LayerHealth

SIX = HealthConfig(spike_sigmas=6.0, spike_window_steps=100, max_bad_steps=10)


def judged(guard, losses, first=1):
    return {step for step, loss in enumerate(losses, first) if guard.judge(step, float(loss), 1.0)}


@pytest.mark.parametrize(
    ("loss", "norm", "reason"),
    [
        (math.nan, 1.0, "the loss is nan"),
        (-math.inf, 1.0, "the loss is -inf"),
        (1.0, math.inf, "the gradient norm is inf"),
        (1.0, math.nan, "the gradient norm is nan"),
        (1.0, 1e30, None),
    ],
)
def test_what_is_not_finite_is_bad_even_without_a_window(loss, norm, reason):
    assert BadSteps(HealthConfig()).judge(0, loss, norm) == reason


def test_planted_spikes_are_found_and_nothing_else_in_ten_thousand_steps():
    """The chance of any false alarm in 10,000 steps of normal noise at 6 sigmas is about 0.4 %."""
    rng = np.random.default_rng(5)
    noise = 1.3 + 0.02 * rng.standard_normal(10_000)
    assert judged(BadSteps(SIX), noise) == set()
    planted = {60, 61, 500, 2_000, 2_001, 2_002, 9_999}
    losses = noise.copy()
    losses[[step - 1 for step in planted]] += 0.02 * 11
    guard = BadSteps(SIX)
    assert judged(guard, losses) == planted
    assert guard.n_bad == len(planted)


def test_the_height_is_that_of_median_and_mad():
    rng = np.random.default_rng(0)
    losses = rng.normal(2.0, 0.1, 130)
    guard = BadSteps(HealthConfig(spike_sigmas=3.0, spike_window_steps=100, max_bad_steps=99))
    kept = [loss for step, loss in enumerate(losses) if guard.judge(step, loss, 1.0) is None][-100:]
    middle = sorted(kept)
    median = (middle[49] + middle[50]) / 2
    apart = sorted(abs(loss - median) for loss in kept)
    height = (2.9 - median) / (1.4826 * (apart[49] + apart[50]) / 2)
    wanted = f"the loss 2.9 is {height:.3g} robust standard deviations above the median {median:.4g} of the last 100"
    assert guard.judge(131, 2.9, 1.0).startswith(wanted)


def test_fewer_than_half_a_window_is_not_judged():
    guard = BadSteps(SIX)
    assert judged(guard, [1.0, 1.1] * 24 + [1.0, 50.0]) == set()
    assert judged(guard, [50.0], first=51) == {51}


def test_falls_drifts_and_rounding_are_no_spikes():
    rng = np.random.default_rng(1)
    noise = 0.01 * rng.standard_normal(3_000)
    assert judged(BadSteps(SIX), 4 * np.exp(-np.arange(3_000) / 300) + 1.3 + noise) == set()
    assert judged(BadSteps(SIX), 1.3 + np.arange(3_000) * 1e-3 + noise) == set()
    assert judged(BadSteps(SIX), 1.3 + np.arange(3_000) * 1e-3) == set()
    flat = np.full(500, 1.3, np.float32) + np.float32(1e-7) * np.arange(500, dtype=np.float32)
    assert judged(BadSteps(SIX), flat) == set()
    assert judged(BadSteps(SIX), [0.0] * 200 + [1e-6]) == set()
    assert judged(BadSteps(SIX), [1.3] * 200 + [1.3 * 1.007]) == {201}


def test_no_sigmas_call_nothing_a_jump():
    assert judged(BadSteps(HealthConfig()), [1.0] * 200 + [1e9]) == set()


def test_the_run_is_given_up_after_so_many_bad_steps_in_a_row():
    guard = BadSteps(HealthConfig(max_bad_steps=3))
    for start in (0, 10):
        assert guard.judge(start, math.nan, 1.0) and guard.judge(start + 1, math.nan, 1.0)
        assert guard.judge(start + 2, 1.0, 1.0) is None
    assert guard.judge(20, 1.0, math.inf) and guard.judge(21, math.nan, 1.0)
    with pytest.raises(RunError, match=r"step 22: 3 bad steps with none taken between.*at the last, the loss is nan"):
        guard.judge(22, math.nan, 1.0)
    assert guard.n_bad == 7
    with pytest.raises(RunError, match=r"step 0: a bad step with none taken.*Lower optim\.lr or raise optim\.warmup"):
        BadSteps(HealthConfig(max_bad_steps=1)).judge(0, math.nan, 1.0)


def test_a_rollback_that_meets_the_same_bad_step_again_ends():
    """Good steps before the bad one, taken again after each rollback, are no progress; one at its place is."""
    guard = BadSteps(HealthConfig(max_bad_steps=4))
    kept = guard.state()
    for _ in range(3):
        assert judged(guard, [1.0] * 4 + [math.nan]) == {5}
        guard.rewind(kept)
    with pytest.raises(RunError, match="4 bad steps with none taken between"):
        judged(guard, [1.0] * 4 + [math.nan])
    guard = BadSteps(HealthConfig(max_bad_steps=4))
    for _ in range(20):
        assert judged(guard, [1.0] * 4 + [math.nan]) == {5}
        guard.rewind(kept)
        assert judged(guard, [1.0] * 5) == set()
        assert guard.n_in_row == 0
    assert guard.n_bad == 20


def test_a_rollback_takes_the_losses_back():
    guard = BadSteps(SIX)
    noise = 0.02 * np.random.default_rng(3).standard_normal(160)
    judged(guard, 1.3 + noise[:60])
    kept = guard.state()
    assert judged(guard, 1.3 + 0.003 * np.arange(100) + noise[60:], first=61) == set()
    assert guard.judge(161, 1.65, 1.0) is None
    guard.rewind(kept)
    assert "of the last 60 good steps" in guard.judge(61, 1.65, 1.0)


@pytest.mark.parametrize("stop_at", [1, 37, 300, 301, 302, 777])
def test_resuming_in_the_middle_decides_the_same(stop_at):
    rng = np.random.default_rng(2)
    losses = 1.3 + 0.02 * rng.standard_normal(1_000)
    losses[[299, 300, 301, 302, 800]] = (math.nan, 3.0, math.nan, 3.0, 2.0)
    config = HealthConfig(spike_sigmas=4.0, spike_window_steps=50, max_bad_steps=5)
    whole, before, after = BadSteps(config), BadSteps(config), BadSteps(config)
    wanted = [whole.judge(step, loss, 1.0) for step, loss in enumerate(losses)]
    found = [before.judge(step, loss, 1.0) for step, loss in enumerate(losses[:stop_at])]
    after.load(json.loads(json.dumps(before.state())))
    found += [after.judge(step, loss, 1.0) for step, loss in enumerate(losses[stop_at:], stop_at)]
    assert found == wanted and sum(reason is not None for reason in found) >= 5
    assert after.state() == whole.state()


def layer(counts, index=1):
    summary = expert_load(np.array(counts))
    return LayerHealth(**vars(summary), layer=index, routing_entropy=0.5, probability=[], n_tokens=sum(counts))


def test_a_layer_that_sends_everything_to_one_expert_is_named():
    guard = Collapse(HealthConfig(collapse_steps=5), 1, 4)
    for step in range(1, 100):
        guard.look(step, [layer([400, 50, 30, 20], 1), layer([500, 0, 0, 0] if step % 5 else [499, 1, 0, 0], 3)])
    for step in range(100, 104):
        guard.look(step, [layer([1, 499, 0, 0], 1), layer([0, 0, 500, 0], 3)])
    wanted = (
        r"step 104: layer 3 has sent every token to expert 2 since step 100, and the other 3 got none\. .*"
        r"Set train\.balance_coef .*model\.gating=bias, set train\.z_coef .* lower optim\.lr, and start in a new folder"
    )
    with pytest.raises(RunError, match=wanted):
        guard.look(104, [layer([0, 500, 0, 0], 1), layer([0, 0, 500, 0], 3)])


def test_two_layers_and_two_experts_each_are_named():
    guard = Collapse(HealthConfig(collapse_steps=1), 2, 5)
    with pytest.raises(RunError) as told:
        guard.look(7, [layer([0, 300, 0, 0, 300], 1), layer([300, 300, 0, 0, 0], 5)])
    assert "layer 1 has sent every token to experts 1 and 4 since step 7, and the other 3 got none; layer 5" in str(
        told.value
    )


def test_experts_that_take_turns_have_not_collapsed():
    guard = Collapse(HealthConfig(collapse_steps=3), 1, 3)
    for step in range(50):
        guard.look(step, [layer(np.roll([600, 0, 0], step // 2).tolist())])


def test_steps_with_few_tokens_neither_count_nor_end_a_row():
    guard = Collapse(HealthConfig(collapse_steps=3), 1, 4)
    for step in range(50):
        guard.look(step, [layer([79, 0, 0, 0])])
    guard.look(50, [layer([80, 0, 0, 0])])
    guard.look(51, [layer([0, 1, 0, 0])])
    guard.look(52, [layer([80, 0, 0, 0])])
    with pytest.raises(RunError, match="since step 50"):
        guard.look(53, [layer([80, 0, 0, 0])])


@pytest.mark.parametrize(("steps", "top_k", "n_experts"), [(0, 1, 4), (1, 4, 4), (1, 1, 1)])
def test_where_it_means_nothing_it_is_never_called(steps, top_k, n_experts):
    guard = Collapse(HealthConfig(collapse_steps=steps), top_k, n_experts)
    for step in range(20):
        guard.look(step, [layer([1_000] + [0] * (n_experts - 1))])


def test_a_resumed_collapse_is_called_at_the_same_step():
    guard, config = Collapse(HealthConfig(collapse_steps=10), 1, 4), HealthConfig(collapse_steps=10)
    for step in range(4, 8):
        guard.look(step, [layer([200, 0, 0, 0])])
    after = Collapse(config, 1, 4)
    after.load(json.loads(json.dumps(guard.state())))
    for step in range(8, 13):
        after.look(step, [layer([200, 0, 0, 0])])
    assert after.state() == {"rows": [[1, [0], 4, 9]]}
    with pytest.raises(RunError, match=r"step 13: layer 1 .* since step 4"):
        after.look(13, [layer([200, 0, 0, 0])])
