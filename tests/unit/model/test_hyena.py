import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from umbel.config import ModelConfig
from umbel.model import hyena
from umbel.model.hyena import HyenaLite, LongFilter

CONFIG = ModelConfig(pattern="Hd", n_layers=2, d_model=6, d_state=3, ffn_hidden=8)
VARIANTS = {
    "published": {},
    "taps": {"hyena_taps": 3},
    "bidirectional": {"hyena_bidirectional": True},
    "both": {"hyena_taps": 4, "hyena_bidirectional": True},
}


def impulse_response(part, length):
    """h_d(t) = Re sum_k r exp(lambda t), in numpy's complex numbers, one d and t at a time."""
    poles = -np.exp(part.log_decay.detach().double().numpy()) + 1j * part.frequency.detach().double().numpy()
    pairs = part.residues.detach().double().numpy()
    residues = pairs[..., 0] + 1j * pairs[..., 1]
    return np.array(
        [[(r * np.exp(p * t)).sum().real for t in range(length)] for r, p in zip(residues, poles, strict=True)]
    )


def by_definition(mixer, x):
    """One sequence (L, D) through eq. 2-4, in plain loops over time."""
    w = {name: p.detach().double().numpy() for name, p in mixer.named_parameters()}
    z = x.double().numpy() @ w["in_proj.weight"].T
    length, width = x.shape
    if mixer.taps:
        z = np.array(
            [
                sum(
                    w["conv_weight"][k] * z[t - (mixer.taps - 1 - k)]
                    for k in range(mixer.taps)
                    if t >= mixer.taps - 1 - k
                )
                for t in range(length)
            ]
        )
    x2, x1, v = np.split(z, 3, axis=1)
    u = x1 * v
    h = impulse_response(mixer.along, length)
    back = None if mixer.against is None else impulse_response(mixer.against, length)
    y = np.zeros_like(u)
    for t in range(length):
        for d in range(width):
            total = w["skip"][d] * u[t, d] + sum(h[d, t - s] * u[s, d] for s in range(t + 1))
            if back is not None:
                total += sum(back[d, s - t] * u[s, d] for s in range(t, length))
            y[t, d] = x2[t, d] * total
    return y @ w["out_proj.weight"].T


