"""Lines or blocks of a file that may be gzip or bgzip, told by its first bytes and never by its name."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from umbel.errors import InputError

BLOCK_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_OTHER_COMPRESSION = {b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
# The empty block that ends every whole bgzip file (SAM specification, section 4.1.2).
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def read_lines(path: str | Path, refusal: type[InputError]) -> Iterator[tuple[int, bytes]]:
    r"""Yield ``(line number, line)`` with the line end kept; numbers are 1-based.

    Parameters
    ----------
    path
        Plain, gzip or bgzip file.
    refusal
        Error class to raise, which says what kind of file this is.

    Raises
    ------
    InputError
        Of class ``refusal``: no such file, a folder, another compression, or a truncated or damaged gzip.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = source.write_bytes(gzip.compress(b"one\ntwo"))
    >>> list(read_lines(source, InputError))
    [(1, b'one\n'), (2, b'two')]
    """
    with _opened(path, refusal) as file:
        for number, line in enumerate(file.text, start=1):
            file.n_lines = number
            yield number, line


def read_blocks(
    path: str | Path, refusal: type[InputError], on_bytes: Callable[[int], None] | None = None
) -> Iterator[bytes]:
    r"""Yield the content in blocks of at most 1 MiB, which end anywhere.

    Parameters
    ----------
    path, refusal
        As in :func:`read_lines`, and refused for the same reasons.
    on_bytes
        Told how many more bytes of the file on disk were used up; over the whole file these add up to its size.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = source.write_bytes(gzip.compress(b"one\ntwo"))
    >>> list(read_blocks(source, InputError))
    [b'one\ntwo']
    """
    told = 0
    with _opened(path, refusal) as file:
        while block := file.text.read(BLOCK_BYTES):
            if on_bytes:
                place = file.raw.tell()
                on_bytes(place - told)
                told = place
            yield block
            # Only a gzip can break off later, and be told where.
            if file.text is not file.raw:
                file.n_lines += block.count(b"\n")
        if on_bytes and (rest := file.raw.seek(0, io.SEEK_END) - told):
            on_bytes(rest)


@dataclass
class _Opened:
    """A file on disk, what it says once it is decompressed, and how many lines of that were read."""

    raw: io.BufferedReader
    text: IO[bytes]
    n_lines: int = 0


@contextmanager
def _opened(path: str | Path, refusal: type[InputError]) -> Iterator[_Opened]:
    """Open a plain, gzip or bgzip file; whatever fails, then or while it is read, is of class ``refusal``."""
    file: _Opened | None = None
    try:
        with open(path, "rb") as raw:
            magic = raw.read(18)
            for start, name in _OTHER_COMPRESSION.items():
                if magic.startswith(start):
                    raise refusal(f"this is a {name} file. Decompress it, or use gzip or bgzip.", path)
            is_gzip = magic.startswith(_GZIP)
            if is_gzip and magic[3:4] == b"\x04" and magic[12:14] == b"BC":
                _require_bgzip_end(raw, path, refusal)
            raw.seek(0)
            file = _Opened(raw, io.BufferedReader(gzip.GzipFile(fileobj=raw), BLOCK_BYTES) if is_gzip else raw)
            yield file
    except FileNotFoundError as error:
        raise refusal("no such file. Check the path.", path) from error
    except EOFError as error:
        raise refusal(
            "the gzip stream ends too early: the file is truncated. Copy or download it again.", path, _line(file)
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise refusal(f"the gzip stream is damaged ({error}). Copy or download it again.", path, _line(file)) from error
    except OSError as error:
        raise refusal(f"cannot be read: {error.strerror or error}.", path) from error


def _line(file: _Opened | None) -> int | None:
    """Last line that was read, if any."""
    return (file.n_lines or None) if file else None


def _require_bgzip_end(raw: io.BufferedReader, path: str | Path, refusal: type[InputError]) -> None:
    """Refuse a bgzip file cut between two of its blocks, which gzip itself cannot notice."""
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - len(_BGZIP_END)))
    if raw.read() != _BGZIP_END:
        raise refusal("the bgzip file has no end block: it is truncated. Copy or download it again.", path)
