"""Lines of a text file that may be gzip or bgzip, told by its first bytes and never by its name."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from umbel.errors import InputError

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
    number = 0
    try:
        with open(path, "rb") as raw:
            magic = raw.read(18)
            for start, name in _OTHER_COMPRESSION.items():
                if magic.startswith(start):
                    raise refusal(f"this is a {name} file. Decompress it, or use gzip or bgzip.", path)
            if magic.startswith(_GZIP):
                if magic[3:4] == b"\x04" and magic[12:14] == b"BC":
                    _require_bgzip_end(raw, path, refusal)
                raw.seek(0)
                lines: Iterator[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 20)
            else:
                raw.seek(0)
                lines = raw
            for number, line in enumerate(lines, start=1):
                yield number, line
    except FileNotFoundError as error:
        raise refusal("no such file. Check the path.", path) from error
    except EOFError as error:
        raise refusal(
            "the gzip stream ends too early: the file is truncated. Copy or download it again.", path, number or None
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise refusal(
            f"the gzip stream is damaged ({error}). Copy or download it again.", path, number or None
        ) from error
    except OSError as error:
        raise refusal(f"cannot be read: {error.strerror or error}.", path) from error


def _require_bgzip_end(raw: io.BufferedReader, path: str | Path, refusal: type[InputError]) -> None:
    """Refuse a bgzip file cut between two of its blocks, which gzip itself cannot notice."""
    size = raw.seek(0, io.SEEK_END)
    raw.seek(max(0, size - len(_BGZIP_END)))
    if raw.read() != _BGZIP_END:
        raise refusal("the bgzip file has no end block: it is truncated. Copy or download it again.", path)
