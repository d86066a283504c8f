"""Which experts fire where: load per MoE layer, and the share of each expert on each class of bases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from umbel.evaluate.metrics import Resamples, interval
from umbel.genome.annotation import REGIONS
from umbel.model.routing import expert_load
from umbel.progress import Reporter, reporter_or_silent

if TYPE_CHECKING:
    from umbel.data.corpus.store import Corpus

Codes = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

CLASSES = ("cds", "utr", "intron", "intergenic", "noncoding", "repeat")
"""The five region classes exclude each other; ``repeat`` (soft-masked bases) cuts across them."""

CHUNK_WINDOWS = 64
# Neighbouring windows are resampled together beyond this many, which also bounds the memory.
MAX_UNITS = 2000


class Router(Protocol):
    """The part of the predictor that the expert tables use."""

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Index of each layer that has experts."""

    @property
    def n_experts(self) -> int:
        """Experts per layer."""

    def routes(self, codes: Sequence[Codes]) -> Sequence[npt.NDArray[Any]]:
        """Expert ids chosen at each base, one ``(n_moe_layers, L_i, K)`` a window."""


def count_routes(
    routes: npt.NDArray[Any], codes: Codes, soft_mask: npt.NDArray[np.bool_], regions: Codes | None, n_experts: int
) -> Counts:
    """Count one window's routed slots, ``(n_moe_layers, n_experts, len(CLASSES) + 1)``; the last column is all bases.

    Only A, C, G and T are counted. Without annotation (``regions`` None) the region columns stay 0.

    Parameters
    ----------
    routes
        Expert ids, ``(n_moe_layers, L, K)``.
    codes, soft_mask, regions
        Of the same window, ``(L,)`` each.
    n_experts
        Experts per layer.
    """
    real = codes <= 3
    member = np.zeros((len(CLASSES) + 1, len(codes)), bool)
    member[-1] = real
    for column, name in enumerate(CLASSES):
        if name == "repeat":
            member[column] = real & soft_mask
        elif regions is not None:
            member[column] = real & (regions == REGIONS.index(name))
    counts = np.zeros((len(routes), n_experts, len(member)), np.int64)
    for layer, experts_LK in enumerate(routes):
        for column, bases in enumerate(member):
            counts[layer, :, column] = np.bincount(experts_LK[bases].ravel(), minlength=n_experts)
    return counts


def record_experts(
    router: Router,
    corpus: Corpus,
    ids: Counts,
    *,
    n_draws: int,
    seed: int,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    r"""Load of each expert, and its share on each class of bases, in the windows ``ids``.

    With :math:`n_{lec}` the slots (K per base) that layer l's router gave to expert e at bases of class c,

    - load :math:`= n_{le} / \sum_e n_{le}` over all bases; max/mean, CV and dead experts as in
      :func:`umbel.model.routing.expert_load`;
    - share :math:`= n_{lec} / \sum_e n_{lec}`: of the slots at bases of class c, those that went to e.
      The shares of a class add up to 1 over the experts.

    Intervals are 95 %, from resampling windows (groups of neighbouring windows beyond 2,000).

    Parameters
    ----------
    router
        The predictor.
    corpus, ids
        Windows to route, nothing hidden.
    n_draws, seed
        Of the bootstrap.
    reporter
        Where progress goes.

    Returns
    -------
    ``classes``, ``n_bases`` per class, ``missing`` (class to the reason why it has no numbers), and
    ``layers``: for each MoE layer ``layer``, ``load``, ``max_over_mean``, ``cv``, ``n_dead`` and
    ``share`` (class to one estimate per expert). A model without experts gives only ``missing_all``.
    """
    if not router.moe_layers:
        return {"missing_all": "The model has no expert layers."}
    group = np.arange(len(ids)) * min(len(ids), MAX_UNITS) // len(ids)
    n_layers, n_columns = len(router.moe_layers), len(CLASSES) + 1
    counts = np.zeros((int(group[-1]) + 1, n_layers, router.n_experts, n_columns), np.int64)
    bases = np.zeros(n_columns, np.int64)
    is_annotated = False
    task = reporter_or_silent(reporter).start("experts", len(ids), "windows")
    for first in range(0, len(ids), CHUNK_WINDOWS):
        chunk = ids[first : first + CHUNK_WINDOWS].tolist()
        read = [corpus.read_window(i) for i in chunk]
        for offset, routes in enumerate(router.routes([codes for codes, _ in read])):
            where = corpus.window(chunk[offset])
            regions = corpus.regions(where.assembly, where.contig, where.start, where.end)
            is_annotated |= regions is not None
            found = count_routes(routes, *read[offset], regions, router.n_experts)
            counts[group[first + offset]] += found
            bases += found[0].sum(axis=0) // routes.shape[-1]
        task.advance(len(chunk))
    task.close()
    return {
        "classes": list(CLASSES),
        "n_experts": router.n_experts,
        "n_windows": len(ids),
        "n_bases": dict(zip((*CLASSES, "all"), bases.tolist(), strict=True)),
        "missing": _missing(bases, is_annotated),
        "layers": _summarise(counts, router.moe_layers, n_draws, seed),
    }


def _missing(bases: Counts, is_annotated: bool) -> dict[str, str]:
    """Why a class has no numbers."""
    reasons = {}
    for name, n_bases in zip(CLASSES, bases, strict=False):
        if n_bases == 0:
            no_annotation = name != "repeat" and not is_annotated
            reasons[name] = "no annotation (GFF3)" if no_annotation else "no such bases in these windows"
    return reasons


def _summarise(counts: Counts, layers: tuple[int, ...], n_draws: int, seed: int) -> list[dict[str, Any]]:
    n_units = len(counts)
    totals = counts.sum(axis=0)
    draws = Resamples(n_units, n_draws, seed).sums(counts)
    of_class = draws.sum(axis=2, keepdims=True)
    share_draws = draws / np.where(of_class > 0, of_class, 1)
    summary = []
    for index, layer in enumerate(layers):
        load = expert_load(totals[index, :, -1])
        share: dict[str, Any] = {}
        for column, name in enumerate((*CLASSES, "all")):
            total = totals[index, :, column].sum()
            if not total:
                continue
            # Draws in which the class did not occur say nothing about its share.
            seen = of_class[:, index, 0, column] > 0
            share[name] = [
                interval(
                    totals[index, expert, column] / total, share_draws[seen, index, expert, column], n_units
                ).to_dict()
                for expert in range(counts.shape[2])
            ]
        summary.append(
            {
                "layer": int(layer),
                "load": load.load,
                "max_over_mean": load.max_over_mean,
                "cv": load.cv,
                "n_dead": load.n_dead,
                "share": share,
            }
        )
    return summary
