"""Vectors on a plane: principal components, or UMAP."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from umbel.errors import ConfigError
from umbel.predict.embed.scaling import Scaling

Projection = Literal["pca", "umap"]
LEAST_ROWS = 4
_NEIGHBOURS = 15


@dataclass(frozen=True)
class Plane:
    """Points ``(n, 2)``, and what to write at the two axes."""

    points: np.ndarray
    axes: tuple[str, str]


def project(values: np.ndarray, projection: Projection, seed: int) -> Plane:
    """Put vectors ``(n, D)`` on a plane, 4 of them or more.

    The vectors are scaled first, number by number. ``pca``: the axes tell the share of the variance. ``umap`` keeps
    the 15 nearest neighbours together, and its axes have no unit; the same ``seed`` gives the same picture on the same
    machine.

    Raises
    ------
    ConfigError
        If there are fewer vectors.

    References
    ----------
    McInnes, Healy and Melville 2018, "UMAP: Uniform Manifold Approximation and Projection", arXiv:1802.03426.

    Examples
    --------
    >>> plane = project(np.array([[0.0, 0, 0], [3, 1, 0], [0, 0, 1], [3, 1, 1]]), "pca", 0)
    >>> plane.axes
    ('component 1: 66.7 % of the variance', 'component 2: 33.3 % of the variance')
    """
    if len(values) < LEAST_ROWS:
        raise ConfigError(f"a picture needs {LEAST_ROWS} rows with an embedding, and there are {len(values)}")
    scaled = Scaling.of([values]).apply(values)
    if projection == "umap":
        return Plane(_umap(scaled, seed), ("UMAP 1", "UMAP 2"))
    left, singular, right = np.linalg.svd(scaled.astype(np.float64), full_matrices=False)
    # A component has no sign of its own: its largest weight is made positive.
    signs = np.sign(right[[0, 1], np.abs(right[:2]).argmax(1)])
    shares = singular[:2] ** 2 / max(float((singular**2).sum()), np.finfo(float).tiny)
    first, second = (
        f"component {i}: {share:.1%} of the variance".replace("%", " %") for i, share in enumerate(shares, 1)
    )
    return Plane(left[:, :2] * singular[:2] * signs, (first, second))


def _umap(values: np.ndarray, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        # It looks for Tensorflow at import, for a class that is not used here.
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import umap

    # One thread, because several give another picture each time.
    model = umap.UMAP(n_neighbors=min(_NEIGHBOURS, len(values) - 1), random_state=seed, n_jobs=1)
    return np.asarray(model.fit_transform(values))