@pytest.mark.parametrize("variant", VARIANTS)
def test_agrees_with_the_definition(variant):
    mixer, x = HyenaLite(replace(CONFIG, **VARIANTS[variant])), torch.randn(2, 11, 6)
    with torch.no_grad():
        mixer.skip.uniform_(-1, 1)
    wanted = np.stack([by_definition(mixer, row) for row in x])
    np.testing.assert_allclose(mixer(x).detach(), wanted, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(mixer(x), wanted, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_looks_ahead_only_where_it_is_told_to(variant):
    mixer, x = HyenaLite(replace(CONFIG, **VARIANTS[variant])), torch.randn(1, 9, 6)
    later = x.clone()
    later[:, 6:] += 1
    changed = (mixer(later) - mixer(x)).detach().abs().amax(-1)[0]
    looks_ahead = bool((changed[:6] > 1e-5).any())  # a Fourier transform rounds everywhere
    assert looks_ahead == (variant in ("bidirectional", "both"))
    assert (changed[6:] > 1e-4).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_padding_enters_no_filter(variant):
    mixer, x = HyenaLite(replace(CONFIG, **VARIANTS[variant])), torch.randn(1, 7, 6)
    rubbish = torch.full((1, 3, 6), torch.nan)
    padded = torch.cat([rubbish, x, rubbish], 1)
    y = mixer(padded, torch.tensor([[3, 10]]))
    torch.testing.assert_close(y[:, 3:10], mixer(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("taps", [0, 1, 3])
@pytest.mark.parametrize("cuts", [[], [1], [4], [1, 2, 3], [5, 8]])
def test_going_on_gives_what_one_pass_gives(taps, cuts):
    mixer, x = HyenaLite(replace(CONFIG, hyena_taps=taps)), torch.randn(2, 9, 6)
    state, parts = None, []
    for first, last in zip([0, *cuts], [*cuts, 9], strict=True):
        y, state = mixer.go_on(x[:, first:last], state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), mixer(x), atol=1e-6, rtol=1e-5)


def test_one_that_looks_ahead_does_not_go_on():
    with pytest.raises(ValueError, match="looks ahead"):
        HyenaLite(replace(CONFIG, hyena_bidirectional=True)).go_on(torch.randn(1, 3, 6), None)


def test_a_new_filter_decays_within_its_memory_and_keeps_the_scale():
    torch.manual_seed(0)
    part = LongFilter(400, 16)
    poles = part.poles().detach()
    assert (poles[..., 0] < 0).all()
    memory = -1 / poles[..., 0]
    assert memory.min() >= 1 - 1e-5 and memory.max() <= hyena.LONGEST_MEMORY * (1 + 1e-5)
    assert poles[..., 1].max() <= math.pi + 1e-6
    with torch.no_grad():
        response = hyena.filter_of(part.residues, part.poles(), 8192)
    power = response.square().sum(1)  # of the output, for white input of power 1
    assert 0.3 < float(power.median()) < 3


def always_fft(monkeypatch):
    monkeypatch.setattr(hyena.backends, "choose", lambda *args: "fft")


def count_filters(monkeypatch):
    made, original = [], hyena.filter_of
    monkeypatch.setattr(hyena, "filter_of", lambda *args: made.append(args[2]) or original(*args))
    return made


def test_the_filter_is_kept_between_calls_without_gradients(monkeypatch):
    always_fft(monkeypatch)
    made = count_filters(monkeypatch)
    mixer, x = HyenaLite(CONFIG), torch.randn(1, 9, 6)
    with torch.no_grad():
        first = mixer(x)
        assert torch.equal(mixer(x), first)
        mixer(x[:, :4])  # a shorter one is part of it
    assert made == [9]
    with torch.inference_mode():
        mixer(torch.randn(1, 12, 6))
    assert made == [9, 12]


@pytest.mark.parametrize("change", ["optimiser", "load", "in place", "new memory"])
def test_a_changed_weight_drops_the_filter(monkeypatch, change):
    always_fft(monkeypatch)
    mixer, x = HyenaLite(CONFIG), torch.randn(1, 9, 6)
    optimiser = torch.optim.SGD(mixer.parameters(), lr=1.0)
    mixer(x).sum().backward()
    with torch.no_grad():
        mixer(x)
    part = mixer.along
    if change == "optimiser":
        optimiser.step()
    elif change == "load":
        mixer.load_state_dict(HyenaLite(CONFIG).state_dict())
    elif change == "in place":
        with torch.no_grad():
            part.residues.mul_(-2)
    else:
        part.residues.data = torch.randn_like(part.residues)
    with torch.no_grad():
        np.testing.assert_allclose(mixer(x)[0], by_definition(mixer, x[0]), atol=1e-5)


def test_gradients_drop_the_filter_and_reach_every_weight(monkeypatch):
    always_fft(monkeypatch)
    mixer, x = HyenaLite(replace(CONFIG, hyena_taps=3, hyena_bidirectional=True)), torch.randn(1, 9, 6)
    with torch.no_grad():
        mixer(x)
    assert mixer.along._kept is not None
    mixer(x).square().sum().backward()
    assert mixer.along._kept is None
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in mixer.parameters())


def test_a_copy_keeps_no_filter_and_a_checkpoint_holds_none(monkeypatch):
    always_fft(monkeypatch)
    mixer, x = HyenaLite(CONFIG), torch.randn(1, 9, 6)
    with torch.no_grad():
        mixer(x)
    assert copy.deepcopy(mixer).along._kept is None
    assert set(mixer.along.state_dict()) == {"log_decay", "frequency", "residues"}
