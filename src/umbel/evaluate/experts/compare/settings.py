"""How checkpoints are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from umbel.errors import ConfigError

Design = Literal["none", "chain", "2x2"]
DESIGNS: tuple[Design, ...] = get_args(Design)


@dataclass(frozen=True)
class CompareSettings:
    """How checkpoints are compared.

    Attributes
    ----------
    design
        ``chain``: each checkpoint goes on from the one before it; the change between first and last is split into
        these stages, in the only order there is. ``2x2``: base, first stage alone, second stage alone, both: the split
        is the mean of the two orders. ``none``: the checkpoints do not stem from each other, as seeds do not.
    match
        Pair experts up, one to one, for checkpoints that number theirs differently.
    window_bp
        As for a recording; 0: as many bases as all models read at once.
    n_draws, n_permutations
        Of the bootstrap over units, and of class names.
    seed
        Of all that is drawn.

    Raises
    ------
    ConfigError
        If the design is none of these.
    """

    design: Design = "chain"
    match: bool = False
    window_bp: int = 0
    n_draws: int = 1000
    n_permutations: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.design not in DESIGNS:
            raise ConfigError(f"design is {self.design!r}, and there are {', '.join(DESIGNS)}")
        if self.n_draws < 1 or self.n_permutations < 1:
            raise ConfigError("n_draws and n_permutations must be 1 or more")


def as_design(text: str, *, match: bool) -> Design:
    """Read a design; none told is a chain, and of seeds ``none``.

    Raises
    ------
    ConfigError
        If there is no such design.

    Examples
    --------
    >>> as_design("", match=False), as_design("", match=True), as_design("2x2", match=False)
    ('chain', 'none', '2x2')
    """
    if not text:
        return "none" if match else "chain"
    for design in DESIGNS:
        if text == design:
            return design
    raise ConfigError(f"design is {text!r}, and there are {', '.join(DESIGNS)}")
