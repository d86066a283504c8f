"""What stands out in a run, in words; every sentence is computed from the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from umbel.train.log import Record
from umbel.train.run_curves import RunStory

_MANY_TOKENS = 0.5
_TIMES_EVEN = 1.5
_LONG_WAIT = 0.1
_FIRST_STEPS = 10
_SLOWER = 0.7
_KNOWS_NOTHING = 0.99
_MAX_STEPS = 6
_MAX_NAMES = 12
BAD_EVENTS = {"skipped": "skipped", "rolled back": "bad, and the run rolled back"}
"""Events that tell of a bad step, and what is said of it."""


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is ``good``, asks for something to be done (``bad``), or just says (``even``)."""

    verdict: Literal["good", "bad", "even"]
    about: str
    text: str


def find(story: RunStory) -> list[Finding]:
    """List what stands out in a run: where it is, its losses, bad steps, experts and speed."""
    return [*_progress(story), *_losses(story), *_bad_steps(story), *_experts(story), *_speed(story)]


def in_time(seconds: float) -> str:
    """Write a duration with two units.

    Examples
    --------
    >>> in_time(0.4), in_time(75), in_time(7_260), in_time(200_000)
    ('0 s', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    whole = round(seconds)
    units = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)]
    first = next((place for place, (_, size) in enumerate(units) if whole >= size), len(units) - 1)
    parts = []
    for name, size in units[first : first + 2]:
        parts.append(f"{whole // size} {name}")
        whole %= size
    return " ".join(parts)


def even_guess(config: dict[str, Any]) -> tuple[float, str] | None:
    """Give the loss of guessing evenly among all words of k bases, and how it is written; none for learnt words.

    Examples
    --------
    >>> even_guess({"tokens": {"kind": "kmer", "k": 3}})
    (4.1588830833596715, '3 ln 4')
    """
    tokens = config.get("tokens", {})
    if tokens.get("kind", "kmer") != "kmer":
        return None
    k = tokens.get("k", 1)
    return k * math.log(4), f"{k} ln 4" if k > 1 else "ln 4"


def _progress(story: RunStory) -> list[Finding]:
    if not story.step:
        return [Finding("even", "Progress", "no step is finished yet")]
    if story.step >= story.steps:
        return [Finding("good", "Progress", f"all {story.steps:,} steps are done, in {in_time(story.seconds)}")]
    left = story.seconds / story.step * (story.steps - story.step)
    share = math.floor(100 * story.step / story.steps)
    text = f"{story.step:,} of {story.steps:,} steps ({share} %) are done; the rest takes about {in_time(left)}"
    return [Finding("even", "Progress", text)]


def _losses(story: RunStory) -> list[Finding]:
    found = []
    last, guess = story.last.get("valid", {}), even_guess(story.facts["config"])
    if story.best and "loss" in last:
        loss, step = story.best
        text = f"{last['loss']:.4f} at step {last['step']:,}"
        is_behind = last["loss"] > loss and last["step"] > step
        text += f"; the least was {loss:.4f} at step {step:,}" if is_behind else ", the least so far"
        is_worse = is_behind and last["loss"] > 1.005 * loss and last["step"] - step > 0.1 * story.step
        if is_worse:
            text += ". It rises: the run may be memorising, or its learning rate is too high"
        found.append(Finding("bad" if is_worse else "even", "Validation loss", text))
    if guess and "loss" in last:
        below = guess[0] - last["loss"]
        words = f"{abs(below):.4f} nats {'below' if below > 0 else 'above'} an even guess ({guess[1]} = {guess[0]:.3f})"
        found.append(Finding("good" if below > 0 else "bad", "Beside guessing", f"validation is {words}"))
    if "ema_loss" in last and "loss" in last:
        gain = last["loss"] - last["ema_loss"]
        text = f"the moving average is {abs(gain):.4f} nats {'better' if gain > 0 else 'worse'} than the last weights"
        found.append(Finding("good" if gain > 0 else "even", "Averaged weights", text))
    return found


def _bad_steps(story: RunStory) -> list[Finding]:
    found = []
    for event, verb in BAD_EVENTS.items():
        if count := story.n_events[event]:
            at = [bad_step(record) for record in story.events if record["event"] == event]
            text = f"{_number(count, 'step')} {'was' if count == 1 else 'were'} {verb} ({_listed(at, count)})"
            found.append(Finding("bad", "Bad steps", text))
    lost = story.curves["train/loss"].n_missing if "train/loss" in story.curves else 0
    if lost and not found:
        found.append(Finding("bad", "Bad steps", f"{_number(lost, 'training loss', 'training losses')} not finite"))
    return found


def bad_step(event: Record) -> int:
    """Give the step that was bad: of a rollback the one it came from."""
    return int(event["from_step"] if "from_step" in event else event["step"])


def _number(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _listed(steps: list[int], count: int) -> str:
    shown = ", ".join(f"{step:,}" for step in steps[:_MAX_STEPS])
    more = f" and {count - _MAX_STEPS:,} more" if count > _MAX_STEPS else ""
    return f"step{'s' if count > 1 else ''} {shown}{more}"


def last_experts(story: RunStory) -> Record | None:
    """Give the newest record that tells of experts, and of each one's load where there is such a record."""
    return story.experts.get("valid") or story.experts.get("train")


