"""Files of named arrays, written one after the other and read in slices, so that none need fit into memory whole."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from umbel.errors import CorpusError
from umbel.files import whole_file

_MAGIC = b"umbelarr"
_TAIL_BYTES = 16


class ArrayWriter:
    """Writes arrays into an open file; see :func:`writing_arrays`."""

    def __init__(self, handle: BinaryIO):
        self._handle = handle
        self._index: dict[str, tuple[str, int, int]] = {}
        self.facts: dict[str, Any] = {}
        """What else the file is to tell: anything that JSON holds."""

    def add(self, name: str, values: npt.NDArray[Any]) -> None:
        """Write a one-dimensional array under a name that is still free."""
        if values.ndim != 1:
            raise ValueError(f"array {name!r} has {values.ndim} dimensions instead of 1")
        self.add_parts(name, values.dtype, [values])

    def add_parts(self, name: str, dtype: npt.DTypeLike, parts: Iterable[npt.NDArray[Any]]) -> None:
        """Write an array that comes in parts, of which memory holds one."""
        if name in self._index:
            raise ValueError(f"array {name!r} is already there")
        stored = np.dtype(dtype).newbyteorder("<")
        offset, n = self._handle.tell(), 0
        for part in parts:
            self._handle.write(np.ascontiguousarray(part, stored).data)
            n += len(part)
        self._index[name] = (stored.str, offset, n)

    def close(self) -> None:
        """Write the index, which ends the file."""
        index = json.dumps({"facts": self.facts, "arrays": self._index}, sort_keys=True).encode()
        self._handle.write(index)
        self._handle.write(len(index).to_bytes(8, "little") + _MAGIC)


@contextmanager
def writing_arrays(path: str | Path) -> Iterator[ArrayWriter]:
    """Write a file of arrays, which appears whole or not at all.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.arrays"
    >>> with writing_arrays(path) as writer:
    ...     writer.facts["k"] = 21
    ...     writer.add("squares", np.arange(5) ** 2)
    >>> arrays = ArrayFile(path)
    >>> arrays.facts, arrays.read("squares", 1, 3).tolist(), arrays.length("squares")
    ({'k': 21}, [1, 4], 5)
    """
    with whole_file(path) as temporary, open(temporary, "wb") as handle:
        writer = ArrayWriter(handle)
        yield writer
        writer.close()


class ArrayFile:
    """A file of arrays, opened for reading.

    Raises
    ------
    CorpusError
        If there is no such file, or it is cut short or something else.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as handle:
                size = handle.seek(0, 2)
                handle.seek(max(0, size - _TAIL_BYTES))
                tail = handle.read()
                n_index = int.from_bytes(tail[:8], "little")
                if tail[8:] != _MAGIC or n_index + _TAIL_BYTES > size:
                    raise CorpusError(f"{self.path}: damaged or cut short. Remove it, and run the same command again.")
                handle.seek(size - _TAIL_BYTES - n_index)
                index = json.loads(handle.read(n_index))
        except (OSError, ValueError) as error:
            raise CorpusError(f"{self.path}: cannot be read ({error}). Run the same command again.") from error
        self.facts: dict[str, Any] = index["facts"]
        self._index: dict[str, tuple[str, int, int]] = index["arrays"]

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def length(self, name: str) -> int:
        """Count the values of an array."""
        return self._index[name][2]

    def read(self, name: str, start: int = 0, end: int | None = None) -> npt.NDArray[Any]:
        """Read values ``start`` to ``end`` of an array, and nothing else."""
        dtype, offset, n = self._index[name]
        end = n if end is None else end
        if not 0 <= start <= end <= n:
            raise ValueError(f"values {start} to {end} are not inside 0 to {n}")
        itemsize = np.dtype(dtype).itemsize
        return np.fromfile(self.path, dtype, end - start, offset=offset + start * itemsize)

    def map(self, name: str) -> npt.NDArray[Any]:
        """Map an array, so that only what is looked at is read."""
        dtype, offset, n = self._index[name]
        if not n:
            return np.empty(0, dtype)
        return np.memmap(self.path, dtype, "r", offset, (n,))
