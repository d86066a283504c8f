"""Every setting of a run, as frozen dataclasses that go to JSON and back without loss.

A recipe (``umbel.train.recipes``) is a function that returns one :class:`RunConfig`.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from umbel.errors import ConfigError

_STRICT = ConfigDict(extra="forbid")
T = TypeVar("T")

Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=_STRICT)
class ModelConfig:
    """Shape of a backbone; the defaults are the published PlantBiMoE (arXiv:2512.07113)."""

    pattern: str = "Md Me"
    """Layers, tiled over depth: mixer ``M`` (bidirectional Mamba), ``H`` (HyenaLite) or ``A`` (attention), then FFN
    ``d`` (dense) or ``e`` (experts)."""
    n_layers: Count = 16
    d_model: Count = 512
    expand: Count = 2
    """Inner width of a Mamba mixer, in multiples of ``d_model``."""
    d_state: Count = 16
    """State of a Mamba scan, and the number of complex poles of a HyenaLite filter."""
    d_conv: Count = 4
    """Taps of a Mamba mixer's short convolution."""
    dt_rank: Natural = 0
    """Rank of the step-size projection; 0 means ``ceil(d_model / 16)``."""
    hyena_taps: Natural = 0
    """Taps of a short convolution on HyenaLite's three streams; 0 leaves it out, as published."""
    hyena_bidirectional: bool = False
    """Give HyenaLite a second filter that looks ahead; the published one sees the past only."""
    n_heads: Count = 8
    """Heads of an attention mixer."""
    rope_base: Positive = 10_000.0
    """Base of the rotary frequencies."""
    max_tokens: Natural = 0
    """Longest sequence that attention takes in one pass, in tokens; 0 sets no bound."""
    ffn_hidden: Count = 1408
    expert_hidden: Natural = 0
    """Hidden width of one expert; 0 means ``ffn_hidden``."""
    n_experts: Count = 4
    """Routed experts."""
    n_shared_experts: Natural = 0
    """Experts that every token takes, as one MLP of ``n_shared_experts`` times the width of one."""
    top_k: Count = 1
    gating: Literal["softmax", "normalised", "plain", "bias"] = "softmax"
    """Weights of the chosen experts. ``softmax``: their softmax probabilities, not renormalised (PlantBiMoE, Switch).
    ``plain``: the sigmoids of their scores. ``normalised``: these divided by their sum (HyenaMoE, eq. 5-7).
    ``bias``: normalised, and a bias that follows the load joins in the choice (arXiv:2408.15664)."""
    fusion: Literal["add", "multiply", "gate", "concat"] = "add"
    """How the two directions of a Mamba mixer become one; ``add`` is published, ``gate`` and ``concat`` are ours."""
    tie_projections: bool = True
    """Share the in and out projections between the two directions."""
    residual_fp32: bool = False
    norm_eps: Positive = 1e-5
    vocab_size: Count = 12
    tie_head: bool = True
    """The masked-language head reuses the embedding matrix."""
    rescale: Literal["none", "out_proj", "all"] = "all"
    """Which residual-branch outputs start smaller: ``all`` divides the mixer's and the FFN's by
    sqrt(2 n_layers); ``out_proj`` divides the mixer's alone by sqrt(n_layers), as the released code does."""

    def __post_init__(self) -> None:
        if not self.layer_kinds:
            raise ValueError("pattern is empty: give pairs such as 'Md Me'")
        wrong = [pair for pair in self.pattern.split() if len(pair) != 2 or pair[0] not in "MHA" or pair[1] not in "de"]
        if wrong:
            raise ValueError(
                f"pattern has {', '.join(wrong)}: each layer is 'M', 'H' or 'A' followed by 'd' or 'e', as in 'Md Me'"
            )
        if self.top_k > self.n_experts:
            raise ValueError(f"top_k is {self.top_k} but there are only {self.n_experts} experts: lower model.top_k")

        if "A" in self.pattern and (self.d_model % self.n_heads or self.d_model // self.n_heads % 2):
            raise ValueError(
                f"d_model {self.d_model} must be n_heads ({self.n_heads}) times an even number, for rotary attention"
            )

    @property
    def layer_kinds(self) -> tuple[str, ...]:
        """The pattern tiled to ``n_layers`` entries such as ``("Md", "Me", "Md", ...)``."""
        pairs = self.pattern.split()
        return tuple(pairs[index % len(pairs)] for index in range(self.n_layers)) if pairs else ()

    @property
    def d_inner(self) -> int:
        """Width inside the mixer, I."""
        return self.expand * self.d_model

    @property
    def expert_width(self) -> int:
        """Hidden width of one expert, resolved."""
        return self.expert_hidden or self.ffn_hidden

    @property
    def dt_width(self) -> int:
        """Rank of the step-size projection, resolved."""
        return self.dt_rank or -(-self.d_model // 16)


@dataclass(frozen=True, config=_STRICT)
class TokensConfig:
    """How bases become tokens, and tokens rows of a batch."""

    kind: Literal["kmer", "bpe"] = "kmer"
    k: Annotated[int, Field(ge=1, le=6)] = 1
    """Bases in a k-mer; 1 is the published vocabulary of PlantBiMoE, 3 that of HyenaMoE."""
    overlapping: bool = False
    """A k-mer at every base, in place of k-mers side by side."""
    file: str = ""
    """Folder made by ``umbel tokenizer train``, or the ``tokenizer.json`` in it, for ``bpe``."""
    row_tokens: Natural = 0
    """Pack windows into training rows of exactly this many tokens; 0 gives every window a row of its own."""

    def __post_init__(self) -> None:
        if (self.kind == "bpe") != bool(self.file):
            raise ValueError("tokens.file names the vocabulary of kind 'bpe', and belongs to it alone")
        if 0 < self.row_tokens < 8:
            raise ValueError(f"row_tokens is {self.row_tokens}: rows of fewer than 8 tokens hold next to nothing")


@dataclass(frozen=True, config=_STRICT)
class RepeatsConfig:
    """How repeats are found where the manifest asks for an assembly's own k-mer counts (``repeat_mask = "kmer"``)."""

    k: Annotated[int, Field(ge=0, le=31)] = 0
    """Bases of a k-mer; 0 takes the least k at which a random genome of that size would repeat few: see
    :func:`umbel.data.corpus.masks.repeat_k`."""
    min_copies: Annotated[int, Field(ge=2, le=255)] = 3
    """A k-mer seen so often, on either strand, is a repeat; times the subgenomes that the manifest tells, because
    homeologs are copies too."""
    gap_bp: Natural = 50
    """Repeats nearer than this become one."""


@dataclass(frozen=True, config=_STRICT)
class DuplicatesConfig:
    """Which stretches count as copies of each other, from sketches of their k-mers."""

    ani: Fraction = 0.95
    """Average nucleotide identity from which on two stretches are copies; 0 looks for none. A share ``ani ** k`` of
    one's k-mers must be in the other."""
    k: Annotated[int, Field(ge=11, le=31)] = 21
    scaled: Count = 64
    """One in so many k-mers is kept in a sketch."""
    segment_bp: Annotated[int, Field(ge=256)] = 8_192
    """Contigs are compared in segments of this length; a copy is found at whatever offset."""
    max_copies: Annotated[int, Field(ge=2)] = 50
    """K-mers in more segments than this are not compared, or transposons would be compared all with all."""
    min_hashes: Annotated[int, Field(ge=4)] = 16
    """A segment with fewer k-mers left in its sketch is not judged, and counted."""
    scope: Literal["all", "species"] = "all"
    """Remove copies from training across species, or only those within one. Across roles they always go."""


@dataclass(frozen=True, config=_STRICT)
class SplitConfig:
    """Which contigs validate and test, where the manifest does not say it for an assembly."""

    valid_frac: Fraction = 0.0
    """Share of an assembly's bases, as whole contigs or homeologous groups, that validate."""
    test_frac: Fraction = 0.0
    seed: Natural = 0
    valid_species: tuple[str, ...] = ()
    """Species all of whose contigs validate, whatever the manifest says."""
    test_species: tuple[str, ...] = ()
    valid_families: tuple[str, ...] = ()
    test_families: tuple[str, ...] = ()
    drop_copies: bool = True
    """Leave out of training what has a copy in a held-out role, and out of validation what has one in the test."""

    def __post_init__(self) -> None:
        if self.valid_frac + self.test_frac >= 1:
            raise ValueError("split.valid_frac and split.test_frac must add up to less than 1")


@dataclass(frozen=True, config=_STRICT)
class CorpusConfig:
    """What of the assemblies is kept, and how it is cut into windows."""

    window_bp: Count = 32_768
    overlap_bp: Annotated[int, Field(ge=0, le=128)] = 128
    """Bases shared by neighbouring windows; PlantBiMoE's share 64 to 128, HyenaMoE's none."""
    max_n_frac: Fraction = 0.02
    """Windows with a larger share of N are dropped, and counted."""
    min_window_bp: Count = 64
    """The last, shorter window of a stretch is kept from this length on, else counted as lost."""
    split_n_bp: Natural = 100
    """Cut contigs at runs of at least so many N (gaps between contigs have 100 by custom), so that no window holds one;
    0 cuts nowhere, as published."""
    min_contig_bp: Natural = 0
    """Contigs below this length are left out."""
    min_n50_bp: Natural = 50_000
    """Assemblies with a lower contig N50 are left out, but for the best of its species."""
    screen_share: Fraction = 0.5
    """A contig with this share of its k-mers in a screen of the manifest (organelles, contaminants) is left out."""
    repeats: RepeatsConfig = dataclasses.field(default_factory=RepeatsConfig)
    duplicates: DuplicatesConfig = dataclasses.field(default_factory=DuplicatesConfig)
    split: SplitConfig = dataclasses.field(default_factory=SplitConfig)

    def __post_init__(self) -> None:
        if self.overlap_bp >= self.window_bp:
            raise ValueError(f"overlap_bp {self.overlap_bp} must be below window_bp {self.window_bp}")


@dataclass(frozen=True, config=_STRICT)
class BalanceConfig:
    """How often training sees each species; see ``umbel.data.balance``."""

    alpha: NonNegative = 1.0
    """Within a family a species is drawn with chance proportional to its bases to this power."""
    beta: NonNegative = 1.0
    """A family is drawn with chance proportional to its bases to this power."""
    max_epochs: NonNegative = 0.0
    """No species is seen more often than this; what it would have had goes to the others. 0 sets no bound."""
    min_species: Count = 1
    """Every optimiser step sees at least so many species; a run that cannot promise it does not start."""
    n_species: Natural = 0
    """Train on the so many species with the most bases; 0 takes all."""
    pool_bp: Natural = 0
    """Train on about so many different bases, shared among the species by their chances; 0 takes all."""


@dataclass(frozen=True, config=_STRICT)
class MaskingConfig:
    """Masked-language corruption and augmentation, drawn afresh for every (seed, step, sample)."""

    mask_frac: Fraction = 0.15
    """Chance that a real token (bases A, C, G, T only) is chosen to be predicted."""
    as_mask_frac: Fraction = 0.8
    """Share of the chosen that become ``[MASK]``."""
    as_random_frac: Fraction = 0.1
    """Share of the chosen that become a random base; the rest stay as they are."""
    revcomp_frac: Fraction = 0.3
    softmask_weight: NonNegative = 0.1
    """Loss weight of soft-masked (lower-case, repeat) bases; others weigh 1."""
    loss_on: Literal["masked", "real"] = "masked"
    """``masked`` is right; ``real`` also counts every visible base, as the released script does (defect D-4)."""
    uniform_weight: NonNegative = 1.0
    """A window gets one objective, drawn by these three weights: single tokens are hidden,"""
    span_weight: NonNegative = 0.0
    """runs of tokens are hidden,"""
    placement_weight: NonNegative = 0.0
    """or spans are cut out, shuffled, and to be put back."""
    span_mean_tokens: Annotated[float, Field(ge=1)] = 3.0
    """Mean of the geometric distribution that the lengths of hidden runs are drawn from, before it is truncated. With
    overlapping k-mers a run is one of bases, and hides every token that covers one of them."""
    span_max_tokens: Count = 10
    """Longer runs are never drawn, and their chance is shared among the others (SpanBERT's has 5 and 10)."""
    placement_spans: Annotated[int, Field(ge=2, le=64)] = 4
    """Spans cut out of a window."""
    placement_span_tokens: Count = 16
    """Tokens of a cut span. A window with too few real tokens for all spans asks for hidden tokens instead."""

    def __post_init__(self) -> None:
        if self.as_mask_frac + self.as_random_frac > 1:
            raise ValueError("as_mask_frac and as_random_frac must not add up to more than 1")
        if not self.uniform_weight + self.span_weight + self.placement_weight:
            raise ValueError("uniform_weight, span_weight and placement_weight are all 0: nothing would be asked")


@dataclass(frozen=True, config=_STRICT)
class OptimConfig:
    """AdamW with linear warm-up and cosine decay."""

    lr: Positive = 8e-3
    """Peak learning rate."""
    final_lr_frac: Fraction = 0.0
    """Learning rate at the last step, as a share of the peak."""
    warmup_steps: Natural = 1_000
    beta1: Fraction = 0.95
    beta2: Fraction = 0.9
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.1
    """Never applied to A_log, D, norms, biases and the embedding."""
    clip_norm: Positive = 1.0


@dataclass(frozen=True, config=_STRICT)
class TrainConfig:
    """Length, batches, checkpoints and auxiliary losses of a run."""

    steps: Count = 100_000
    batch_windows: Count = 256
    """Windows (or packed rows) per optimiser step, over all micro-batches."""
    micro_batch_windows: Count = 4
    """Windows per forward pass; gradients are accumulated up to ``batch_windows``."""
    eval_every_steps: Count = 1_000
    eval_windows: Count = 64
    """Validation windows per evaluation."""
    save_every_steps: Count = 500
    keep_states: Count = 2
    """How many training states to keep for resuming."""
    seed: Natural = 0
    balance_coef: NonNegative = 0.0
    """Weight of the Switch-style load-balance loss (0 as published)."""
    z_coef: NonNegative = 0.0
    """Weight of the router z-loss (0 as published)."""
    placement_coef: NonNegative = 1.0
    """Weight of the span-placement loss beside the masked loss."""
    bias_rate: NonNegative = 1e-3
    """Step by which an expert's selection bias follows its load, with ``model.gating=bias``."""
    autocast: Literal["auto", "bf16", "off"] = "auto"
    """``auto``: bf16 on a GPU that has it, fp32 elsewhere."""

    def __post_init__(self) -> None:
        if self.batch_windows % self.micro_batch_windows:
            raise ValueError("batch_windows must be a multiple of micro_batch_windows")


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """Everything that decides a pretraining run, apart from the corpus itself."""

    name: str
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    corpus: CorpusConfig = dataclasses.field(default_factory=CorpusConfig)
    tokens: TokensConfig = dataclasses.field(default_factory=TokensConfig)
    balance: BalanceConfig = dataclasses.field(default_factory=BalanceConfig)
    masking: MaskingConfig = dataclasses.field(default_factory=MaskingConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        shortest = min(self.corpus.min_window_bp, self.corpus.window_bp)
        if shortest < self.tokens.k:
            raise ValueError(
                f"windows may have {shortest} bases and tokens have {self.tokens.k}: raise corpus.min_window_bp"
            )
        if self.tokens.row_tokens and self.masking.placement_weight:
            raise ValueError(
                "tokens.row_tokens cuts windows at the edges of rows, which would part cut spans from their gaps: set "
                "tokens.row_tokens=0 or masking.placement_weight=0"
            )


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a config into plain dictionaries, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(kind: type[T], values: dict[str, Any], where: str = "settings") -> T:
    """Build a config from plain dictionaries; unknown keys and wrong values are errors.

    Raises
    ------
    ConfigError
        Naming ``where`` and each key that is wrong.

    Examples
    --------
    >>> from_dict(CorpusConfig, {"window_bp": 512}).overlap_bp
    128
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc']) or kind.__name__}: {item['msg']}" for item in error.errors()
        ]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error


def read_value(text: str) -> Any:
    """Read the right side of ``--set``: JSON where it is JSON, else the text itself.

    Examples
    --------
    >>> read_value("1e-3"), read_value("false"), read_value("Md Me")
    (0.001, False, 'Md Me')
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def apply_settings(config: RunConfig, settings: Iterable[str]) -> RunConfig:
    """Change a run by ``section.name=value`` texts, as the command line's ``--set`` does.

    Raises
    ------
    ConfigError
        If a text has no ``=``, a key does not exist, or a value does not fit.

    Examples
    --------
    >>> apply_settings(RunConfig("demo"), ["optim.lr=1e-3", "model.pattern=Me"]).optim.lr
    0.001
    """
    values = to_dict(config)
    for setting in settings:
        key, equals, text = setting.partition("=")
        *sections, name = key.strip().split(".")
        place: Any = values
        for section in sections:
            place = place.get(section) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict) or name not in place:
            known = ", ".join(sorted(place)) if isinstance(place, dict) else ", ".join(sorted(values))
            raise ConfigError(f"--set {setting}: no such setting. Write section.name=value; here one of: {known}")
        place[name] = read_value(text)
    return from_dict(RunConfig, values, "--set")


def read_run_config(path: str | Path) -> RunConfig:
    """Read a run from ``run.json`` of an earlier run, or from a TOML file of the same keys."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
        values = tomllib.loads(text) if source.suffix == ".toml" else json.loads(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{source}: no such file") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{source}: not readable as {'TOML' if source.suffix == '.toml' else 'JSON'}: {error}"
        ) from error
    return from_dict(RunConfig, values.get("config", values), str(source))
