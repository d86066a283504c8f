"""``umbel doctor``: what runs here, and why not the rest."""

from __future__ import annotations

from umbel.cli.options import Json, finish


def doctor(json: Json = False) -> None:
    """Show versions, devices, and the backend chosen for each operator."""
    from umbel.ops.probe import describe

    facts = describe()
    lines = []
    for name, value in facts.items():
        if isinstance(value, dict):
            lines += [name, *(f"  {key}: {text}" for key, text in value.items())]
        else:
            lines.append(f"{name}: {', '.join(value) if isinstance(value, list) else value}")
    finish(facts, lines, json)
