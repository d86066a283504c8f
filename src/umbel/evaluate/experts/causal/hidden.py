"""Stretches with bases hidden, and to which classes each hidden base belongs.

Shapes: C classes of all labellings together, H hidden bases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from umbel.data.masking import hidden_positions
from umbel.errors import ConfigError
from umbel.evaluate.experts.source import NO_CLASS, Source, Stretch
from umbel.genome.sequence import Codes, N


class Column(NamedTuple):
    """A class of a labelling, as a column of sums."""

    labelling: str
    name: str


EVERY = Column("all", "all")
"""Every hidden base, whatever its labels; the first column of any sums."""


@dataclass(frozen=True)
class HiddenStretch:
    """A stretch as every intervention sees it.

    Attributes
    ----------
    codes
        uint8 ``(L,)``.
    hidden
        bool ``(L,)``.
    unit
        Which cluster it is of.
    classes
        bool ``(1 + C, L)``: the classes of each base; the first row is all True.
    """

    codes: Codes
    hidden: npt.NDArray[np.bool_]
    unit: int
    classes: npt.NDArray[np.bool_]

    @property
    def member(self) -> npt.NDArray[np.bool_]:
        """Classes of each hidden base, ``(1 + C, H)``."""
        return self.classes[:, self.hidden]

    @property
    def visible(self) -> npt.NDArray[np.bool_]:
        """Bases A, C, G and T that are not hidden, ``(L,)``."""
        return (self.codes < N) & ~self.hidden


def columns_of(source: Source) -> tuple[Column, ...]:
    """Name every class of a source's labellings, after :data:`EVERY`."""
    return (EVERY, *(Column(each.name, name) for each in source.labellings for name in each.classes))


def hide_stretch(source: Source, i: int, *, seed: int, mask_frac: float, min_bp: int, max_bp: int) -> HiddenStretch:
    """Read the ith stretch and hide some of its bases: the same ones for each model and each intervention.

    Parameters
    ----------
    min_bp, max_bp
        Shortest and longest sequence that the model is to read.

    Raises
    ------
    ConfigError
        If it is text, or of another length.
    ValueError
        If its labels do not fit its bases or classes.
    """
    stretch = source.stretch(i)
    codes = stretch.content
    where = f"{stretch.name} from base {stretch.start + 1:,}"
    if isinstance(codes, str):
        raise ConfigError(f"{where} is text, and a masked loss per base is of DNA: give a source of genomes")
    if not min_bp <= len(codes) <= max_bp:
        raise ConfigError(
            f"{where} has {len(codes):,} bases, and the model reads {min_bp:,} to {max_bp:,}: "
            "cut the source into stretches of that length"
        )
    hidden = hidden_positions(codes, seed, i, mask_frac)
    rows = [np.ones((1, len(codes)), bool)]
    for labelling in source.labellings:
        labels = _labels(stretch, labelling.name, labelling.level == "base", len(codes), where)
        if len(labels) and not NO_CLASS <= labels.min() <= labels.max() < len(labelling.classes):
            raise ValueError(f"{where}: labelling {labelling.name} has classes 0 to {len(labelling.classes) - 1}")
        rows.append(labels == np.arange(len(labelling.classes))[:, None])
    return HiddenStretch(codes, hidden, stretch.unit, np.concatenate(rows))


def _labels(stretch: Stretch, name: str, is_per_base: bool, length: int, where: str) -> npt.NDArray[np.int16]:
    if not is_per_base:
        return np.full(length, stretch.classes[name], np.int16)
    labels = stretch.labels[name]
    if labels.shape != (length,):
        raise ValueError(f"{where}: {length:,} bases, and labelling {name} has {labels.shape}")
    return labels
