import math
from dataclasses import replace
from itertools import pairwise

import pytest
from toys import toy_run

from umbel.config import OptimConfig
from umbel.errors import ConfigError
from umbel.train.pretrain import pretrain
from umbel.train.recipes import RECIPES
from umbel.train.schedule import decay_steps, learning_rate, require_schedule


def test_cosine_by_formula():
    config = OptimConfig(lr=2.0, warmup_steps=4, final_lr_frac=0.1)
    rates = [learning_rate(config, step, 24) for step in range(24)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    for step in range(4, 24):
        cosine = (1 + math.cos(math.pi * (step - 4) / 20)) / 2
        assert rates[step] == pytest.approx(2.0 * (0.1 + 0.9 * cosine))
    assert learning_rate(config, 24, 24) == pytest.approx(0.2)


def test_no_warm_up():
    assert learning_rate(OptimConfig(lr=1.0, warmup_steps=0), 0, 10) == 1.0
    assert learning_rate(OptimConfig(lr=1.0, warmup_steps=0, schedule="wsd"), 0, 10) == 1.0


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_warm_up_stable_decay_by_formula(final):
    config = OptimConfig(lr=2.0, warmup_steps=4, schedule="wsd", decay_frac=0.5, final_lr_frac=final)
    rates = [learning_rate(config, step, 32) for step in range(33)]
    assert decay_steps(config, 32) == 16
    for step, rate in enumerate(rates):
        if step < 4:
            wanted = 2.0 * (step + 1) / 4
        elif step <= 16:
            wanted = 2.0
        else:
            wanted = 2.0 * (final + (1 - final) * (1 - ((step - 16) / 16) ** 0.5))
        assert rate == pytest.approx(wanted, abs=1e-15)
    assert rates[32] == 2.0 * final


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
def test_a_rate_rises_and_then_never_does(schedule):
    config = OptimConfig(lr=1.0, warmup_steps=7, schedule=schedule, decay_frac=0.3, final_lr_frac=0.05)
    rates = [learning_rate(config, step, 101) for step in range(150)]
    assert all(a < b for a, b in pairwise(rates[:7]))
    assert all(a >= b for a, b in pairwise(rates[6:]))
    assert all(a > b for a, b in pairwise(rates[80:101]))
    assert rates[101:] == pytest.approx([0.05] * 49)


def test_without_a_fall_the_rate_stays():
    config = OptimConfig(lr=1.0, warmup_steps=2, schedule="wsd", decay_frac=0.0)
    assert [learning_rate(config, step, 9) for step in range(2, 9)] == [1.0] * 7


def test_a_warm_up_longer_than_the_run_is_refused(toy_corpus, tmp_path):
    config = OptimConfig(warmup_steps=1_001)
    with pytest.raises(ConfigError, match=r"warmup_steps is 1,001 and train\.steps 1,000: .* Lower .* to 100 or so"):
        require_schedule(config, 1_000)
    require_schedule(config, 1_001)
    run = toy_run(steps=5)
    with pytest.raises(ConfigError, match="the run would end before it is warm"):
        pretrain(replace(run, optim=replace(run.optim, warmup_steps=6)), toy_corpus.path, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_warm_up_that_meets_the_fall_is_refused():
    config = OptimConfig(warmup_steps=60, schedule="wsd", decay_frac=0.5)
    with pytest.raises(ConfigError, match=r"is 60 and the last 50 of 100 steps \(optim\.decay_frac 0\.5\) are for the"):
        require_schedule(config, 100)
    require_schedule(config, 120)
    require_schedule(replace(config, schedule="cosine"), 100)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_room_for_its_schedule(name):
    run = RECIPES[name]()
    require_schedule(run.optim, run.train.steps)
