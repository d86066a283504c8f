"""A tuned head as a score of variants: how its outputs change from the reference window to the other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from umbel.data.labelled.task import Task
from umbel.genome.sequence import Codes
from umbel.predict.choices import Strand
from umbel.predict.variants.scores import DistinctSequences, Values
from umbel.predict.variants.windows import VariantWindow


class OutputsOfSequences(Protocol):
    """What is asked of a head; :class:`~umbel.predict.head.Head` is one."""

    task: Task

    def outputs(self, codes: Sequence[Codes], strand: Strand = "forward") -> Sequence[np.ndarray]:
        """Give what the head says of each sequence."""
        ...


class HeadDifference:
    """The change of each output of a head, from REF to ALT, both strands averaged.

    Of classes it is the difference of log-probabilities (of two classes: of the log-odds of the second), of labels
    that of their log-odds, of numbers that of the numbers. Of something along the sequence it is the sum of absolute
    differences over the bases that both windows have, flank by flank: of class probabilities, or of the numbers of
    the bins that the bases are in, divided by ``bin_bp``.

    Attributes
    ----------
    names
        One for each column, fit to be a part of an INFO key.
    """

    def __init__(self, head: OutputsOfSequences):
        self._head, self._task = head, head.task
        told = self._task.names[1:] if self._task.kind == "binary" else self._task.names
        self.names = _keys(told)

    def differences(self, windows: Sequence[VariantWindow]) -> Values:
        """Compute ``(n, names)``."""
        todo = DistinctSequences()
        places = [(todo.add(window.ref), todo.add(window.alt)) for window in windows]
        said = todo.each(lambda codes, _: [self._read(each) for each in self._head.outputs(codes, "both")])
        if not self._task.is_along_sequence:
            return np.array([said[alt] - said[ref] for ref, alt in places]).reshape(-1, len(self.names))
        compared = (
            _along(window, said[ref], said[alt], self._bin_bp)
            for window, (ref, alt) in zip(windows, places, strict=True)
        )
        return np.array(list(compared)).reshape(-1, len(self.names))

    @property
    def _bin_bp(self) -> int:
        return self._task.bin_bp if self._task.kind == "bins" else 1

    def _read(self, outputs: np.ndarray) -> Values:
        """Turn outputs into what is compared."""
        values = outputs.astype(np.float64)
        if self._task.kind == "binary":
            return values[1:] - values[:1]
        if not self._task.is_classes:
            return values
        logs = values - np.logaddexp.reduce(values, axis=-1, keepdims=True)
        return logs if self._task.kind == "multiclass" else np.exp(logs)


def _along(window: VariantWindow, ref: Values, alt: Values, bin_bp: int) -> Values:
    """Add up the absolute differences of the bases that both windows have."""
    by_base = [
        np.repeat(values, bin_bp, axis=0)[:length]
        for values, length in ((ref, len(window.ref)), (alt, len(window.alt)))
    ]
    before, behind = len(window.left), len(window.right)
    if len(by_base[0]) == len(by_base[1]):
        before, behind = len(by_base[0]), 0
    apart = [np.abs(by_base[1][:before] - by_base[0][:before]).sum(0)]
    if behind:
        apart.append(np.abs(by_base[1][-behind:] - by_base[0][-behind:]).sum(0))
    return sum(apart) / bin_bp


def _keys(names: Sequence[str]) -> tuple[str, ...]:
    """Turn names into parts of INFO keys, every one different.

    Examples
    --------
    >>> _keys(["leaf", "root tip", "root-tip"])
    ('leaf', 'root_tip', 'root_tip_2')
    """
    keys: list[str] = []
    for name in names:
        plain = re.sub(r"[^0-9A-Za-z_.]", "_", name)
        key, number = plain, 1
        while key in keys:
            number += 1
            key = f"{plain}_{number}"
        keys.append(key)
    return tuple(keys)
