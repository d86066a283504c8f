"""Which columns of a table hold sequence, label and id: as the user names them, or told by usual names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from umbel.errors import LabelError

USUAL_NAMES = {
    "sequence": ("sequence", "seq", "sequences", "seqs", "dna", "dna_sequence", "dna_seq", "nucleotides"),
    "label": ("label", "labels", "target", "targets", "y", "class", "classes", "category", "value", "values"),
    "id": ("id", "ids", "name", "names", "identifier", "seq_id", "sequence_id", "seqid", "seq_name", "sequence_name"),
}
"""What columns are usually called, in any case of letters."""


@dataclass(frozen=True)
class Columns:
    """Columns of a table by what they hold; ``id`` is None where rows have no name."""

    sequence: str
    labels: tuple[str, ...]
    id: str | None

    def told(self) -> str:
        """Say which columns are read.

        Examples
        --------
        >>> Columns("seq", ("leaf", "root"), None).told()
        'sequence from column seq, labels from columns leaf, root, ids by row'
        """
        labels = f"column {self.labels[0]}" if len(self.labels) == 1 else f"columns {', '.join(self.labels)}"
        word = "label" if len(self.labels) == 1 else "labels"
        ids = f"ids from column {self.id}" if self.id else "ids by row"
        return f"sequence from column {self.sequence}, {word} from {labels}, {ids}"


def choose_columns(
    names: Sequence[str],
    path: str | Path,
    sequence: str | None = None,
    label: str | Sequence[str] | None = None,
    id: str | None = None,
) -> Columns:
    """Find the columns to read.

    A column that is not named is looked for among ``USUAL_NAMES``. Without one, the label is the only column left
    where a table has two beside the id; ids may be missing, the others not.

    Parameters
    ----------
    names
        All columns of the table.
    path
        The file, for messages.
    sequence, label, id
        Names that the user gave; several labels are several outputs.

    Raises
    ------
    LabelError
        With the columns there are, if a named one is not there, or none or several could be meant.

    Examples
    --------
    >>> choose_columns(["Seq", "strength", "id"], "a.csv")
    Columns(sequence='Seq', labels=('strength',), id='id')
    """
    wanted_labels = () if label is None else (label,) if isinstance(label, str) else tuple(label)
    for role, wanted in [("sequence", (sequence,)), ("label", wanted_labels), ("id", (id,))]:
        for name in wanted:
            if name is not None and name not in names:
                raise LabelError(f"there is no column {name!r} for the {role}. {_there_are(names)}", path)
    if len(set(wanted_labels)) < len(wanted_labels):
        raise LabelError(f"a label column is named twice: {', '.join(wanted_labels)}. Name each once.", path)
    taken = {name for name in (sequence, id, *wanted_labels) if name is not None}
    chosen_sequence = sequence or _usual("sequence", names, taken, path)
    if chosen_sequence is None:
        raise LabelError(
            f"no column is named as sequences usually are. {_there_are(names)} {_name_it('sequence')}", path
        )
    taken.add(chosen_sequence)
    chosen_id = id or _usual("id", names, taken, path)
    taken |= {chosen_id} if chosen_id else set()
    if not wanted_labels:
        found = _usual("label", names, taken, path)
        left = [name for name in names if name not in taken]
        if found is None and len(left) == 1:
            found = left[0]
        if found is None:
            raise LabelError(f"no column is named as labels usually are. {_there_are(names)} {_name_it('label')}", path)
        wanted_labels = (found,)
    roles = [chosen_sequence, *wanted_labels, *([chosen_id] if chosen_id else [])]
    if len(set(roles)) < len(roles):
        raise LabelError(f"one column is to be two things: {', '.join(roles)}. {_there_are(names)}", path)
    return Columns(chosen_sequence, wanted_labels, chosen_id)


def _usual(role: str, names: Sequence[str], taken: set[str], path: str | Path) -> str | None:
    """Find the one column with a usual name, if there is one."""
    found = [name for name in names if name not in taken and name.lower() in USUAL_NAMES[role]]
    if len(found) > 1:
        raise LabelError(
            f"columns {', '.join(found)} could each be the {role}. {_there_are(names)} {_name_it(role)}", path
        )
    return found[0] if found else None


def _there_are(names: Sequence[str]) -> str:
    return f"The columns are: {', '.join(names)}."


def _name_it(role: str) -> str:
    return f"Name the column that holds the {role} ({role}=...)."
