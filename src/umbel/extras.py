"""Optional packages that a function needs, asked for before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from umbel.errors import BackendError


def require_packages(what: str, extra: str, modules: Sequence[str]) -> None:
    """See that packages are installed.

    Raises
    ------
    BackendError
        Naming what is missing, and the group of ours that has it.

    Examples
    --------
    >>> require_packages("a table", "tracks", ("pyarrow",))
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise BackendError(f"{what} needs {', '.join(missing)}: pip install 'umbel[{extra}]'")
