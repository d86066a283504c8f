"""Embeddings that were computed once, found again by what they are of and never by what anything is called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from umbel.files import whole_file
from umbel.genome.sequence import Codes

Features = npt.NDArray[np.float32]


def embedding_key(codes: Sequence[Codes], weights_hash: str, strand: str, pooling: str) -> str:
    """Identify the embeddings of sequences in their order: SHA-256 of bases, weights, strand and pooling.

    Examples
    --------
    >>> a, b = np.array([0, 1], np.uint8), np.array([2], np.uint8)
    >>> embedding_key([a, b], "w", "both", "mean") == embedding_key([b, a], "w", "both", "mean")
    False
    """
    about = {"weights": weights_hash, "strand": strand, "pooling": pooling, "n": len(codes)}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for sequence in codes:
        # The length first, so that the end of one sequence is not the start of the next.
        digest.update(len(sequence).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(sequence, np.uint8).tobytes())
    return digest.hexdigest()


class EmbeddingCache:
    """A folder of ``KEY.npy`` files; see :func:`embedding_key`.

    Parameters
    ----------
    folder
        Where they lie. It is made when the first is stored.

    Examples
    --------
    >>> import tempfile
    >>> cache = EmbeddingCache(tempfile.mkdtemp())
    >>> compute = lambda: np.ones((1, 2), np.float32)
    >>> cache.get("key", compute).tolist() == cache.get("key", lambda: 1 / 0).tolist()
    True
    """

    def __init__(self, folder: str | Path):
        self._folder = Path(folder)

    def get(self, key: str, compute: Callable[[], Features]) -> Features:
        """Read what is stored under ``key``, or compute and store it; a damaged file is computed again."""
        path = self._folder / f"{key}.npy"
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            found = compute()
        with whole_file(path) as temporary, open(temporary, "wb") as handle:
            np.save(handle, found, allow_pickle=False)
        return found
