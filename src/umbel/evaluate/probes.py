"""Linear probe: how well a straight cut through embeddings tells CDS, intron and intergenic windows apart.

Everything is fitted on train contigs, chosen on valid contigs, and reported on test contigs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from umbel.data.labelled.task import Task
from umbel.evaluate.baselines.kmer_counts import kmer_frequencies
from umbel.evaluate.baselines.linear import LinearFit, fit_linear
from umbel.evaluate.baselines.probe import Embedder, embed_sequences
from umbel.evaluate.metrics import classification, paired_difference
from umbel.genome.annotation import REGIONS
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.data.corpus.store import Corpus

Codes = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

CLASSES = ("cds", "intron", "intergenic")
TASK = Task("multiclass", CLASSES)
ROLES = ("train", "valid", "test")
MIN_REGION_FRAC = 0.9
MIN_PER_CLASS = 10
BLOCK_BP = 10_000
PENALTIES = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths C of the L2 penalty that are tried on the valid contigs."""
WORD_SIZES = (2, 3, 4, 5)
"""Values of k that the k-mer row tries on the valid contigs; k = 1 is the GC row."""

_READ_BP = 1 << 20


@dataclass(frozen=True)
class ProbeWindows:
    """The labelled windows of one role, in genome order.

    Attributes
    ----------
    codes
        One ``(probe_bp,)`` array a window.
    labels
        Index into :data:`CLASSES`, ``(n,)``.
    blocks
        Id of the 10-kb block that a window starts in, ``(n,)``.
    """

    codes: list[Codes]
    labels: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.int64]

    @property
    def class_counts(self) -> dict[str, int]:
        """Windows of each class."""
        counts = np.bincount(self.labels, minlength=len(CLASSES))
        return dict(zip(CLASSES, counts.tolist(), strict=True))


