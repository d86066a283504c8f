r"""Operations of a forward pass, counted from the settings of a network.

A multiply-add counts 2. Counted are products, sums and products of elements inside the operators that mix tokens.
Left out are norms, activations, exponentials, rotary turns, softmax, residual sums and the embedding: they grow with
the width alone, where everything else grows with its square, with the length or with the number of states.
``tests/unit/model/test_flops.py`` holds the counts against torch's counter and against counting loops.

Symbols: D width, I inner width of Mamba, N states of a scan, R rank of its steps, W taps, S poles, F hidden width,
E experts, K top-k, V vocabulary, L length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from umbel.config import ModelConfig


@dataclass(frozen=True)
class Flops:
    """Operations of a forward pass for one token of a sequence, by part.

    Attributes
    ----------
    matrices
        Linear layers: projections of the mixers, MLPs, routers, the chosen and the shared experts, the
        masked-language head. Independent of the length.
    attention
        Queries times keys, and weights times values: 4 L D a layer, because every token sees all L.
    long_conv
        HyenaLite as the recurrence over its poles, gates and short convolution included. Independent of the length.
    long_conv_fft
        The same by Fourier transforms, in place of ``long_conv``: grows with the logarithm of the length.
    scan
        The two scans of a bidirectional Mamba mixer with their short convolutions. Independent of the length.
    """

    matrices: int
    attention: int
    long_conv: int
    long_conv_fft: int
    scan: int

    @property
    def total(self) -> int:
        """All parts, HyenaLite as a recurrence."""
        return self.matrices + self.attention + self.long_conv + self.scan

    @property
    def total_fft(self) -> int:
        """All parts, HyenaLite by Fourier transforms."""
        return self.matrices + self.attention + self.long_conv_fft + self.scan


def count_flops(config: ModelConfig, length: int) -> Flops:
    """Count the operations of a forward pass for one token of a sequence of ``length`` tokens.

    Examples
    --------
    >>> one, two = (count_flops(ModelConfig(pattern="Ad", n_layers=1), length) for length in (1_000, 2_000))
    >>> one.attention, two.attention, two.matrices - one.matrices
    (2048000, 4096000, 0)
    """
    mixers = [kind[0] for kind in config.layer_kinds]
    ffns = [kind[1] for kind in config.layer_kinds]
    projections = {"M": mamba_projections(config), "H": 8 * config.d_model**2, "A": 8 * config.d_model**2}
    matrices = sum(projections[kind] for kind in mixers)
    matrices += ffns.count("d") * mlp(config.d_model, config.ffn_hidden) + ffns.count("e") * experts(config)
    n_hyena = mixers.count("H")
    return Flops(
        matrices=matrices + 2 * config.d_model * config.vocab_size,
        attention=mixers.count("A") * 4 * length * config.d_model,
        long_conv=n_hyena * hyena(config, recurrence(config.d_state)),
        long_conv_fft=n_hyena * hyena(config, fft_convolution(length)),
        scan=mixers.count("M") * mamba_scan(config),
    )


def mlp(width: int, hidden: int) -> int:
    """Count a SwiGLU MLP's three matrices, 6 D F."""
    return 6 * width * hidden


def experts(config: ModelConfig) -> int:
    """Count an expert layer: the router's E keys, 2 D E, and K routed and all shared experts of 6 D F each."""
    chosen = config.top_k + config.n_shared_experts
    return 2 * config.d_model * config.n_experts + chosen * mlp(config.d_model, config.expert_width)


def mamba_projections(config: ModelConfig) -> int:
    """Count the matrices around two scans.

    In (4 D I) and out (2 I D) run once where both directions share them, and the out-projection only where the
    directions are also added; each direction has its own 2 I (R + 2 N) and 2 R I. A learnt fusion adds 4 D D.
    """
    width, inner, rank = config.d_model, config.d_inner, config.dt_width
    n_in = 1 if config.tie_projections else 2
    n_out = 1 if config.tie_projections and config.fusion == "add" else 2
    own = 2 * inner * (rank + 2 * config.d_state) + 2 * rank * inner
    fusion = 4 * width**2 if config.fusion in ("gate", "concat") else 0
    return n_in * 4 * width * inner + n_out * 2 * inner * width + 2 * own + fusion


def mamba_scan(config: ModelConfig) -> int:
    r"""Count two scans: for each of I channels and each direction 2 W + 6 N + 3; their sum (1) and a gate (1).

    Convolution with its bias 2 W; the step's bias (1) and :math:`\Delta u` (1). Per state :math:`\Delta A` (1),
    :math:`e^{\Delta A} h + (\Delta u) B` (3) and :math:`C h` (1); their sum (N - 1) and the skip (2). Where the
    directions are not added before the gate there are two gates, and what fuses them is left out.
    """
    own = 2 * config.d_conv + 6 * config.d_state + 3
    return config.d_inner * 2 * (own + 1)


def hyena(config: ModelConfig, convolution: float) -> int:
    r"""Count HyenaLite's operator; ``convolution`` is what one filter costs for one channel and token.

    Per channel and filter the gate :math:`x_1 v` (1), skip (2) and the gate :math:`x_2` (1); two filters are added
    (1). Short convolutions of W taps on three streams: 3 (2 W - 1).
    """
    filters = 2 if config.hyena_bidirectional else 1
    short = 3 * (2 * config.hyena_taps - 1) if config.hyena_taps else 0
    return round(config.d_model * (filters * (convolution + 4) + filters - 1 + short))


def recurrence(n_poles: int) -> int:
    r"""Count one filter as a recurrence, for one channel and token: 11 S - 1.

    Per complex pole :math:`e^\lambda s + u` with a real u (7) and :math:`\mathrm{Re}\, r s` (3); their sum (S - 1).
    """
    return 11 * n_poles - 1


def fft_convolution(length: int) -> float:
    """Count one filter by Fourier transforms of size N = 2 L, for one channel and token.

    A transform of the input and one back, 2.5 N log2 N each, and N / 2 + 1 complex products of 6, over L tokens. The
    filter's own transform serves all rows of a batch and all passes, and is left out.

    References
    ----------
    Frigo and Johnson, benchFFT, https://www.fftw.org/speed/method.html: 5 N log2 N operations for a complex
    transform of size N, and half of that for a real one, whatever the algorithm.
    """
    size = 2 * length
    return (2 * 2.5 * size * math.log2(size) + 6 * (size // 2 + 1)) / length
