"""A falling power law with a floor, fitted to loss against bases seen, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from umbel.evaluate.metrics import Estimate, interval

Floats = npt.NDArray[np.float64]

MIN_POINTS = 6
EXPONENTS = np.concatenate([np.linspace(0.02, 1.0, 50), np.linspace(1.05, 3.0, 40)])
"""Exponents that are tried. For each, floor and scale are a least-squares problem with one solution."""


@dataclass(frozen=True)
class PowerLaw:
    """``loss = floor + scale * (x / x_unit) ** -exponent``.

    Attributes
    ----------
    floor, scale, exponent
        With 95 % intervals from resampled residuals: of the fit, not of another run.
    x_unit
        What x is counted in: the geometric mean of those fitted, so that scale is the loss above the floor there.
    r2
        Share of the variance of loss that is explained.
    rmse
        Root mean square of the residuals, in the unit of the loss.
    log_rmse
        The same of a straight line in ``log x``, which has one parameter less.
    n_points
        Points that were fitted.
    at_bound
        Whether exponent or floor is at the end of what was tried, or a straight line in ``log x`` fits as well: then
        neither means anything.
    """

    floor: Estimate
    scale: Estimate
    exponent: Estimate
    x_unit: float
    r2: float
    rmse: float
    log_rmse: float
    n_points: int
    at_bound: bool

    def at(self, x: npt.NDArray[Any]) -> Floats:
        """Fitted loss at each x."""
        powers = (np.asarray(x, np.float64) / self.x_unit) ** -self.exponent.value
        return self.floor.value + self.scale.value * powers

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        found = {name: getattr(self, name).to_dict() for name in ("floor", "scale", "exponent")}
        return found | {
            name: getattr(self, name) for name in ("x_unit", "r2", "rmse", "log_rmse", "n_points", "at_bound")
        }


def fit_power_law(x: npt.NDArray[Any], loss: npt.NDArray[Any], *, n_draws: int = 300, seed: int = 0) -> PowerLaw:
    """Fit a power law with a floor by least squares.

    The points of a run are not independent and its learning rate falls along the way, so that the interval says how
    well the curve is determined by these points, and nothing of longer runs.

    Parameters
    ----------
    x
        Bases seen, above 0, ``(n,)``.
    loss
        Loss there, ``(n,)``.
    n_draws, seed
        Of the bootstrap of residuals.

    Raises
    ------
    ValueError
        With fewer than 6 points, or where an x is not above 0 or a number not finite.

    Examples
    --------
    >>> x = np.arange(1, 30) * 1e6
    >>> found = fit_power_law(x, 1.2 + 0.3 * (x / 1e6) ** -0.5, n_draws=10)
    >>> round(found.floor.value, 3), round(found.exponent.value, 3), found.at_bound
    (1.2, 0.5, False)
    """
    x, loss = np.asarray(x, np.float64), np.asarray(loss, np.float64)
    if len(x) < MIN_POINTS:
        raise ValueError(f"{len(x)} points, and a curve of three numbers needs {MIN_POINTS} at least")
    if not (np.isfinite(x).all() and np.isfinite(loss).all() and (x > 0).all()):
        raise ValueError("every x must be above 0, and every number finite")
    x_unit = float(np.exp(np.log(x).mean()))
    designs = [np.stack([np.ones(len(x)), (x / x_unit) ** -exponent], axis=1) for exponent in EXPONENTS]
    best, coefficients = _solve(designs, loss)
    fitted = designs[best] @ coefficients
    residuals = loss - fitted
    rng = np.random.default_rng(seed)
    draws = np.empty((n_draws, 3))
    for i in range(n_draws):
        chosen, values = _solve(designs, fitted + rng.choice(residuals, len(x)))
        draws[i] = (*values, EXPONENTS[chosen])
    line = np.polynomial.Polynomial.fit(np.log(x), loss, 1)
    spread = ((loss - loss.mean()) ** 2).sum()
    floor, scale, exponent = (
        interval(float(value), draws[:, i], len(x)) for i, value in enumerate((*coefficients, EXPONENTS[best]))
    )
    rmse = float(np.sqrt((residuals**2).mean()))
    log_rmse = float(np.sqrt(((loss - line(np.log(x))) ** 2).mean()))
    is_at_end = best in (0, len(EXPONENTS) - 1) or bool(coefficients.min() <= 0)
    return PowerLaw(
        floor,
        scale,
        exponent,
        x_unit=x_unit,
        r2=float(1 - (residuals**2).sum() / spread) if spread > 0 else 0.0,
        rmse=rmse,
        log_rmse=log_rmse,
        n_points=len(x),
        at_bound=is_at_end or log_rmse <= rmse,
    )


def _solve(designs: list[Floats], loss: Floats) -> tuple[int, Floats]:
    """Give the best exponent's index, and floor and scale, neither below 0."""
    found = [nnls(design, loss) for design in designs]
    best = int(np.argmin([norm for _, norm in found]))
    return best, found[best][0]
