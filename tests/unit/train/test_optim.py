import math

import pytest
import torch
from toys import toy_run

from umbel.config import OptimConfig
from umbel.model.hf import new_model
from umbel.train.optim import learning_rate, make_optimizer


def test_only_matrices_decay():
    model = new_model(toy_run().model, 256, 0)
    optimizer = make_optimizer(model, OptimConfig(weight_decay=0.3))
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    in_free = {names[id(p)] for p in free["params"]}
    in_decayed = {names[id(p)] for p in decayed["params"]}
    assert in_free | in_decayed == set(names.values())
    for name in in_free:
        assert any(part in name for part in ("A_log", ".D", "norm", "bias", "conv_weight", "embedding"))
    assert all(name.endswith(("weight", "gate", "up", "down")) for name in in_decayed)
    assert not any("norm" in name or "A_log" in name or "embedding" in name for name in in_decayed)


def test_a_step_without_gradient_signal_shrinks_only_what_decays():
    model = new_model(toy_run().model, 256, 0)
    optimizer = make_optimizer(model, OptimConfig(weight_decay=0.5, lr=0.1))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    direction = "backbone.layers.0.mixer.along"
    after = dict(model.named_parameters())
    assert torch.equal(after[f"{direction}.A_log"], before[f"{direction}.A_log"])
    torch.testing.assert_close(after[f"{direction}.x_proj.weight"], before[f"{direction}.x_proj.weight"] * 0.95)


def test_schedule_by_formula():
    config = OptimConfig(lr=2.0, warmup_steps=4, final_lr_frac=0.1)
    rates = [learning_rate(config, step, 24) for step in range(24)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    for step in range(4, 24):
        cosine = (1 + math.cos(math.pi * (step - 4) / 20)) / 2
        assert rates[step] == pytest.approx(2.0 * (0.1 + 0.9 * cosine))
    assert learning_rate(config, 24, 24) == pytest.approx(0.2)


def test_no_warm_up_and_a_run_shorter_than_its_warm_up():
    assert learning_rate(OptimConfig(lr=1.0, warmup_steps=0), 0, 10) == 1.0
    assert learning_rate(OptimConfig(lr=1.0, warmup_steps=100), 9, 10) == pytest.approx(0.1)
