"""How many bytes a run holds on a device, and leaves on disk."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch

from umbel.config import RunConfig
from umbel.model.activations import measure_block, measure_head
from umbel.model.backbone import Backbone
from umbel.train.optim import is_orthogonalised
from umbel.train.speed import process_bytes
from umbel.train.workload import batch_shape, share_of

_FLOAT = 4
"""Weights, gradients, moments and averages are float32, whatever autocast does."""


@dataclass(frozen=True)
class Parameters:
    """Numbers in the parameters of a run, by what happens to them.

    Attributes
    ----------
    total
        All; of them ``matrices`` are moved by Muon where that is asked for, and ``experts`` are routed ones.
    largest_block, largest_block_experts
        Of the layer that has most, and of its routed experts.
    """

    total: int
    matrices: int
    experts: int
    largest_block: int
    largest_block_experts: int


def count_kinds(run: RunConfig) -> Parameters:
    """Count the parameters of a run, its heads included.

    Examples
    --------
    >>> count_kinds(RunConfig("demo")).total
    115612160
    """
    with torch.device("meta"):
        backbone = Backbone(run.model)
    named = [(name, p.numel(), is_orthogonalised(name, p)) for name, p in backbone.named_parameters()]
    if not run.model.tie_head:
        named.append(("lm_head.weight", run.model.vocab_size * run.model.d_model, False))
    if run.masking.placement_weight:
        named += [(f"placement.{name}", run.model.d_model**2, False) for name in ("query", "key")]
    blocks: dict[str, list[int]] = {}
    for name, n, _ in named:
        if name.startswith("layers."):
            sizes = blocks.setdefault(name.split(".")[1], [0, 0])
            sizes[0] += n
            sizes[1] += n * _is_routed(name)
    largest = max(blocks.values())
    return Parameters(
        total=sum(n for _, n, _ in named),
        matrices=sum(n for _, n, is_matrix in named if is_matrix),
        experts=sum(n for name, n, _ in named if _is_routed(name)),
        largest_block=largest[0],
        largest_block_experts=largest[1],
    )


def _is_routed(name: str) -> bool:
    return name.endswith((".ffn.gate", ".ffn.up", ".ffn.down"))


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the worst moment of a step, by what they are for.

    Attributes
    ----------
    weights, gradients, optimizer, ema
        Kept all the time: parameters, their gradients, moments, and a moving average of the weights.
    gathered
        Whole blocks put together for computing (``fsdp``): two of weights, one of gradients.
    activations
        Kept by the layers for the backward pass.
    logits
        Kept by the head and the loss.
    working
        The most that one layer's pass takes for a moment.
    program
        On a CPU, the process without a model: Python, torch and kernels. 0 on a GPU.
    """

    weights: int
    gradients: int
    optimizer: int
    ema: int
    gathered: int
    activations: int
    logits: int
    working: int
    program: int

    @property
    def total(self) -> int:
        """All parts."""
        return sum(getattr(self, field.name) for field in fields(self))


def training_memory(run: RunConfig, n_processes: int, device: torch.device, dtype: torch.dtype | None = None) -> Memory:
    """Estimate the memory of training on one of ``n_processes`` devices.

    What layers keep is measured on the layers themselves, without computing (:mod:`umbel.model.activations`); the rest
    follows from the number of parameters. All processes count as having their gradients once (buckets of DDP are views
    of them).

    Parameters
    ----------
    device
        Whose kernels decide what is kept.
    dtype
        That of autocast; None is float32.

    Raises
    ------
    ConfigError
        If so many processes cannot share the run's step or its experts.

    Examples
    --------
    >>> found = training_memory(RunConfig("demo"), 1, torch.device("cpu"))
    >>> found.weights, found.optimizer == 2 * found.weights
    (462448640, True)
    """
    parameters, share = count_kinds(run), share_of(run, n_processes)
    held, sharded = _held(run, parameters, n_processes)
    is_muon = run.optim.kind == "muon"
    states = 2 - (parameters.matrices / parameters.total if is_muon else 0)
    shape = batch_shape(run, share.micro_rows, device, dtype)
    layers = {kind: measure_block(shape, run.model, kind) for kind in set(run.model.layer_kinds)}
    all_layers = [layers[kind] for kind in run.model.layer_kinds]
    kept = sum(layer.kept for layer in all_layers)
    if run.parallel.activation_checkpointing:
        kept = sum(layer.inputs for layer in all_layers) + max(layer.kept for layer in all_layers)
    head = measure_head(shape, run.model)
    return Memory(
        weights=_FLOAT * held,
        gradients=_FLOAT * held,
        optimizer=round(_FLOAT * states * held),
        ema=_FLOAT * held if run.train.ema_decay else 0,
        gathered=_FLOAT * 3 * sharded,
        activations=kept,
        logits=head.kept,
        working=max(part.working for part in (*all_layers, head)),
        program=_program_bytes(run) if device.type == "cpu" else 0,
    )


