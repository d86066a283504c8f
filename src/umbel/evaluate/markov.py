"""The Markov baseline: a base predicted from the k bases on its left and the k on its right.

``docs/spec/evaluation.md`` states the model; ``tests/unit/evaluate/test_markov.py`` holds it to brute force.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import numpy.typing as npt

from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.data.corpus.store import Corpus

Codes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_ORDER = 5
STRENGTHS = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)


@numba.njit(cache=True)  # pragma: no cover (compiled)
def count_words(codes: Codes, first_start: int, counts: Counts, word_bp: int) -> None:
    """Add every word of ``word_bp`` known bases that starts at ``first_start`` or later to ``counts``."""
    keep = (1 << (2 * word_bp)) - 1
    code = 0
    known_bp = 0
    for position in range(first_start, len(codes)):
        base = codes[position]
        if base > 3:
            known_bp = 0
            continue
        code = ((code << 2) | base) & keep
        known_bp += 1
        if known_bp >= word_bp:
            counts[code] += 1


@numba.njit(cache=True)  # pragma: no cover (compiled)
def _flanks(codes: Codes, hidden: Mask, max_order: int) -> tuple[Counts, Counts, Counts, Counts]:
    """For each hidden base: its position, the known order, and left and right context codes per order."""
    n_hidden = 0
    for position in range(len(codes)):
        n_hidden += hidden[position]
    positions = np.empty(n_hidden, np.int64)
    known = np.zeros(n_hidden, np.int64)
    left = np.zeros((n_hidden, max_order + 1), np.int64)
    right = np.zeros((n_hidden, max_order + 1), np.int64)
    row = 0
    for position in range(len(codes)):
        if not hidden[position]:
            continue
        positions[row] = position
        for order in range(1, max_order + 1):
            before, after = position - order, position + order
            if before < 0 or after >= len(codes) or hidden[before] or hidden[after]:
                break
            if codes[before] > 3 or codes[after] > 3:
                break
            # The farther base is the more significant on the left, the less significant on the right,
            # so that left, centre and right read as one word.
            left[row, order] = left[row, order - 1] + (np.int64(codes[before]) << (2 * (order - 1)))
            right[row, order] = (right[row, order - 1] << 2) + codes[after]
            known[row] = order
        row += 1
    return positions, known, left, right


@dataclass(frozen=True)
class FlankCounts:
    """How often each base stood between each pair of flanks, on both strands.

    Attributes
    ----------
    tables
        Entry k is int64 ``(4**k, 4, 4**k)``: left context, base, right context, each read left to right.
        Memory is 8 bytes x 4**(2k + 1): 0.5 MB for k = 3, 2 MB for k = 4, 34 MB for k = 5 (and as much
        again for a moment while strands are added), whatever the size of the corpus.
    """

    tables: tuple[Counts, ...]

    @property
    def max_order(self) -> int:
        """The largest k that was counted."""
        return len(self.tables) - 1

    @property
    def composition(self) -> Floats:
        """Share of A, C, G, T, ``(4,)``, with one added to each count so that none is impossible."""
        counts = self.tables[0].reshape(4) + 1.0
        return counts / counts.sum()


def on_both_strands(word_counts: Counts) -> Counts:
    """Add to each word, of any length, the count of its reverse complement; ``(4**n,)``."""
    n_bases = (len(word_counts).bit_length() - 1) // 2
    axes = word_counts.reshape((4,) * n_bases)
    # Reversing the axes reverses the word; reversing each axis complements it (A0 <-> T3, C1 <-> G2).
    return (axes + np.flip(axes.transpose())).reshape(-1)


def both_strands(word_counts: Counts, order: int) -> Counts:
    """Add to each word of 2 order + 1 bases the count of its reverse complement; ``(4**k, 4, 4**k)``.

    Examples
    --------
    >>> both_strands(np.array([5, 2, 0, 1]), 0).reshape(4).tolist()
    [6, 2, 2, 6]
    """
    return on_both_strands(word_counts).reshape(4**order, 4, 4**order)


def count_flanks(corpus: Corpus, max_order: int = MAX_ORDER, reporter: Reporter | None = None) -> FlankCounts:
    """Count every base of the train windows between its flanks, once, on both strands.

    Bases that two overlapping windows share are counted once. Words that touch an N are not counted.

    Parameters
    ----------
    corpus
        Its train windows are read, and nothing else.
    max_order
        Largest k, 0 to 5. See :class:`FlankCounts` for the memory.
    reporter
        Where progress goes.
    """
    words = [np.zeros(4 ** (2 * order + 1), np.int64) for order in range(max_order + 1)]
    ids = corpus.window_ids("train")
    task = reporter_or_silent(reporter).start("Markov counts", len(ids), "windows")
    assembly, contig, end = "", "", 0
    for i in ids:
        window = corpus.window(int(i))
        codes, _ = corpus.read_window(int(i))
        same_contig = (window.assembly, window.contig) == (assembly, contig)
        shared_bp = max(0, end - window.start) if same_contig else 0
        for order, counts in enumerate(words):
            # Words that end before `end` were counted with the window before.
            count_words(codes, max(0, shared_bp - 2 * order), counts, 2 * order + 1)
        assembly, contig, end = window.assembly, window.contig, window.end
        task.advance()
    task.close()
    return FlankCounts(tuple(both_strands(counts, order) for order, counts in enumerate(words)))


def count_flanks_of(pieces: Iterable[Codes], max_order: int = MAX_ORDER) -> FlankCounts:
    """Count every base of some sequences between its flanks, on both strands; words that touch an N are not counted.

    Parameters
    ----------
    pieces
        Base codes, ``(L_i,)`` each; what lies between two of them is no word.
    max_order
        As in :func:`count_flanks`.

    Examples
    --------
    >>> count_flanks_of([np.array([0, 0, 1], np.uint8)], 0).tables[0].reshape(4).tolist()
    [2, 1, 1, 2]
    """
    words = [np.zeros(4 ** (2 * order + 1), np.int64) for order in range(max_order + 1)]
    for codes in pieces:
        for order, counts in enumerate(words):
            count_words(codes, 0, counts, 2 * order + 1)
    return FlankCounts(tuple(both_strands(counts, order) for order, counts in enumerate(words)))


@dataclass(frozen=True)
class _Gathered:
    """Counts around n hidden bases: ``counts`` ``(n, max_order + 1, 4)``, ``known`` ``(n,)``."""

    positions: Counts
    known: Counts
    counts: Floats


def _gather(counts: FlankCounts, codes: Codes, hidden: Mask, max_order: int) -> _Gathered:
    positions, known, left, right = _flanks(codes, hidden, max_order)
    gathered = np.empty((len(positions), max_order + 1, 4))
    for order in range(max_order + 1):
        gathered[:, order] = counts.tables[order][left[:, order], :, right[:, order]]
    return _Gathered(positions, known, gathered)


def _probabilities(gathered: _Gathered, composition: Floats, strength: float) -> Iterable[Floats]:
    """Predictions ``(n, 4)`` of the models of order 0, 1, 2 and so on."""
    p = np.broadcast_to(composition, (len(gathered.known), 4))
    yield p
    for order in range(1, gathered.counts.shape[1]):
        seen = gathered.counts[:, order]
        mixed = (seen + strength * p) / (seen.sum(1, keepdims=True) + strength)
        p = np.where((gathered.known >= order)[:, None], mixed, p)
        yield p


@dataclass(frozen=True)
class FlankModel:
    r"""Two-flank Markov model of order k with interpolated back-off.

    :math:`p_j(x \mid l_j, r_j) = (c_j(l_j, x, r_j) + a\,p_{j-1}(x)) / (n_j(l_j, r_j) + a)`, and
    :math:`p_0` is the base composition. ``l_j`` and ``r_j`` are the j bases on the left and on the right.
    A hidden base is predicted with the largest :math:`j \le k` whose 2j flanking bases are all known:
    inside the window, not N, and not hidden themselves.

    Parameters
    ----------
    counts
        Of the train windows.
    order
        k.
    strength
        a, how many observations the shorter context is worth.
    """

    counts: FlankCounts
    order: int
    strength: float

    def log_probs(self, codes: Codes, hidden: Mask) -> Floats:
        """Natural-log probabilities of A, C, G, T at the hidden bases of one window, ``(n_hidden, 4)``."""
        gathered = _gather(self.counts, codes, hidden, self.order)
        *_, p = _probabilities(gathered, self.counts.composition, self.strength)
        return np.log(p)

    def masked_log_probs(self, codes: Sequence[Codes], hidden: Sequence[Mask]) -> list[Floats]:
        """Like ``Predictor.masked_log_probs``, so that every row of the table is scored by one function."""
        return [self.log_probs(*window) for window in zip(codes, hidden, strict=True)]


@dataclass(frozen=True)
class OrderChoice:
    """Which order and strength did best on the validation windows.

    Attributes
    ----------
    order, strength
        The choice.
    valid_loss
        Mean loss in nats, ``(len(STRENGTHS), max_order + 1)``.
    n_bases
        Hidden validation bases behind each number.
    """

    order: int
    strength: float
    valid_loss: Floats
    n_bases: int

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON: the choice, and the best loss of each order."""
        return {
            "order": self.order,
            "strength": self.strength,
            "valid_loss_by_order": [float(loss) for loss in self.valid_loss.min(0)],
            "n_valid_bases": self.n_bases,
        }


