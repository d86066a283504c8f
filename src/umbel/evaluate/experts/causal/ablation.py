"""Knock every expert out, one after the other, and see which classes of bases pay for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.errors import ConfigError
from umbel.evaluate.experts.causal.losses import Losses, measure
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.source import Source
from umbel.evaluate.metrics import Estimate
from umbel.model.edited_router import KnockOut, Swap, require_edits
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter, reporter_or_silent

Row = dict[str, Any]


@dataclass(frozen=True)
class Ablation:
    """The loss with each of X edits, and without.

    Attributes
    ----------
    edits
        X of them, each alone.
    losses
        Their sums; branch 1 + i is that of ``edits[i]``.
    moe_layers
        Layers with experts, in order of depth: the sites.
    settings
        By which it was measured.
    """

    edits: tuple[KnockOut | Swap, ...]
    losses: Losses
    moe_layers: tuple[int, ...]
    settings: CausalSettings

    def delta(self, i: int, column: int = 0) -> Estimate | None:
        """Loss with an edit minus the loss without, nats a hidden base of a class; None where none is hidden."""
        return self.losses.difference(1 + i, column, self.settings)

    def rows(self) -> list[Row]:
        """Give a row for each edit and class.

        Returns
        -------
        ``site``, ``layer``, ``expert``, ``labelling``, ``class`` (``all`` and ``all`` for every hidden base),
        ``n_bases`` hidden, ``delta`` with ``low`` and ``high``; ``mode``, which is ``swap`` where it is with
        ``other``; ``taken`` and ``taken_hidden``, the share of the choices at the class's visible and hidden bases
        that the expert (both, of a swap) had in the model as it is. None where there is nothing to tell.
        """
        rows = []
        for i, edit in enumerate(self.edits):
            site = self.moe_layers.index(edit.layer)
            first, second = (edit.expert, None) if isinstance(edit, KnockOut) else (edit.a, edit.b)
            for column, (labelling, name) in enumerate(self.losses.columns):
                found = self.delta(i, column)
                named = [expert for expert in (first, second) if expert is not None]
                rows.append(
                    {
                        "site": site,
                        "layer": edit.layer,
                        "expert": first,
                        "labelling": labelling,
                        "class": name,
                        "n_bases": int(self.losses.n_bases[:, column].sum()),
                        **_estimate(found, "delta"),
                        "mode": edit.mode if isinstance(edit, KnockOut) else "swap",
                        "other": second,
                        "taken": _share(self.losses.taken[:, site, column].sum(0), named),
                        "taken_hidden": _share(self.losses.taken_hidden[:, site, column].sum(0), named),
                    }
                )
        return rows

    def untouched_rows(self) -> list[Row]:
        """Give ``labelling``, ``class``, ``n_bases`` and the ``loss``, ``low`` and ``high`` of the model as it is."""
        return [
            {
                "labelling": labelling,
                "class": name,
                "n_bases": int(self.losses.n_bases[:, column].sum()),
                **_estimate(self.losses.value(0, column, self.settings), "loss"),
            }
            for column, (labelling, name) in enumerate(self.losses.columns)
        ]


def _share(choices_E: npt.NDArray[np.int64], experts: list[int]) -> float | None:
    return float(choices_E[experts].sum() / choices_E.sum()) if choices_E.any() else None


def _estimate(found: Estimate | None, name: str) -> Row:
    value, low, high = (None, None, None) if found is None else (found.value, found.low, found.high)
    return {name: value, "low": low, "high": high}


def ablate(
    predictor: Predictor,
    source: Source,
    edits: Sequence[KnockOut | Swap],
    folder: str | Path,
    *,
    settings: CausalSettings | None = None,
    title: str = "ablation",
    reporter: Reporter | None = None,
) -> Ablation:
    """Measure what each of some edits, alone, does to the masked loss.

    The same bases are hidden for each, so that differences are paired, and layers below an edit are computed once for
    all edits above them.

    Parameters
    ----------
    source
        Labelled stretches of DNA, each no longer than the model's window.
    edits
        Each is made alone.
    folder
        Where results are kept as they come: the same call goes on where a stopped one was.
    title
        Of what is kept; another for each model that has the folder.

    Raises
    ------
    ConfigError
        If there is no edit, one does not fit the model, or the source does not.
    CheckpointError
        If a loss is not a number.
    AdapterError
        If an adapter around a router is more than an addition to its weight.
    """
    settings, reporter = settings or CausalSettings(), reporter_or_silent(reporter)
    if not edits:
        raise ConfigError("no expert was named to knock out, and no two to swap")
    for edit in edits:
        require_edits(predictor.config, [edit])
    branches = [(edit,) for edit in edits]
    is_wide = any(isinstance(edit, KnockOut) and edit.mode == "mean" for edit in edits)
    losses = measure(
        predictor,
        source,
        lambda ids: branches,
        len(branches),
        settings,
        Path(folder),
        {"edits": [str(edit) for edit in edits]},
        reporter,
        title=title,
        extra_experts=predictor.n_experts if is_wide else 0,
    )
    return Ablation(tuple(edits), losses, predictor.moe_layers, settings)


def every_expert(predictor: Predictor, settings: CausalSettings) -> list[KnockOut]:
    """List each expert of each layer, in each of the modes asked for.

    Raises
    ------
    ConfigError
        If the model has no experts.
    """
    if not predictor.moe_layers:
        raise ConfigError("this model has no expert layers, and so no expert to knock out")
    return [
        KnockOut(layer, expert, mode)
        for mode in settings.modes
        for layer in predictor.moe_layers
        for expert in range(predictor.n_experts)
    ]


def ablate_all(
    predictor: Predictor,
    source: Source,
    folder: str | Path,
    *,
    settings: CausalSettings | None = None,
    title: str = "ablation",
    reporter: Reporter | None = None,
) -> Ablation:
    """Knock out each expert of each layer, alone: :func:`ablate` with all of them.

    The time is about that of one pass over the stretches times 1 + modes x experts x (about half of all layers with
    experts), as only layers from the edited one on are computed again.
    """
    settings = settings or CausalSettings()
    edits = every_expert(predictor, settings)
    return ablate(predictor, source, edits, folder, settings=settings, title=title, reporter=reporter)


def ablate_random(
    predictor: Predictor,
    source: Source,
    edits: Sequence[KnockOut | Swap],
    folder: str | Path,
    *,
    settings: CausalSettings | None = None,
    title: str = "random",
    reporter: Reporter | None = None,
) -> Ablation:
    """Measure the same edits in the same network before any training: what architecture alone makes of them."""
    settings = settings or CausalSettings()
    twin = predictor.with_random_weights(settings.seed)
    return ablate(twin, source, edits, folder, settings=settings, title=title, reporter=reporter)