def _program_bytes(run: RunConfig) -> int:
    """Give what this process has without a model; a small step first, because it loads the kernels, which stay."""
    tile = len(run.model.pattern.split())
    small = replace(run.model, n_layers=tile, d_model=2 * run.model.n_heads, ffn_hidden=8, expert_hidden=8)
    with torch.random.fork_rng():
        hidden = Backbone(small)(torch.full((1, 64), 7)).hidden
    hidden.sum().backward()
    return process_bytes("VmRSS") or 0


def _held(run: RunConfig, parameters: Parameters, n_processes: int) -> tuple[int, int]:
    """Give the parameters that a process holds all the time, and those of the block it puts together under FSDP."""
    groups = run.parallel.expert_processes
    if run.parallel.kind == "fsdp":
        block = parameters.largest_block - parameters.largest_block_experts
        return -(-parameters.total // n_processes), block + parameters.largest_block_experts // groups
    return parameters.total - parameters.experts + parameters.experts // groups, 0


@dataclass(frozen=True)
class Disk:
    """Bytes that a run leaves: states to continue from, and checkpoints. Logs are small beside them."""

    states: int
    checkpoints: int

    @property
    def total(self) -> int:
        """Both, and the state that is being written before the oldest goes."""
        return self.states + self.checkpoints


def disk_bytes(run: RunConfig) -> Disk:
    """Count what a run leaves on disk.

    Examples
    --------
    >>> from umbel.train.recipes import tiny
    >>> disk_bytes(tiny())  # three states of weights and two moments, and the last and the best checkpoint
    Disk(states=13890816, checkpoints=3086848)
    """
    parameters = count_kinds(run)
    has_ema = run.train.ema_decay > 0
    moments = 2 * parameters.total - (parameters.matrices if run.optim.kind == "muon" else 0)
    state = _FLOAT * (parameters.total * (1 + has_ema) + moments)
    checkpoints = 1 + run.train.keep_best + has_ema
    return Disk((run.train.keep_states + 1) * state, checkpoints * _FLOAT * parameters.total)


@dataclass(frozen=True)
class Remedy:
    """What to add to the command for less memory, and the bytes that a device then needs."""

    setting: str
    total: int


def find_remedies(
    run: RunConfig, n_processes: int, device: torch.device, dtype: torch.dtype | None = None
) -> tuple[Remedy, ...]:
    """Give what each setting that saves memory would make of a run, one by one, and all of them together.

    Examples
    --------
    >>> from umbel.train.recipes import tiny
    >>> for remedy in find_remedies(tiny(), 1, torch.device("cpu")):
    ...     print(remedy.setting)
    --set parallel.activation_checkpointing=true
    --set train.micro_batch_windows=1
    all of them
    """
    changes = {}
    if run.parallel.kind != "fsdp" and n_processes > 1:
        changes["parallel.kind=fsdp"] = lambda r: replace(r, parallel=replace(r.parallel, kind="fsdp"))
    if not run.parallel.activation_checkpointing:
        changes["parallel.activation_checkpointing=true"] = lambda r: replace(
            r, parallel=replace(r.parallel, activation_checkpointing=True)
        )
    if share_of(run, n_processes).micro_rows > 1:
        changes["train.micro_batch_windows=1"] = lambda r: replace(r, train=replace(r.train, micro_batch_windows=1))

    def total(changed: RunConfig) -> int:
        return training_memory(changed, n_processes, device, dtype).total

    remedies = [Remedy(f"--set {name}", total(change(run))) for name, change in changes.items()]
    if len(changes) > 1:
        for change in changes.values():
            run = change(run)
        remedies.append(Remedy("all of them", total(run)))
    return tuple(remedies)
