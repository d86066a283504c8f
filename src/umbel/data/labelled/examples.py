"""Labelled sequences in memory, each with the place it came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.task import IGNORED, Task
from umbel.genome.sequence import Codes

Targets = npt.NDArray[Any] | tuple[npt.NDArray[Any], ...]


@dataclass(frozen=True)
class Examples:
    """Sequences and what is true of them, in the order of their file.

    Attributes
    ----------
    task
        What the targets mean.
    ids
        One name an example, all different.
    codes
        Base codes of each sequence, uint8 ``(L_i,)``: A 0, C 1, G 2, T 3, N 4.
    targets
        ``binary`` and ``multiclass``: int64 ``(n,)``, indices into ``task.names``. ``multilabel``: float32
        ``(n, labels)`` of 0 and 1. ``regression``: float32 ``(n, outputs)``. ``bases``: one int64 ``(L_i,)`` a
        sequence, -100 where a base has no class. ``bins``: one float32 ``(bins_i, outputs)`` a sequence, NaN where
        nothing was measured.
    source
        The file, as the user named it.
    rows
        int64 ``(n,)``: the row of the table, or the line of the FASTA header, from 1.

    Examples
    --------
    >>> task = Task("binary", ("0", "1"))
    >>> one = Examples(task, ("a",), (np.array([0, 1], np.uint8),), np.array([1]), "a.csv", np.array([2]))
    >>> len(one), one.take([]).ids
    (1, ())
    """

    task: Task
    ids: tuple[str, ...]
    codes: tuple[Codes, ...]
    targets: Targets
    source: str
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Examples:
        """Give the examples at ``indices``, in their order."""
        chosen = [int(i) for i in indices]
        targets = (
            tuple(self.targets[i] for i in chosen)
            if isinstance(self.targets, tuple)
            else self.targets[np.array(chosen, int)]
        )
        return dataclasses.replace(
            self,
            ids=tuple(self.ids[i] for i in chosen),
            codes=tuple(self.codes[i] for i in chosen),
            targets=targets,
            rows=self.rows[np.array(chosen, int)],
        )

    def content_hash(self) -> str:
        """Identify sequences, targets and task, wherever the file lies: SHA-256, 64 hexadecimal digits."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self.task), sort_keys=True).encode())
        for i, codes in enumerate(self.codes):
            digest.update(b"\0" + self.ids[i].encode() + b"\0" + codes.tobytes() + b"\0")
            digest.update(np.ascontiguousarray(self.targets[i]).tobytes())
        return digest.hexdigest()


def is_known(task: Task, targets: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark which targets there are: no class where it is -100, no number where it is NaN; the shape of targets.

    Examples
    --------
    >>> is_known(Task("bases", ("a", "b")), np.array([0, -100])).tolist()
    [True, False]
    """
    return targets != IGNORED if task.is_classes else ~np.isnan(targets)
