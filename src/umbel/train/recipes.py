"""Runs as functions: each gives one frozen :class:`~umbel.config.RunConfig`, which ``--set`` may change.

Add a recipe by writing a function and naming it in ``RECIPES``, the one list the command line reads.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from umbel.config import (
    BalanceConfig,
    CorpusConfig,
    DuplicatesConfig,
    LengthStage,
    MaskingConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TokensConfig,
    TrainConfig,
    read_run_config,
)
from umbel.errors import ConfigError

_FINE = DuplicatesConfig(segment_bp=2_048, scaled=16)
"""For windows of some hundred bases: copies of a kilobase or two are found, at four times the hashes."""


def plantbimoe() -> RunConfig:
    """Give the published model and schedule, with the masking done right: 116 M parameters, 32,768 bp.

    Batch 4 x 8 accumulation x 8 devices. The number of steps is 10 epochs of the 25.40 Gbp that the
    paper reports. Dropping its claims for your own corpus: ``--set train.steps=...``.

    References
    ----------
    PlantBiMoE, arXiv:2512.07113, and the released configuration.

    Examples
    --------
    >>> plantbimoe().model.n_experts
    4
    """
    batch_windows, window_bp, corpus_bp, epochs = 256, 32_768, 25.40e9, 10
    return RunConfig(
        name="plantbimoe",
        model=ModelConfig(),
        corpus=CorpusConfig(window_bp=window_bp, overlap_bp=128),
        optim=OptimConfig(lr=8e-3, warmup_steps=1_000, beta1=0.95, beta2=0.9, weight_decay=0.1),
        train=TrainConfig(
            steps=round(epochs * corpus_bp / (batch_windows * window_bp)),
            batch_windows=batch_windows,
            micro_batch_windows=4,
        ),
    )


def plantbimoe_as_released() -> RunConfig:
    """Give the published run with what its script does otherwise: loss on every real base, its own 80/10/10.

    Its corpus keeps copies and counts gaps as any other N.

    The script shows 80.4 % of the chosen as ``[MASK]`` and redraws 10 % of the rest; it also masks once for
    all epochs, which is not reproduced.

    Examples
    --------
    >>> plantbimoe_as_released().masking.loss_on
    'real'
    """
    masking = MaskingConfig(as_mask_frac=0.8, as_random_frac=0.02, softmask_weight=1.0, loss_on="real")
    run = plantbimoe()
    return replace(
        run,
        name="plantbimoe_as_released",
        model=replace(run.model, rescale="out_proj"),
        corpus=replace(run.corpus, split_n_bp=0, min_n50_bp=0, duplicates=DuplicatesConfig(ani=0.0)),
        masking=masking,
    )


def plantbimoe_small() -> RunConfig:
    """Give the same architecture at 8 M parameters and 4,096 bp, for one GPU and an afternoon.

    Examples
    --------
    >>> plantbimoe_small().model.d_model
    192
    """
    return RunConfig(
        name="plantbimoe_small",
        model=ModelConfig(n_layers=8, d_model=192, ffn_hidden=512),
        corpus=CorpusConfig(window_bp=4_096, overlap_bp=128),
        optim=OptimConfig(lr=2e-3, warmup_steps=500, beta1=0.9, beta2=0.95),
        train=TrainConfig(
            steps=20_000,
            batch_windows=32,
            micro_batch_windows=8,
            eval_every_steps=500,
            save_every_steps=500,
            balance_coef=0.01,
            z_coef=1e-3,
        ),
    )


def tiny() -> RunConfig:
    """Give a model that learns something real on two CPU cores in about two minutes.

    Examples
    --------
    >>> tiny().corpus.window_bp
    512
    """
    return RunConfig(
        name="tiny",
        model=ModelConfig(n_layers=4, d_model=64, d_state=8, ffn_hidden=128),
        corpus=CorpusConfig(window_bp=512, overlap_bp=64, duplicates=_FINE),
        optim=OptimConfig(lr=5e-3, warmup_steps=40, beta1=0.9, beta2=0.98, final_lr_frac=0.02),
        train=TrainConfig(
            steps=240,
            batch_windows=8,
            micro_batch_windows=8,
            eval_every_steps=40,
            eval_windows=64,
            save_every_steps=50,
            balance_coef=0.01,
            z_coef=1e-3,
        ),
    )


def mini() -> RunConfig:
    """Give umbel-mini: the small model that comes with the package, trained on two CPU cores in about an hour.

    It sees 50 Mbp once, of the corpus whose manifest is ``benchmarks/mini/manifest.toml``. Width, experts, masks,
    weight of repeats and optimiser were chosen by short runs (``benchmarks/mini_ablations.py``); ``docs/guide/mini.md``
    tells what came of it and how to go on.

    Examples
    --------
    >>> run = mini()
    >>> run.train.steps * run.train.batch_windows * run.corpus.window_bp
    51200000
    """
    return RunConfig(
        name="mini",
        model=ModelConfig(n_layers=4, d_model=96, d_state=8, ffn_hidden=192),
        corpus=CorpusConfig(window_bp=1_024, overlap_bp=64, duplicates=_FINE),
        optim=OptimConfig(lr=6e-3, warmup_steps=100, beta1=0.9, beta2=0.98, final_lr_frac=0.02),
        balance=BalanceConfig(alpha=0.5),
        masking=MaskingConfig(softmask_weight=0.3, revcomp_frac=0.5),
        train=TrainConfig(
            steps=3_125,
            batch_windows=16,
            micro_batch_windows=8,
            eval_every_steps=125,
            eval_windows=256,
            save_every_steps=25,
            balance_coef=0.003,
            z_coef=1e-3,
        ),
    )


def _with_lengths(run: RunConfig, name: str, first_bp: int, second_bp: int) -> RunConfig:
    """Cut windows into pieces for the first half of the steps, and into longer ones for a quarter."""
    stages = LengthStage(first_bp, run.train.steps // 2), LengthStage(second_bp, run.train.steps // 4)
    return replace(run, name=name, train=replace(run.train, length_stages=stages))


def plantbimoe_lengths() -> RunConfig:
    """Give ``plantbimoe`` with a warm-up of the sequence length: 2,048, then 8,192, then 32,768 bp.

    Half of the steps see pieces of 2,048 bp, a quarter 8,192 bp, and the last quarter whole windows; all see the same
    bases. The idea is HyenaDNA's, which takes shares of its own; these are ours. BiMamba costs as much per base at any
    length: what may be gained is steadier training, not time.

    References
    ----------
    Nguyen et al. 2023, "HyenaDNA", arXiv:2306.15794, section 3.2; Li et al. 2021, arXiv:2108.06084.

    Examples
    --------
    >>> [(stage.window_bp, stage.steps) for stage in plantbimoe_lengths().train.length_stages]
    [(2048, 15139), (8192, 7569)]
    """
    return _with_lengths(plantbimoe(), "plantbimoe_lengths", 2_048, 8_192)


def tiny_lengths() -> RunConfig:
    """Give ``tiny`` with pieces of 128 bp for half of its steps, then of 256 bp for a quarter, then whole windows.

    Examples
    --------
    >>> [(stage.window_bp, stage.steps) for stage in tiny_lengths().train.length_stages]
    [(128, 120), (256, 60)]
    """
    return _with_lengths(tiny(), "tiny_lengths", 128, 256)


def _hyenamoe(name: str, pattern: str) -> RunConfig:
    """Give a published variant; the paper prints pattern and total, and all widths are ours (docs/decisions/0003)."""
    return RunConfig(
        name=name,
        model=ModelConfig(
            pattern=pattern,
            n_layers=12,
            d_model=768,
            n_heads=12,
            max_tokens=16_384,
            ffn_hidden=2_624,
            expert_hidden=64,
            n_experts=64,
            n_shared_experts=10,
            top_k=2,
            gating="normalised",
            vocab_size=92,
        ),
        corpus=CorpusConfig(window_bp=2_000, overlap_bp=0, max_n_frac=0.0),
        tokens=TokensConfig(k=3, row_tokens=1_024),
        optim=OptimConfig(lr=4e-4, warmup_steps=2_000, beta1=0.9, beta2=0.98, weight_decay=0.01),
        train=TrainConfig(steps=200_000, batch_windows=256, micro_batch_windows=16),
    )


def hyenamoe_fast() -> RunConfig:
    """Give HyenaMoE-Fast: three HyenaLite layers to one of attention with experts, 116 M parameters.

    Windows of 2,000 bp without N become 667 3-mers each and are packed into rows of 1,024 tokens, as published.
    The paper does not print widths, optimiser or length of training: those are ours.

    References
    ----------
    HyenaMoE, section "Variants"; see ``docs/decisions/0003-hyenamoe-widths.md``.

    Examples
    --------
    >>> hyenamoe_fast().model.layer_kinds[:4]
    ('Hd', 'Hd', 'Hd', 'Ae')
    """
    return _hyenamoe("hyenamoe_fast", "Hd Hd Hd Ae")


def hyenamoe_standard() -> RunConfig:
    """Give HyenaMoE-Standard: HyenaLite and attention in turns, 131 M parameters; see :func:`hyenamoe_fast`.

    Examples
    --------
    >>> hyenamoe_standard().tokens.row_tokens
    1024
    """
    return _hyenamoe("hyenamoe_standard", "Hd Ae")


def hyenamoe_expressive() -> RunConfig:
    """Give HyenaMoE-Expressive: three layers of attention with experts to one of HyenaLite, 145 M parameters.

    Examples
    --------
    >>> hyenamoe_expressive().model.layer_kinds[:4]
    ('Ae', 'Ae', 'Ae', 'Hd')
    """
    return _hyenamoe("hyenamoe_expressive", "Ae Ae Ae Hd")


def hyenamoe_tiny() -> RunConfig:
    """Give a HyenaMoE-Standard for two CPU cores and two minutes.

    After its 400 steps on the example sequence a hidden 3-mer costs 4.015 nats, where token frequencies give 4.032:
    it has begun to learn, no more. Words of three bases take longer than single ones.

    Examples
    --------
    >>> hyenamoe_tiny().model.n_shared_experts
    1
    """
    return RunConfig(
        name="hyenamoe_tiny",
        model=ModelConfig(
            pattern="Hd Ae",
            n_layers=4,
            d_model=64,
            d_state=8,
            n_heads=4,
            ffn_hidden=128,
            expert_hidden=32,
            n_experts=8,
            n_shared_experts=1,
            top_k=2,
            gating="normalised",
            vocab_size=92,
        ),
        corpus=CorpusConfig(window_bp=510, overlap_bp=0, max_n_frac=0.0, duplicates=_FINE),
        tokens=TokensConfig(k=3, row_tokens=344),
        optim=OptimConfig(lr=5e-3, warmup_steps=40, beta1=0.9, beta2=0.98, final_lr_frac=0.02, weight_decay=0.01),
        train=TrainConfig(
            steps=400,
            batch_windows=8,
            micro_batch_windows=8,
            eval_every_steps=50,
            eval_windows=64,
            save_every_steps=50,
        ),
    )


def tiny_spans() -> RunConfig:
    """Give ``tiny`` with hidden runs of bases, 1 to 10 long, in place of single ones.

    Examples
    --------
    >>> tiny_spans().masking.span_mean_tokens
    3.0
    """
    return replace(tiny(), name="tiny_spans", masking=MaskingConfig(uniform_weight=0.0, span_weight=1.0))


def tiny_placement() -> RunConfig:
    """Give ``tiny`` with every second window asking where four cut spans of 16 bases belong, not for hidden bases.

    Examples
    --------
    >>> tiny_placement().masking.placement_spans
    4
    """
    return replace(tiny(), name="tiny_placement", masking=MaskingConfig(uniform_weight=1.0, placement_weight=1.0))


def breadth() -> RunConfig:
    """Give the tiny model 480,000 different bases of all species evenly; :func:`depth` has as many of four.

    Both see their bases about twice, in windows that share none, and take one and the same corpus. Hold out species
    that neither sees, in the manifest or for both with ``--set corpus.split.test_families='["Poaceae"]'``.
    ``benchmarks/breadth.py`` runs the pair.

    Examples
    --------
    >>> breadth().corpus == depth().corpus, breadth().balance.pool_bp == depth().balance.pool_bp
    (True, True)
    """
    run = tiny()
    return replace(
        run,
        name="breadth",
        corpus=replace(run.corpus, overlap_bp=0),
        balance=BalanceConfig(alpha=0.0, beta=0.0, pool_bp=480_000),
    )


def depth() -> RunConfig:
    """Give the counterpart of :func:`breadth`: as many bases and steps, of the four species that have the most bases.

    Examples
    --------
    >>> depth().balance.n_species, breadth().balance.n_species
    (4, 0)
    """
    run = breadth()
    return replace(run, name="depth", balance=replace(run.balance, n_species=4))


RECIPES = {
    function.__name__: function
    for function in (
        plantbimoe,
        plantbimoe_as_released,
        plantbimoe_lengths,
        plantbimoe_small,
        mini,
        tiny,
        hyenamoe_fast,
        hyenamoe_standard,
        hyenamoe_expressive,
        hyenamoe_tiny,
        tiny_spans,
        tiny_placement,
        tiny_lengths,
        breadth,
        depth,
    )
}


def load_recipe(name: str) -> RunConfig:
    """Give a recipe by its name, or read a run from a ``.json`` or ``.toml`` file.

    Raises
    ------
    ConfigError
        If there is no such recipe or file.
    """
    if name in RECIPES:
        return RECIPES[name]()
    if Path(name).suffix in (".json", ".toml"):
        return read_run_config(name)
    raise ConfigError(f"{name}: no such recipe. There are {', '.join(RECIPES)}; or give a run.json or a .toml file")