def choose_order(counts: FlankCounts, windows: Iterable[tuple[Codes, Mask]]) -> OrderChoice:
    """Try every order up to ``counts.max_order`` and every strength on hidden bases of validation windows.

    Parameters
    ----------
    counts
        Of the train windows.
    windows
        ``(codes, hidden)`` of each validation window.

    Returns
    -------
    The pair with the lowest loss; of equals the lowest order, then the lowest strength.

    Raises
    ------
    ValueError
        If no base is hidden.
    """
    losses = np.zeros((len(STRENGTHS), counts.max_order + 1))
    n_bases = 0
    for codes, hidden in windows:
        gathered = _gather(counts, codes, hidden, counts.max_order)
        truth = codes[gathered.positions].astype(np.int64)[:, None]
        n_bases += len(truth)
        for row, strength in enumerate(STRENGTHS):
            for order, p in enumerate(_probabilities(gathered, counts.composition, strength)):
                losses[row, order] -= np.log(np.take_along_axis(p, truth, axis=1)).sum()
    if not n_bases:
        raise ValueError("no hidden base to choose the order on")
    losses /= n_bases
    by_order = losses.min(0)
    order = int(by_order.argmin())
    return OrderChoice(order, STRENGTHS[int(losses[:, order].argmin())], losses, n_bases)
