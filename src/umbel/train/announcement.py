"""What ``umbel pretrain`` says before it begins: nothing is measured, and all of it follows from the settings."""

from __future__ import annotations

import torch

from umbel.config import RunConfig
from umbel.model.backbone import count_parameters
from umbel.train.memory import disk_bytes, training_memory
from umbel.train.plan_lines import memory_parts, short, size
from umbel.train.trial import device_name, precision_name
from umbel.train.workload import share_of, workload

_BAD_STEPS = {
    "stop": "ends the run, with its last state kept",
    "skip": "leaves the weights as they are, and the next batch follows",
    "rollback": "goes back to the last state and leaves out the batches since",
}


def announcement(
    run: RunConfig, *, n_processes: int, device: torch.device, dtype: torch.dtype | None = None
) -> list[str]:
    """Say what a run is about to do, in lines.

    Parameters
    ----------
    n_processes
        That share each step.
    dtype
        That of autocast; None is float32.

    Raises
    ------
    ConfigError
        If so many processes cannot share the run's step or its experts.

    Examples
    --------
    >>> from umbel.train.recipes import tiny
    >>> for line in announcement(tiny(), n_processes=2, device=torch.device("cpu"))[:4]:
    ...     print(line)
    tiny: 385,856 parameters, of which a token meets 238,400
      240 steps of 4,112 tokens (4,096 bases): 987 k tokens, 983 k bases, 1.5 TFLOP in all
      a step is 8 windows: 2 processes x 1 pass x 4 rows of 514 tokens
      on 2 x cpu in float32; all weights on every process (ddp)
    """
    work, share = workload(run), share_of(run, n_processes)
    memory, disk = training_memory(run, n_processes, device, dtype), disk_bytes(run)
    total, active = count_parameters(run.model)
    processes = f"{n_processes} process{'es' if n_processes > 1 else ''}"
    passes = f"{share.accumulation} pass{'es' if share.accumulation > 1 else ''}"
    kind = "packed rows" if run.tokens.row_tokens else "windows"
    return [
        f"{run.name}: {total:,} parameters, of which a token meets {active:,}",
        f"  {work.steps:,} steps of {work.tokens_per_step:,} tokens ({work.bases_per_step:,} bases): "
        f"{short(work.tokens)} tokens, {short(work.bases)} bases, {short(work.train_flops)}FLOP in all",
        f"  a step is {run.train.batch_windows:,} {kind}: {processes} x {passes} x {share.micro_rows} rows of "
        f"{work.row_tokens:,} tokens",
        f"  on {n_processes} x {device_name(device)} in {precision_name(dtype)}{_sharing(run, n_processes)}",
        f"  about {size(memory.total)} of memory a process ({memory_parts(memory)})",
        f"  about {size(disk.total)} of disk: {run.train.keep_states} states, one being written, and checkpoints",
        f"  {_optimizer(run)}",
        f"  {_health(run)}",
    ]


def _sharing(run: RunConfig, n_processes: int) -> str:
    parts = []
    if n_processes > 1:
        parts.append(
            "weights, gradients and optimizer cut up among processes (fsdp)"
            if run.parallel.kind == "fsdp"
            else "all weights on every process (ddp)"
        )
    if run.parallel.expert_processes > 1:
        parts.append(f"experts shared by {run.parallel.expert_processes} processes")
    if run.parallel.activation_checkpointing:
        parts.append("activations computed again in the backward pass")
    if run.parallel.compile:
        parts.append("blocks compiled")
    return "".join(f"; {part}" for part in parts)


def _optimizer(run: RunConfig) -> str:
    optim, n_steps = run.optim, run.train.steps
    name = {"adamw": "AdamW", "muon": "Muon for matrices and AdamW for the rest"}[optim.kind]
    if optim.schedule == "cosine":
        fall = "a cosine"
    else:
        fall = f"no change until the last {round(optim.decay_frac * n_steps):,} steps, then a fall"
    warmup = f"{optim.warmup_steps:,} steps of warm-up" if optim.warmup_steps else "no warm-up"
    return f"{name}, rate {optim.lr:g}: {warmup}, {fall} to {optim.lr * optim.final_lr_frac:g}"


def _health(run: RunConfig) -> str:
    health = run.health
    bad = "loss or gradient not finite"
    if health.spike_sigmas:
        bad += f", or loss {health.spike_sigmas:g} robust sigmas above the {health.spike_window_steps} before"
    text = f"a bad step ({bad}) {_BAD_STEPS[health.on_bad_step]}"
    return (
        text if health.on_bad_step == "stop" else f"{text}; {health.max_bad_steps} with no good one between end the run"
    )
