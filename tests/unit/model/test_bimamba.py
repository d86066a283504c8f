"""The mixer against another project's Mamba, and the fusions against their formulas."""

import dataclasses

import pytest
import torch
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from umbel.config import ModelConfig
from umbel.model.bimamba import BiMamba, mix

CONFIG = ModelConfig(n_layers=2, d_model=12, d_state=5, ffn_hidden=8)


def their_mixer(mixer, direction, in_proj, out_proj):
    """Copy one of our directions into transformers' Mamba mixer."""
    config = MambaConfig(
        hidden_size=12, state_size=5, num_hidden_layers=1, conv_kernel=4, expand=2, time_step_rank=1, use_mambapy=False
    )
    theirs = MambaMixer(config, layer_idx=0)
    with torch.no_grad():
        theirs.in_proj.weight.copy_(in_proj.weight)
        theirs.out_proj.weight.copy_(out_proj.weight)
        theirs.conv1d.weight.copy_(direction.conv_weight[:, None])
        theirs.conv1d.bias.copy_(direction.conv_bias)
        theirs.x_proj.weight.copy_(direction.x_proj.weight)
        theirs.dt_proj.weight.copy_(direction.dt_proj.weight)
        theirs.dt_proj.bias.copy_(direction.dt_proj.bias)
        theirs.A_log.copy_(direction.A_log + 0.1)
        direction.A_log += 0.1
        theirs.D.copy_(direction.D)
    return theirs


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("fusion", ["add", "multiply", "gate", "concat"])
def test_agrees_with_transformers_mamba_in_each_direction(fusion, tied):
    mixer = BiMamba(dataclasses.replace(CONFIG, fusion=fusion, tie_projections=tied))
    back_in, back_out = (mixer.in_proj, mixer.out_proj) if tied else (mixer.in_proj_backward, mixer.out_proj_backward)
    along = their_mixer(mixer, mixer.along, mixer.in_proj, mixer.out_proj)
    against = their_mixer(mixer, mixer.against, back_in, back_out)
    x = torch.randn(2, 19, 12)
    with torch.no_grad():
        forward, backward = along(x), against(x.flip(1)).flip(1)
        if fusion == "add":
            wanted = forward + backward
        elif fusion == "multiply":
            wanted = forward * backward
        else:
            mixed = torch.cat([forward, backward], -1) @ mixer.fuse.weight.T
            gate = torch.sigmoid(mixed)
            wanted = mixed if fusion == "concat" else gate * forward + (1 - gate) * backward
        torch.testing.assert_close(mixer(x), wanted, atol=2e-6, rtol=1e-4)


def test_reversing_the_sequence_and_swapping_the_directions_reverses_the_output():
    mixer = BiMamba(CONFIG)
    swapped = BiMamba(CONFIG)
    swapped.load_state_dict(mixer.state_dict())
    swapped.along, swapped.against = swapped.against, swapped.along
    x = torch.randn(1, 15, 12)
    torch.testing.assert_close(swapped(x.flip(1)).flip(1), mixer(x))


def counted(monkeypatch, modules):
    """Count the rows that go through each of ``modules``."""
    rows = {name: 0 for name in modules}
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _, args, __, name=name: rows.__setitem__(name, rows[name] + args[0].shape[:-1].numel())
        )
    return rows


def test_tied_projections_are_computed_once_for_both_directions(monkeypatch):
    """in_proj acts on each base alone, so it commutes with reversal; out_proj is linear, so it commutes with +."""
    mixer = BiMamba(CONFIG)
    rows = counted(monkeypatch, {"in_proj": mixer.in_proj, "out_proj": mixer.out_proj})
    x = torch.randn(1, 21, 12)
    y = mixer(x)
    assert rows == {"in_proj": 21, "out_proj": 21}
    torch.testing.assert_close(mixer.in_proj(x.flip(1)).flip(1), mixer.in_proj(x))
    inner, z = mixer.in_proj(x).chunk(2, -1)
    along = mixer.out_proj(mix((mixer.along,), inner, z, None))
    against = mixer.out_proj(mix((mixer.against,), inner, z, None, reverse=True))
    torch.testing.assert_close(along + against, y)


def test_each_directions_projections_are_one_product_of_both(monkeypatch):
    """The two x_proj, and the two dt_proj, are one batched product each, of the same numbers."""
    mixer, products = BiMamba(CONFIG), []
    matmul = torch.matmul
    monkeypatch.setattr(torch, "matmul", lambda a, b: products.append((a, b)) or matmul(a, b))
    x, z = mixer.in_proj(torch.randn(2, 9, 12)).chunk(2, -1)
    mix((mixer.along, mixer.against), x, z, None)
    assert [tuple(b.shape) for _, b in products] == [(2, 24, 1 + 2 * 5), (2, 1, 24)]
    (u, _), (raw, _) = products
    for s, direction in enumerate((mixer.along, mixer.against)):
        projected = direction.x_proj(u[s])
        torch.testing.assert_close(matmul(u, products[0][1])[s], projected)
        torch.testing.assert_close(raw[s], projected[:, :1])


def test_initial_steps_are_log_uniform_between_a_thousandth_and_a_tenth():
    bias = BiMamba(dataclasses.replace(CONFIG, d_model=512)).along.dt_proj.bias
    steps = torch.nn.functional.softplus(bias.detach())
    assert float(steps.min()) >= 0.99e-3
    assert float(steps.max()) <= 1.01e-1
    assert float(steps.log().mean()) == pytest.approx(float(torch.tensor([1e-3, 1e-1]).log().mean()), abs=0.15)
