"""A run that begins with the weights of a checkpoint, and not with those that its seed draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from umbel.config import RunConfig, to_dict
from umbel.data.tokenizers import Tokens, describe
from umbel.errors import RunError
from umbel.model.checkpoint import load_checkpoint, weights_hash
from umbel.model.hf import UmbelForMaskedLM
from umbel.model.shipped import model_text
from umbel.train.learner import untrained_model
from umbel.train.run_folder import differences

_DRAWN_BY = ("rescale",)
"""Settings of a model that say how its first weights are drawn, and nothing of what is computed with them."""
_PLACEMENT = "placement."


def weights_facts(weights: Path | None) -> dict[str, str] | None:
    """Tell what ``run.json`` says of the weights that a run begins with; None: they are drawn from its seed."""
    return None if weights is None else {"path": model_text(weights), "hash": weights_hash(weights)}


def first_model(run: RunConfig, tokens: Tokens, weights: Path | None) -> UmbelForMaskedLM:
    """Make the network of a run with the weights that it begins with, in float32.

    A head of span placement that the run needs and the checkpoint lacks is drawn from the run's seed. The window may
    differ: weights do not depend on it.

    Raises
    ------
    RunError
        If the checkpoint has another shape or other tokens, naming each setting.
    CheckpointError
        If it cannot be loaded.
    """
    model = untrained_model(run, tokens)
    if weights is None:
        return model
    source = load_checkpoint(weights)
    found = differences(_shape(source.config.model), _shape(run.model))
    if found:
        raise RunError(
            f"{weights}: its network is not that of recipe {run.name} ({'; '.join(found)}). Give the network of the "
            "weights with --set model.NAME=VALUE, or start without --weights"
        )
    theirs, ours = source.config.tokens or {"kind": "kmer", "k": 1, "overlapping": False}, describe(tokens)
    if theirs != ours:
        raise RunError(
            f"{weights}: its tokens are others than those of recipe {run.name} ({'; '.join(differences(theirs, ours))})"
            ". Give the tokens of the weights with --set tokens.NAME=VALUE, or start without --weights"
        )
    kept = {name: value for name, value in source.state_dict().items() if not name.startswith(_PLACEMENT)}
    new = {name: value for name, value in model.state_dict().items() if name.startswith(_PLACEMENT)}
    if source.placement is not None and model.placement is not None:
        new = {name: value for name, value in source.state_dict().items() if name.startswith(_PLACEMENT)}
    model.load_state_dict(kept | new)
    return model


def _shape(config: Any) -> dict[str, Any]:
    return {name: value for name, value in to_dict(config).items() if name not in _DRAWN_BY}