def _experts(story: RunStory) -> list[Finding]:
    record = last_experts(story)
    if record is None:
        return []
    model = story.facts["config"]["model"]
    found = []
    for layer in record["experts"]:
        about, load = f"Layer {layer['layer']}", layer.get("load", [])
        if model["n_experts"] > 1 and load:
            busiest = max(range(len(load)), key=load.__getitem__)
            # Each token is assigned top_k times, to different experts.
            share = load[busiest] * model["top_k"]
            if share > _MANY_TOKENS and layer["max_over_mean"] > _TIMES_EVEN:
                times = f"{layer['max_over_mean']:.1f} times the mean"
                text = f"expert {busiest} took {100 * share:.0f} % of the tokens, {times}"
                found.append(Finding("bad", about, text))
        if layer["n_dead"]:
            dead = [str(expert) for expert, part in enumerate(load) if part == 0]
            names = (
                f"expert{'s' if len(dead) > 1 else ''} {', '.join(dead[:12])}" if dead else f"{layer['n_dead']} experts"
            )
            names += f" and {len(dead) - 12} more" if len(dead) > 12 else ""
            found.append(Finding("bad", about, f"{names} got no token at step {record['step']:,}"))
        unsure = layer.get("routing_entropy", 0.0)
        if model.get("gating", "softmax") == "softmax" and unsure > _KNOWS_NOTHING and story.step > 0.1 * story.steps:
            text = f"the router hardly tells tokens apart: its choice has {100 * unsure:.1f} % of the largest entropy"
            found.append(Finding("even", about, text))
    if not any(finding.verdict == "bad" for finding in found):
        worst = max(layer["max_over_mean"] for layer in record["experts"])
        text = f"all experts of all layers are at work; the busiest takes {worst:.1f} times the mean"
        found.insert(0, Finding("good", "Experts", text))
    return found


def _speed(story: RunStory) -> list[Finding]:
    found = []
    if "train/data_wait_frac" in story.curves:
        curve = story.curves["train/data_wait_frac"]
        wait = float(curve.mean[-max(1, len(curve.mean) // 10) :].mean())
        if wait > _LONG_WAIT and story.step >= _FIRST_STEPS:
            text = (
                f"{100 * wait:.0f} % of the time goes by waiting for data: give the process more CPU cores, or put the "
                "corpus on a faster disk"
            )
            found.append(Finding("bad", "Data", text))
    if "train/tokens_per_s" in story.curves:
        speeds = story.curves["train/tokens_per_s"].mean
        usual, now = float(_median(speeds)), float(_median(speeds[-max(1, len(speeds) // 10) :]))
        if len(speeds) >= 20 and now < _SLOWER * usual:
            text = f"{now:,.0f} tokens/s of late, {usual:,.0f} over the run: something else may take the machine's time"
            found.append(Finding("bad", "Speed", text))
    return found


def _median(values: Any) -> float:
    ordered = sorted(values)
    return float(ordered[len(ordered) // 2])
