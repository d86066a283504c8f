"""A plan as lines for people, with a unit on every number."""

from __future__ import annotations

from dataclasses import fields

from umbel.train.memory import Memory
from umbel.train.plan import Plan

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_INDENT = 14


def short(value: float) -> str:
    """Write a number >= 0 with three digits and the prefix of a unit.

    Examples
    --------
    >>> short(0.25), short(999), short(63_707_648), short(2.5e20)
    ('0.25', '999', '63.7 M', '250 E')
    """
    power = 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1_000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}".rstrip()


def size(n_bytes: float) -> str:
    """Write bytes as MB or GB.

    Examples
    --------
    >>> size(12_345_678), size(123_456_789_000)
    ('12 MB', '123.5 GB')
    """
    return f"{n_bytes / 1e9:,.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:,.0f} MB"


def span(hours: float) -> str:
    """Write a time in the unit that reads best.

    Examples
    --------
    >>> span(0.01), span(0.4), span(5.04), span(960)
    ('36 s', '24 min', '5.0 hours', '40.0 days')
    """
    if hours < 1 / 30:
        return f"{hours * 3_600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"


def memory_parts(memory: Memory) -> str:
    """Name the parts of an estimate that are not 0, in their order.

    Examples
    --------
    >>> memory_parts(Memory(4_000_000, 0, 8_000_000, 0, 0, 0, 0, 0, 0))
    'weights 4 MB, optimizer 8 MB'
    """
    parts = {field.name: getattr(memory, field.name) for field in fields(memory)}
    return ", ".join(f"{name} {size(value)}" for name, value in parts.items() if value)


def _line(name: str, *texts: str) -> list[str]:
    return [f"  {name if not i else '':<{_INDENT}}{text}" for i, text in enumerate(texts)]


def plan_lines(plan: Plan) -> list[str]:
    """Write a plan as a table, and what would help where a device is too small."""
    work, share, n = plan.work, plan.share, plan.n_devices
    devices = "1 device" if n == 1 else f"{n} devices"
    passes = "1 pass" if share.accumulation == 1 else f"{share.accumulation} passes"
    lines = [f"{plan.run} on {devices}"]
    lines += _line("model", f"{plan.parameters:,} parameters, of which a token meets {plan.active_parameters:,}")
    lines += _line(
        "step",
        f"{work.tokens_per_step:,} tokens, {work.bases_per_step:,} bases: {devices} x {passes} x "
        f"{share.micro_rows} rows of {work.row_tokens:,} tokens",
    )
    lines += _line("run", f"{work.steps:,} steps, {short(work.tokens)} tokens, {short(work.bases)} bases")
    lines += _line(
        "operations",
        f"{short(work.forward_flops_per_token)}FLOP a token forward, "
        f"{short(3 * work.forward_flops_per_token)}FLOP with backward; {short(work.train_flops)}FLOP for the run",
    )
    if len(work.stages) > 1:
        stages = ", ".join(f"{s.steps:,} steps of {s.sequence_tokens:,} tokens" for s in work.stages)
        lines += _line("", f"stages: {stages}")
    lines += _line("memory", f"{size(plan.memory.total)} a device ({plan.memory_of})", memory_parts(plan.memory))
    lines += _line(
        "disk", f"{size(plan.disk.total)}: states {size(plan.disk.states)}, checkpoints {size(plan.disk.checkpoints)}"
    )
    lines += _line("speed", *_speed_texts(plan))
    lines += _line("time", *_time_texts(plan))
    return lines + _warning(plan)


def _speed_texts(plan: Plan) -> list[str]:
    speed = plan.throughput
    threads = ""
    if speed.device == "cpu" and speed.threads:
        threads = ", 1 thread" if speed.threads == 1 else f", {speed.threads} threads"
    text = f"{short(speed.flops_per_s)}FLOP/s a device ({speed.device}, {speed.precision}{threads})"
    if speed.mfu is not None:
        text += f": {speed.mfu:.0%} of the {short(speed.matrix_flops_per_s)}FLOP/s of a matrix product (MFU)"
    return [text, f"{speed.source}: {speed.note}"]


def _time_texts(plan: Plan) -> list[str]:
    time, n = plan.duration, plan.n_devices
    text = f"{span(time.hours)} ({span(time.shortest_hours)} to {span(time.longest_hours)} by what was measured)"
    texts = [f"{text}, {short(time.tokens_per_s)} tokens/s, {_hours(time.device_hours)} device-hours"]
    if n > 1:
        scaling = "ideal scaling was assumed" if plan.efficiency == 1 else f"{plan.efficiency:.0%} of ideal scaling"
        texts.append(f"{n} devices count as {n * plan.efficiency:g}: {scaling} (--efficiency)")
    return texts


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"


def _warning(plan: Plan) -> list[str]:
    if not plan.is_too_large:
        return []
    lines = [
        f"warning: {size(plan.memory.total)} is more than the {size(plan.memory_free or 0)} that are free on "
        f"{plan.memory_of.split(',')[0]} here. What would help:"
    ]
    return lines + [f"  {size(remedy.total):>10}  with {remedy.setting}" for remedy in plan.remedies]
