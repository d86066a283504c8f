"""The closed forms of ``umbel.model.flops`` against torch's counter, and against loops that count what they do."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from umbel.config import ModelConfig
from umbel.model import bimamba, flops, hyena
from umbel.model.flops import count_flops
from umbel.model.hf import new_model
from umbel.ops.causal_conv import causal_conv
from umbel.ops.long_conv import long_conv
from umbel.ops.selective_scan import selective_scan
from umbel.train.recipes import hyenamoe_expressive, hyenamoe_fast, hyenamoe_standard, plantbimoe

SMALL = ModelConfig(
    n_layers=3, d_model=16, d_state=5, n_heads=4, ffn_hidden=24, n_experts=6, expert_hidden=10, vocab_size=20
)
CONFIGS = {
    "mamba": replace(SMALL, pattern="Md"),
    "mamba, untied": replace(SMALL, pattern="Md", tie_projections=False, dt_rank=3),
    "mamba, multiply": replace(SMALL, pattern="Md", fusion="multiply"),
    "mamba, gate": replace(SMALL, pattern="Md", fusion="gate"),
    "mamba, untied, concat": replace(SMALL, pattern="Md Me", fusion="concat", tie_projections=False),
    "mamba with experts": replace(SMALL, pattern="Md Me", top_k=1),
    "hyena": replace(SMALL, pattern="Hd"),
    "hyena, both ways, taps": replace(SMALL, pattern="Hd", hyena_bidirectional=True, hyena_taps=3),
    "attention": replace(SMALL, pattern="Ad"),
    "attention, own head": replace(SMALL, pattern="Ad", tie_head=False),
    "hybrid": replace(SMALL, pattern="Hd Ae", top_k=2, gating="normalised"),
    "hybrid, shared": replace(SMALL, pattern="Ae Hd", top_k=3, n_shared_experts=2, gating="bias"),
    "all": replace(SMALL, pattern="Me Ae Hd", top_k=2),
}


def without_products(z, *others, **more):
    """Stand in for ``long_conv``: its plain twins multiply matrices of their own making, not asked for here."""
    x2, x1, v = z.chunk(3, -1)
    return x2 * x1 * v, others[1].new_zeros(z.shape[0], *others[1].shape)


def scan_without_products(u, *others, **more):
    """Stand in for ``selective_scan``, one direction or both."""
    return (u.sum(0) if u.dim() == 4 else u), None


@pytest.mark.parametrize("name", CONFIGS)
def test_matrices_and_attention_are_what_torch_counts(name, monkeypatch):
    """In float64, which the numba kernels refuse, so that plain products of torch run; torch's counter does not know
    the fused attention of CPUs, so attention runs as its two products."""
    monkeypatch.setattr(hyena, "long_conv", without_products)
    monkeypatch.setattr(bimamba, "selective_scan", scan_without_products)
    config, (batch, length) = CONFIGS[name], (2, 37)
    model = new_model(config, 64, 0).double()
    ids = torch.randint(7, 12, (batch, length))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(input_ids=ids)
    found = count_flops(config, length)
    assert counter.get_total_flops() == batch * length * (found.matrices + found.attention)


class Counting(float):
    """A number that counts what is done with it."""

    done = 0

    def _new(self, value):
        Counting.done += 1
        return Counting(value)

    def __add__(self, other):
        return self._new(float(self) + float(other))

    def __sub__(self, other):
        return self._new(float(self) - float(other))

    def __mul__(self, other):
        return self._new(float(self) * float(other))


def numbers(tensor):
    """Nested lists of counting numbers."""
    return Counting(tensor) if tensor.dim() == 0 else [numbers(x) for x in tensor]


def modal_convolution(z, residues, poles, skip):
    """The recurrence over poles, one number at a time; e**lambda is known before the sequence comes."""
    x2, x1, v = (numbers(x) for x in z.chunk(3, -1))
    width, n_state, _ = residues.shape
    rates = torch.exp(torch.complex(poles[..., 0], poles[..., 1]))
    rate_re, rate_im, r, w = numbers(rates.real), numbers(rates.imag), numbers(residues), numbers(skip)
    y = []
    for d in range(width):
        state = [(Counting(0.0), Counting(0.0))] * n_state
        row = []
        for t in range(len(v)):
            u = x1[t][d] * v[t][d]
            total = w[d] * u
            for k in range(n_state):
                re, im = state[k]
                re, im = re * rate_re[d][k] - im * rate_im[d][k] + u, re * rate_im[d][k] + im * rate_re[d][k]
                state[k] = re, im
                total = total + (r[d][k][0] * re - r[d][k][1] * im)
            row.append(x2[t][d] * total)
        y.append(row)
    return torch.tensor(y, dtype=torch.float64).T


def test_the_recurrence_of_hyena_is_what_a_counting_loop_does():
    length, width, n_state = 6, 3, 4
    z, residues = torch.randn(1, length, 3 * width).double(), torch.randn(width, n_state, 2).double()
    poles = torch.stack([-torch.rand(width, n_state), torch.randn(width, n_state)], -1).double()
    skip = torch.randn(width).double()
    Counting.done = 0
    found = modal_convolution(z[0], residues, poles, skip)
    one_layer = replace(SMALL, pattern="Hd", n_layers=1, d_model=width, d_state=n_state)
    assert Counting.done == length * count_flops(one_layer, length).long_conv
    torch.testing.assert_close(found, long_conv(z, residues, poles, skip, backend="reference")[0][0])


def silu(x):
    return Counting(float(x) / (1 + math.exp(-float(x))))


def scan_with_its_convolution(x, z, weight, bias, dt, dt_bias, A, B, C, D):
    """Both directions, one number at a time, with ``x`` and ``z`` (L, I) and the rest as :func:`selective_scan`."""
    (length, width), taps, n_state = x.shape, weight.shape[2], A.shape[2]
    # Taps over what is not there are counted as well: edges are not worth a formula.
    padded = torch.cat([x.new_zeros(taps - 1, width), x, x.new_zeros(taps - 1, width)])
    padded, z, weight, bias, dt, dt_bias = (numbers(t) for t in (padded, z, weight, bias, dt, dt_bias))
    A, B, C, D = (numbers(t) for t in (A, B, C, D))
    outputs = []
    for s in (0, 1):
        y = [[None] * width for _ in range(length)]
        for i in range(width):
            state = [Counting(0.0)] * n_state
            for t in reversed(range(length)) if s else range(length):
                u = bias[s][i]
                for k in range(taps):
                    u = u + weight[s][i][k] * padded[t + 2 * (taps - 1) - k if s else t + k][i]
                u, step = silu(u), dt[s][t][i] + dt_bias[s][i]
                step = Counting(math.log1p(math.exp(step)))
                weighted, total = step * u, None
                for n in range(n_state):
                    decay = Counting(math.exp(step * A[s][i][n]))
                    state[n] = decay * state[n] + weighted * B[s][t][n]
                    seen = C[s][t][n] * state[n]
                    total = seen if total is None else total + seen
                y[t][i] = total + D[s][i] * u
        outputs.append(y)
    both = [[(outputs[0][t][i] + outputs[1][t][i]) * silu(z[t][i]) for i in range(width)] for t in range(length)]
    return torch.tensor(both, dtype=torch.float64)


def test_the_scan_is_what_a_counting_loop_does():
    length, width, n_state, taps = 5, 2, 3, 4
    x, z, *_ = torch.randn(2, length, width).double()
    weight, bias = torch.randn(2, width, taps).double(), torch.randn(2, width).double()
    dt, dt_bias, D = torch.randn(2, length, width).double(), torch.randn(2, width).double(), torch.randn(2, width)
    A, (B, C) = -torch.rand(2, width, n_state).double(), torch.randn(2, 2, length, n_state).double()
    D = D.double()
    Counting.done = 0
    found = scan_with_its_convolution(x, z, weight, bias, dt, dt_bias, A, B, C, D)
    one_layer = replace(SMALL, pattern="Md", n_layers=1, d_model=width, expand=1, d_state=n_state, d_conv=taps)
    assert Counting.done == length * count_flops(one_layer, length).scan
    u = causal_conv(x[None], weight, bias, backend="reference")
    wanted, _ = selective_scan(u, dt[:, None], A, B[:, None], C[:, None], D, dt_bias, z[None], backend="reference")
    torch.testing.assert_close(found, wanted[0])


def test_short_convolutions_and_a_second_filter_of_hyena_are_counted():
    one = replace(SMALL, pattern="Hd", n_layers=1)
    plain, taps, both = (
        count_flops(c, 8).long_conv for c in (one, replace(one, hyena_taps=3), replace(one, hyena_bidirectional=True))
    )
    # Three products and two sums on each of three streams.
    assert taps - plain == one.d_model * 3 * 5
    assert both == 2 * plain + one.d_model


def naive_fourier(values):
    """The radix-2 transform of Cooley and Tukey, on complex numbers made of counting ones."""
    size = len(values)
    if size == 1:
        return values
    even, odd = naive_fourier(values[::2]), naive_fourier(values[1::2])
    found = [None] * size
    for k in range(size // 2):
        c, s = math.cos(2 * math.pi * k / size), -math.sin(2 * math.pi * k / size)
        re, im = odd[k]
        turned = re * c - im * s, im * c + re * s
        found[k] = even[k][0] + turned[0], even[k][1] + turned[1]
        found[k + size // 2] = even[k][0] - turned[0], even[k][1] - turned[1]
    return found


def test_five_n_log_n_is_what_a_radix_2_transform_does():
    """torch's counter knows no transforms; the formula's convention is the textbook algorithm's count."""
    size = 32
    x = torch.randn(size).double()
    Counting.done = 0
    found = naive_fourier([(number, Counting(0.0)) for number in numbers(x)])
    assert Counting.done == 5 * size * math.log2(size)
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), torch.view_as_real(torch.fft.fft(x)))
    # Two real transforms of twice the length cost one complex one.
    assert flops.fft_convolution(size // 2) == (5 * size * 5 + 6 * (size // 2 + 1)) / (size // 2)


@pytest.mark.parametrize("recipe", [hyenamoe_fast, hyenamoe_standard, hyenamoe_expressive, plantbimoe])
def test_growth_in_length_is_closed(recipe):
    config = recipe().model
    near, far = (count_flops(config, length) for length in (1_000, 64_000))
    n_attention = sum(kind[0] == "A" for kind in config.layer_kinds)
    n_hyena = sum(kind[0] == "H" for kind in config.layer_kinds)
    # Per token linear, so over a sequence quadratic, in attention alone.
    assert far.total - near.total == 63_000 * 4 * config.d_model * n_attention
    assert (far.matrices, far.long_conv, far.scan) == (near.matrices, near.long_conv, near.scan)
    # 64 times as long: log2 64 more rounds of butterflies in two transforms of 2 L at 2.5 each.
    rounds = n_hyena * config.d_model * 2 * 2.5 * 2 * 6
    assert far.long_conv_fft - near.long_conv_fft == pytest.approx(rounds, rel=1e-3)
    assert far.total_fft - far.long_conv_fft == far.total - far.long_conv


def test_doubling_the_layers_doubles_all_but_the_head():
    config = replace(SMALL, pattern="Me Ae Hd", n_layers=3)
    one, two = count_flops(config, 100), count_flops(replace(config, n_layers=6), 100)
    head = 2 * config.d_model * config.vocab_size
    assert two.total - head == 2 * (one.total - head)
    assert two.long_conv_fft == 2 * one.long_conv_fft


def test_experts_that_are_not_chosen_cost_their_key_alone():
    few = replace(SMALL, pattern="Ae", n_layers=1, n_experts=4)
    many = replace(few, n_experts=64)
    assert count_flops(many, 10).total - count_flops(few, 10).total == 60 * 2 * SMALL.d_model
