"""What is asked of a sequence: its class, several yes-or-no labels, numbers, or something of every base or bin."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from umbel.errors import ConfigError

Kind = Literal["binary", "multiclass", "multilabel", "regression", "bases", "bins"]
KINDS: tuple[Kind, ...] = get_args(Kind)
IGNORED = -100
"""The class of a base that has none."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Task:
    """What a head is to say of a sequence.

    Attributes
    ----------
    kind
        ``binary`` and ``multiclass``: one class a sequence; ``multilabel``: any number of labels a sequence;
        ``regression``: one or more numbers a sequence; ``bases``: one class a base; ``bins``: numbers for every
        ``bin_bp`` bases.
    names
        Classes (``binary``: the second is the positive one), labels, or outputs. Classes are sorted, numbers as
        numbers, so that their order never depends on a file's.
    bin_bp
        Bases in a bin; the last bin of a sequence may be shorter.

    Raises
    ------
    ConfigError
        Through :func:`umbel.config.from_dict`; pydantic's ValidationError, a ValueError, otherwise.

    Examples
    --------
    >>> Task("binary", ("no", "yes")).n_outputs
    2
    """

    kind: Kind
    names: tuple[str, ...]
    bin_bp: Annotated[int, Field(ge=1)] = 1

    def __post_init__(self) -> None:
        least = {"binary": 2, "multiclass": 3, "bases": 2}.get(self.kind, 1)
        if len(self.names) < least or (self.kind == "binary" and len(self.names) > 2):
            raise ValueError(f"a {self.kind} task with {len(self.names)} names: {', '.join(self.names) or 'none'}")
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"names are repeated: {', '.join(self.names)}")

    @property
    def n_outputs(self) -> int:
        """Numbers that a head gives: one per name."""
        return len(self.names)

    @property
    def is_classes(self) -> bool:
        """Whether exactly one of the names is right, for a sequence or for a base."""
        return self.kind in ("binary", "multiclass", "bases")

    @property
    def is_numbers(self) -> bool:
        """Whether the names are quantities."""
        return self.kind in ("regression", "bins")

    @property
    def is_along_sequence(self) -> bool:
        """Whether there is something to say of every base or bin, not of the sequence as a whole."""
        return self.kind in ("bases", "bins")


def require_kind(name: str) -> Kind:
    """Give a kind of task by its name.

    Raises
    ------
    ConfigError
        If there is none of that name.

    Examples
    --------
    >>> require_kind("bins")
    'bins'
    """
    for kind in KINDS:
        if kind == name:
            return kind
    raise ConfigError(f"there is no task {name!r}; there are {', '.join(KINDS)}")
