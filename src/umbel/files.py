"""Files that appear whole or not at all, and the hashes that identify them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from umbel.errors import OutputError

_REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space, or write elsewhere with -o",
    errno.EDQUOT: "your disk quota is used up: free some space, or write elsewhere with -o",
    errno.EACCES: "permission denied: choose a folder you may write to with -o",
    errno.EFBIG: "the file is larger than this system allows (ulimit -f): raise the limit, or write elsewhere with -o",
    errno.EROFS: "the file system is read-only: write elsewhere with -o",
}


_PROBE_BYTES = 1 << 20


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an operating-system failure while writing ``path`` into an :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno in _REMEDIES:
            raise OutputError(
                f"{path}: could not be written, {_REMEDIES[error.errno]}. Earlier output is untouched."
            ) from error
        raise


@contextmanager
def asking_the_disk(temporary: Path) -> Iterator[None]:
    """Where a writer fails without saying why, see whether the disk still takes bytes; raise its answer if not.

    torch and safetensors report a full disk as errors of their own, from which the cause cannot be read.
    """
    try:
        yield
    except OSError:
        raise
    except Exception:
        probe = temporary.with_name(f"{temporary.name}.probe")
        try:
            probe.write_bytes(bytes(_PROBE_BYTES))
        finally:
            probe.unlink(missing_ok=True)
        raise


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name to write to; rename it to ``path`` on success, delete it on failure.

    The rename is atomic, so a reader (or a killed process) sees the old file or the new one,
    never a part of it.

    Raises
    ------
    OutputError
        If the disk is full, read-only or not ours to write to. The old file is left as it was.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with whole_file(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('whole', 1)
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with writing(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with asking_the_disk(temporary):
                yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Like :func:`whole_file` for a folder: an existing folder is replaced only on success."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with writing(target):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            with asking_the_disk(temporary):
                yield temporary
            if target.exists():
                retired = target.with_name(f".{target.name}.{os.getpid()}.old")
                os.replace(target, retired)
                os.replace(temporary, target)
                shutil.rmtree(retired)
            else:
                os.replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces).

    Examples
    --------
    >>> sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
