"""Two checkpoints of one shape, each with the routes of the other: what tuning did to routes, and to experts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from umbel.data.tokenizers import describe
from umbel.errors import ConfigError
from umbel.evaluate.experts.causal.losses import Losses, measure
from umbel.evaluate.experts.causal.settings import CausalSettings
from umbel.evaluate.experts.source import Source
from umbel.evaluate.metrics import Estimate, bootstrap_ratio
from umbel.model.edited_router import Edit, Given
from umbel.predict.branches import Edits, run_branches
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter, reporter_or_silent


@dataclass(frozen=True)
class Patch:
    """Use the routes of another checkpoint of the same shape, as it routes the same tokens when it runs by itself.

    Attributes
    ----------
    other
        Whose routes.
    layers
        In which layers; empty is all with experts.
    with_weights
        Take the gate weights too. Without, the model's own router weighs the experts that the other chose, so that
        the choice alone is patched.
    """

    other: Predictor
    layers: tuple[int, ...] = ()
    with_weights: bool = False

    def require(self, predictor: Predictor) -> None:
        """See that the routes can be used in a model.

        Raises
        ------
        ConfigError
            If there are no experts, the shapes or tokens differ, or a layer has no experts.
        """
        if not predictor.moe_layers:
            raise ConfigError("this model has no expert layers, and so no routes to patch")
        mine, others = asdict(predictor.config), asdict(self.other.config)
        differ = [f"{name} {mine[name]} and {others[name]}" for name in mine if mine[name] != others[name]]
        if differ:
            raise ConfigError(f"routes can be taken from a checkpoint of the same shape only; here {'; '.join(differ)}")
        if describe(predictor.tokens) != describe(self.other.tokens):
            raise ConfigError("routes can be taken from a checkpoint with the same tokens only")
        for layer in self.layers:
            if layer not in predictor.moe_layers:
                known = ", ".join(map(str, predictor.moe_layers))
                raise ConfigError(f"layer {layer} has no experts; those that have: {known}")

    def edits(self, input_ids: Tensor) -> Edits:
        """Run the other model on a batch of token ids ``(B, L)``, and make edits of its routes."""
        with torch.inference_mode():
            ((_, _, routings),) = run_branches(self.other.backbone, input_ids.to(self.other.device), ())
        wanted = self.layers or self.other.moe_layers
        return tuple(Given(routing, self.with_weights) for routing in routings if routing.layer in wanted)


@dataclass(frozen=True)
class Patched:
    """The losses of checkpoints A and B, each as it is and with routes of the other, at the same hidden bases.

    Branches of ``a`` and of ``b``: the other's choices in all layers; choices and weights in all layers; and, where
    there are several, the choices in each layer alone.
    """

    a: Losses
    b: Losses
    moe_layers: tuple[int, ...]
    settings: CausalSettings

    def rows(self) -> list[dict[str, Any]]:
        """Give a row for each checkpoint, patch and class.

        Returns
        -------
        ``model`` (a or b), ``layers`` (all, or a number), ``patched`` (choices, or choices and weights),
        ``labelling``, ``class``, ``n_bases``, ``loss`` of the model as it is, and ``delta`` with ``low`` and ``high``:
        the loss with the other's routes minus that without, nats a hidden base.
        """
        rows = []
        for model, losses in (("a", self.a), ("b", self.b)):
            for i, (layers, patched) in enumerate(_patches(self.moe_layers)):
                for column, (labelling, name) in enumerate(losses.columns):
                    before = losses.value(0, column, self.settings)
                    delta = losses.difference(1 + i, column, self.settings)
                    rows.append(
                        {
                            "model": model,
                            "layers": layers,
                            "patched": patched,
                            "labelling": labelling,
                            "class": name,
                            "n_bases": int(losses.n_bases[:, column].sum()),
                            "loss": None if before is None else before.value,
                            "delta": None if delta is None else delta.value,
                            "low": None if delta is None else delta.low,
                            "high": None if delta is None else delta.high,
                        }
                    )
        return rows

    def split(self, *, with_weights: bool = True) -> list[dict[str, Any]]:
        r"""Split the change of loss from A to B into what the routes did, and what everything else did.

        With :math:`L(x, y)` the loss of the weights of x under the routes of y,
        :math:`\mathrm{total} = L(B, B) - L(A, A)`,

        .. math:: \mathrm{routes} = \tfrac12 [L(A, B) - L(A, A)] + \tfrac12 [L(B, B) - L(B, A)],

        and ``rest``, from experts, mixers and head, likewise; the two add up to the total (the Shapley values of two
        players, averaged over both orders).

        Returns
        -------
        One row a class: ``labelling``, ``class``, ``n_bases``; ``total``, ``routes`` and ``rest``, each with
        ``_low`` and ``_high``, nats a hidden base; ``routes_share``, routes over total, which is None (``suppressed``
        is True) where the interval of the total holds 0. A class without hidden bases has no row.

        References
        ----------
        Shapley 1953, "A value for n-person games".
        """
        branch = 2 if with_weights else 1
        total_UC = self.b.loss[0] - self.a.loss[0]
        routes_UC = (self.a.loss[branch] - self.a.loss[0] + self.b.loss[0] - self.b.loss[branch]) / 2
        rows = []
        for column, (labelling, name) in enumerate(self.a.columns):
            n = self.a.n_bases[:, column]
            if not n.any():
                continue
            parts = (("total", total_UC), ("routes", routes_UC), ("rest", total_UC - routes_UC))
            found = {what: self._ratio(sums[:, column], n) for what, sums in parts}
            total = found["total"]
            suppressed = total.low is None or total.high is None or total.low <= 0 <= total.high
            row: dict[str, Any] = {"labelling": labelling, "class": name, "n_bases": int(n.sum())}
            for what, estimate in found.items():
                row |= {what: estimate.value, f"{what}_low": estimate.low, f"{what}_high": estimate.high}
            row["routes_share"] = None if suppressed else found["routes"].value / total.value
            rows.append(row | {"suppressed": suppressed})
        return rows

    def _ratio(self, sums_U: npt.NDArray[np.float64], n_U: npt.NDArray[np.int64]) -> Estimate:
        return bootstrap_ratio(sums_U, n_U, n_draws=self.settings.n_draws, seed=self.settings.seed)


def _patches(moe_layers: Sequence[int]) -> list[tuple[str, str]]:
    """Name the patches, in the order of the branches."""
    alone = [(str(layer), "choices") for layer in moe_layers] if len(moe_layers) > 1 else []
    return [("all", "choices"), ("all", "choices and weights"), *alone]


def _all_patches(other: Predictor) -> Callable[[Tensor], list[Edits]]:
    """Make the branches of :func:`_patches` of each batch, running the other model once."""
    patch = Patch(other, with_weights=True)

    def branches_of(input_ids: Tensor) -> list[Edits]:
        with_weights = patch.edits(input_ids)
        choices: list[Edit] = [replace(edit, with_weights=False) for edit in with_weights if isinstance(edit, Given)]
        alone = [(edit,) for edit in choices] if len(choices) > 1 else []
        return [tuple(choices), with_weights, *alone]

    return branches_of


def patch_routes(
    a: Predictor,
    b: Predictor,
    source: Source,
    folder: str | Path,
    *,
    settings: CausalSettings | None = None,
    title: str = "patch",
    reporter: Reporter | None = None,
) -> Patched:
    """Measure checkpoints A and B, such as one before and one after tuning, each with the routes of the other.

    Parameters
    ----------
    source
        Labelled stretches of DNA, each no longer than the models' window.
    folder
        Where results are kept as they come: the same call goes on where a stopped one was.

    Raises
    ------
    ConfigError
        If the two differ in shape or tokens, have no experts, or the source does not fit.
    CheckpointError
        If a loss is not a number.
    """
    settings, reporter = settings or CausalSettings(), reporter_or_silent(reporter)
    Patch(b).require(a)

    def of(name: str, model: Predictor, other: Predictor) -> Losses:
        return measure(
            model,
            source,
            _all_patches(other),
            len(_patches(model.moe_layers)),
            settings,
            Path(folder),
            {"other": other.weights_hash, "precision of other": other.precision},
            reporter,
            title=f"{title}-{name}",
        )

    return Patched(of("a", a, b), of("b", b, a), a.moe_layers, settings)