def find_windows(corpus: Corpus, role: str, probe_bp: int, n_per_class: int, seed: int) -> ProbeWindows | None:
    """Cut the contigs of a role into windows, keep the clear cases, and draw at most n of each class.

    A window is clear when 90 % of its bases are of one class, and no more of them are N than the
    corpus allows. Windows do not overlap.

    Parameters
    ----------
    corpus
        With region classes for at least one assembly.
    role
        ``"train"``, ``"valid"`` or ``"test"``.
    probe_bp
        Length of a window.
    n_per_class
        Most windows of one class; drawn without replacement by ``seed``.
    seed
        Same seed, same windows.

    Returns
    -------
    The windows, or None where no contig of this role has annotation.
    """
    places: list[tuple[str, str, int]] = []
    labels: list[npt.NDArray[np.int64]] = []
    is_annotated = False
    step_bp = max(1, _READ_BP // probe_bp) * probe_bp
    for contig in corpus.contigs(role):
        for start in range(0, contig.length - probe_bp + 1, step_bp):
            end = start + min(step_bp, (contig.length - start) // probe_bp * probe_bp)
            regions = corpus.regions(contig.assembly, contig.contig, start, end)
            if regions is None:
                break
            is_annotated = True
            codes, _ = corpus.read(contig.assembly, contig.contig, start, end)
            found = _label(regions.reshape(-1, probe_bp), codes.reshape(-1, probe_bp), corpus.config.max_n_frac)
            clear = np.flatnonzero(found >= 0)
            labels.append(found[clear])
            places += [(contig.assembly, contig.contig, start + int(i) * probe_bp) for i in clear]
    if not is_annotated:
        return None
    every_label = np.concatenate(labels) if labels else np.empty(0, np.int64)
    chosen = []
    for label in range(len(CLASSES)):
        rng = np.random.default_rng([seed, ROLES.index(role), label])
        candidates = np.flatnonzero(every_label == label)
        chosen.append(rng.permutation(candidates)[:n_per_class])
    order = np.sort(np.concatenate(chosen))
    block_ids: dict[tuple[str, str, int], int] = {}
    blocks = [block_ids.setdefault((*places[i][:2], places[i][2] // BLOCK_BP), len(block_ids)) for i in order]
    sequences = []
    for i in order:
        assembly, contig, start = places[i]
        sequences.append(corpus.read(assembly, contig, start, start + probe_bp)[0])
    return ProbeWindows(sequences, every_label[order], np.array(blocks, np.int64))


def _label(regions: Codes, codes: Codes, max_n_frac: float) -> npt.NDArray[np.int64]:
    """Class of each row, -1 where it is not clear."""
    labels = np.full(len(regions), -1, np.int64)
    n_frac = (codes > 3).mean(axis=1)
    has_bases = (n_frac <= max_n_frac) & (n_frac < 1)
    for label, name in enumerate(CLASSES):
        labels[((regions == REGIONS.index(name)).mean(axis=1) >= MIN_REGION_FRAC) & has_bases] = label
    return labels


def find_all_windows(
    corpus: Corpus, probe_bp: int, n_per_class: int, seed: int
) -> tuple[dict[str, ProbeWindows], str | None]:
    """Windows of every role, and in words why there can be no probe (None: there can)."""
    windows: dict[str, ProbeWindows] = {}
    for role in ROLES:
        if not corpus.contigs(role):
            return windows, f"The corpus has no {role} contigs."
        found = find_windows(corpus, role, probe_bp, n_per_class, seed)
        if found is None:
            return windows, f"The corpus has no annotation (GFF3) on its {role} contigs, so windows have no classes."
        windows[role] = found
    for role, found in windows.items():
        few = [f"{count} {name}" for name, count in found.class_counts.items() if count < MIN_PER_CLASS]
        if few:
            return windows, (
                f"The {role} contigs have only {' and '.join(few)} windows of {probe_bp} bp that are at least "
                f"{MIN_REGION_FRAC:.0%} of one class; the probe needs {MIN_PER_CLASS} of each."
            )
    return windows, None


def embed_windows(
    embedder: Embedder, windows: dict[str, ProbeWindows], title: str = "probe", reporter: Reporter | None = None
) -> dict[str, Features]:
    """Embeddings of every role's windows, both strands averaged, ``(n, D)`` each."""
    progress = reporter_or_silent(reporter).start(title, sum(len(w.codes) for w in windows.values()), "windows")
    features = {
        role: embed_sequences(embedder, found.codes, "both", progress.advance) for role, found in windows.items()
    }
    progress.close()
    return features


def fit_probe(featurise: dict[str, Callable[[str], Features]], windows: dict[str, ProbeWindows]) -> dict[str, Any]:
    """Fit one row of the probe table: each variant and penalty on train, the best on valid, predictions on test.

    Parameters
    ----------
    featurise
        Variant name to a function from role to features ``(n, D)``; a row without variants has one.
    windows
        Of the three roles.

    Returns
    -------
    ``variant`` and ``penalty`` (chosen), ``valid_macro_f1``, ``n_features``, ``is_converged``, and
    ``predictions`` (class index of each test window).
    """
    best: tuple[str, LinearFit] | None = None
    for variant, features_of in featurise.items():
        fit = fit_linear(
            TASK,
            features_of("train"),
            windows["train"].labels,
            features_of("valid"),
            windows["valid"].labels,
            inverse_strengths=PENALTIES,
            class_weight="balanced",
            select="macro_f1",
        )
        if best is None or fit.dev_score > best[1].dev_score:
            best = variant, fit
    if best is None:
        raise ValueError("a row of the probe table needs at least one kind of features")
    variant, fit = best
    return {
        "variant": variant,
        "penalty": fit.penalty,
        "valid_macro_f1": fit.dev_score,
        "n_features": fit.n_features,
        "is_converged": fit.is_converged,
        "predictions": fit.scores(featurise[variant]("test")).argmax(axis=1).tolist(),
    }


def fit_embedding_probe(
    embedder: Embedder, windows: dict[str, ProbeWindows], title: str = "probe", reporter: Reporter | None = None
) -> dict[str, Any]:
    """Fit the row of one network; see :func:`fit_probe`."""
    return fit_probe({"": embed_windows(embedder, windows, title, reporter).__getitem__}, windows)


def fit_kmer_probes(windows: dict[str, ProbeWindows]) -> dict[str, dict[str, Any]]:
    """Fit the rows ``kmer`` (k chosen on valid) and ``gc``; see :func:`fit_probe`."""

    def of_size(k: int) -> Callable[[str], Features]:
        return lambda role: kmer_frequencies(windows[role].codes, k)

    return {
        "kmer": fit_probe({f"k={k}": of_size(k) for k in WORD_SIZES}, windows),
        "gc": fit_probe({"": of_size(1)}, windows),
    }


def summarise_probes(
    rows: dict[str, dict[str, Any]], windows: dict[str, ProbeWindows], *, n_draws: int, seed: int
) -> dict[str, Any]:
    """Make the probe table from each row's predictions on the test windows.

    Parameters
    ----------
    rows
        Row name to the result of :func:`fit_probe`; one is called ``model``.
    windows
        Of the three roles.
    n_draws, seed
        Of the bootstrap over 10-kb blocks.

    Returns
    -------
    ``rows`` with ``macro_f1`` and ``mcc`` (value, low, high) and what was chosen; ``differences``,
    model minus row; ``class_counts`` per role; ``n_blocks``.
    """
    test = windows["test"]
    scores = {
        name: classification(
            test.labels, np.array(row["predictions"]), test.blocks, len(CLASSES), n_draws=n_draws, seed=seed
        )
        for name, row in rows.items()
    }
    return {
        "classes": list(CLASSES),
        "class_counts": {role: found.class_counts for role, found in windows.items()},
        "n_blocks": scores["model"].n_blocks,
        "rows": {
            name: {"macro_f1": scores[name].macro_f1.to_dict(), "mcc": scores[name].mcc.to_dict()}
            | {key: value for key, value in row.items() if key != "predictions"}
            for name, row in rows.items()
        },
        "differences": {
            name: {key: value.to_dict() for key, value in paired_difference(scores["model"], scores[name]).items()}
            for name in rows
            if name != "model"
        },
    }
