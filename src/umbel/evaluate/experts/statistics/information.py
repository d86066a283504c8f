"""How much an expert tells about the class of an item, and how much of that the letters around it tell already.

Shapes: U units, C classes, X contexts, E experts, S shifted labels. Natural logarithms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import entr

from umbel.evaluate.experts.statistics.divergence import generalised_js, shares_of
from umbel.evaluate.experts.statistics.units import Floats, corrected, percentiles, resampled
from umbel.evaluate.metrics import Estimate, Resamples


def mutual_information(joint_CE: npt.NDArray[Any]) -> Floats:
    r"""Mutual information of class and expert, in nats, as counted: classes weigh by their items.

    :math:`H(C) + H(E) - H(C, E)`; 0 to min(ln C, ln E). Counting makes it too large; the bias is taken off by
    :func:`miller_madow` where choices are independent, and by :func:`describe_information` along a genome.

    Parameters
    ----------
    joint_CE
        ``(..., C, E)`` choices. Where items take several experts it is about one of these, drawn at random.

    Returns
    -------
    ``(...)``; NaN without any choices.

    References
    ----------
    Cover & Thomas 2006, "Elements of Information Theory", eq. 2.28 and 2.45.

    Examples
    --------
    >>> float(mutual_information(np.diag([5, 5]))) == math.log(2)
    True
    """
    joint = np.asarray(joint_CE, np.float64)
    p = shares_of(joint.reshape(*joint.shape[:-2], -1)).reshape(joint.shape)
    found = entr(p.sum(-1)).sum(-1) + entr(p.sum(-2)).sum(-1) - entr(p).sum((-1, -2))
    return np.maximum(found, 0)


def miller_madow(joint_CE: npt.NDArray[Any]) -> Floats:
    r"""Mutual information with the bias of N independent choices taken off, in nats; may be below 0.

    :math:`I - (m_{CE} - m_C - m_E + 1) / (2 N)`, m the numbers of cells, rows and columns with choices. Neighbouring
    bases are not independent, and then this takes off too little.

    Parameters
    ----------
    joint_CE
        ``(..., C, E)`` choices, at least one.

    References
    ----------
    Miller 1955, "Note on the bias of information estimates"; Paninski 2003, Neural Computation 15:1191, section 4.

    Examples
    --------
    >>> float(miller_madow(np.full((2, 2), 25)))
    -0.005
    """
    joint = np.asarray(joint_CE, np.float64)
    seen = joint > 0
    n_free = seen.sum((-1, -2)) - seen.any(-1).sum(-1) - seen.any(-2).sum(-1) + 1
    return mutual_information(joint) - n_free / (2 * joint.sum((-1, -2)))


@dataclass(frozen=True)
class Information:
    """What one router's choice tells about the class of an item; in nats.

    Attributes
    ----------
    mi
        Mutual information as counted, with a percentile interval over units.
    corrected
        The same with the jackknife's bias taken off; its interval can hold 0.
    js
        Generalised Jensen-Shannon divergence: the information if classes were equally frequent; corrected too.
    n_classes
        Classes with items.
    bound
        min(ln C, ln E) over these classes, the most that the three can be.
    """

    mi: Estimate
    corrected: Estimate
    js: Estimate
    n_classes: int
    bound: float


def describe_information(joint_UCE: npt.NDArray[Any], *, n_draws: int = 1000, seed: int = 0) -> Information:
    """Measure how much the choice tells about the class, with intervals over units.

    Parameters
    ----------
    joint_UCE
        ``(U, C, E)`` choices.
    n_draws, seed
        Bootstrap draws, and what makes them the same each time.

    Raises
    ------
    ValueError
        If no item has a class.

    Examples
    --------
    >>> joint = np.array([[[9, 1], [2, 8]], [[8, 2], [1, 9]]])
    >>> found = describe_information(joint, n_draws=50)
    >>> round(found.mi.value, 3), found.n_classes, found.bound == math.log(2)
    (0.27, 2, True)
    """
    joint = np.asarray(joint_UCE, np.float64)
    total = joint.sum(0)
    n_classes = int(total.any(-1).sum())
    if not n_classes:
        raise ValueError("the information about a class, where no item has one")
    resamples = Resamples(len(joint), n_draws, seed)
    draws = resampled(mutual_information, joint, resamples)
    return Information(
        mi=percentiles(mutual_information(total), draws, len(joint)).estimate(),
        corrected=corrected(mutual_information, joint, resamples, draws=draws).estimate(),
        js=corrected(generalised_js, joint, resamples).estimate(),
        n_classes=n_classes,
        bound=math.log(min(n_classes, total.shape[1])),
    )


@dataclass(frozen=True)
class Chance:
    """Mutual information when labels are moved to where they do not belong; in nats.

    Attributes
    ----------
    floor
        Its mean: what counting gives where expert and class have nothing to do with each other.
    p
        Part of the moved labels that reach the value counted, (1 + n) / (1 + S).
    """

    floor: float
    p: float


def information_by_chance(joint_CE: npt.NDArray[Any], shifted_SCE: npt.NDArray[Any]) -> Chance:
    """Test whether a router tells classes apart at all: one test for all experts and classes of a labelling.

    Parameters
    ----------
    joint_CE
        ``(C, E)`` choices.
    shifted_SCE
        ``(S, C, E)``: the same with labels turned along their stretches, or with the classes of units permuted
        (:func:`~umbel.evaluate.experts.statistics.enrichment.permutation`).

    References
    ----------
    Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39 (why 1 is added).

    Examples
    --------
    >>> moved = np.array([[[3, 2], [2, 3]]] * 9)
    >>> information_by_chance(np.array([[5, 0], [0, 5]]), moved).p
    0.1
    """
    by_chance = mutual_information(shifted_SCE)
    # Sums in another order differ in the last digits.
    n_reach = int((by_chance >= mutual_information(joint_CE) - 1e-12).sum())
    return Chance(float(by_chance.mean()), (1 + n_reach) / (1 + len(by_chance)))


@dataclass(frozen=True)
class ContextShare:
    """The part of a divergence that the contexts of items explain alone.

    Attributes
    ----------
    share
        ``explained`` over ``divergence``; None where ``reason`` says why.
    explained
        Generalised divergence, in nats, of a router that looks at the context only.
    divergence
        That of the router itself, in nats.
    items_per_context
        Mean number of items in a context that occurs. With few, a context is almost an item, and explains whatever
        there is: compare contexts of hundreds.
    reason
        Empty where there is a share.
    """

    share: float | None
    explained: float
    divergence: float
    items_per_context: float
    reason: str


def explained_by_context(
    joint_CE: npt.NDArray[Any],
    class_contexts_CX: npt.NDArray[Any],
    contexts_XE: npt.NDArray[Any],
    *,
    measured: Estimate | None = None,
) -> ContextShare:
    r"""Tell how much of the divergence among classes their composition of contexts explains.

    Each class c is given the routing that it would have if the expert depended on the context x alone, :math:`\sum_x
    n_c(x) p(e | x)` with :math:`p(e | x)` over all items; the generalised divergence of these over that of the counts.
    1 for a router that looks up the context; 0 where classes have the same contexts. Whether the context *is* what the
    router looks at is not shown by this: it may follow something that goes with it.

    Parameters
    ----------
    joint_CE
        ``(C, E)`` choices at items of each class.
    class_contexts_CX
        ``(C, X)`` items of each class in each context.
    contexts_XE
        ``(X, E)`` choices in each context, over all items.
    measured
        The generalised divergence with an interval (``js`` of :func:`describe_information`); where that holds 0, there
        is nothing to explain, and no share.

    Raises
    ------
    ValueError
        If a class has items in a context in which nothing was chosen: the counts are of different items.

    References
    ----------
    Xue et al. 2024, "OpenMoE", arXiv:2402.01739, section 4.1 (routing by token identity).

    Examples
    --------
    A router that goes by the base, on a class of A and one of half A and half C:

    >>> found = explained_by_context(np.array([[8, 0], [4, 4]]), np.array([[8, 0], [4, 4]]), np.diag([12, 4]))
    >>> found.share
    1.0
    """
    joint, by_class, contexts = (np.asarray(x, np.float64) for x in (joint_CE, class_contexts_CX, contexts_XE))
    total_X = contexts.sum(-1)
    if ((by_class > 0) & (total_X == 0)).any():
        raise ValueError("a class has items in a context in which no expert was ever chosen: two different recordings")
    routing_XE = np.nan_to_num(shares_of(contexts))
    explained, divergence = float(generalised_js(by_class @ routing_XE)), float(generalised_js(joint))
    n_contexts = int((by_class.sum(0) > 0).sum())
    per_context = float(by_class.sum() / n_contexts) if n_contexts else 0.0
    reason = ""
    if int((joint.sum(-1) > 0).sum()) < 2:
        reason = "fewer than two classes have items"
    elif measured is not None and (measured.low is None or measured.low <= 0):
        reason = "the interval of the divergence holds 0, or there is none: there may be nothing to explain"
    elif divergence <= 0:
        reason = "the classes are routed alike"
    share = None if reason else explained / divergence
    return ContextShare(share, explained, divergence, per_context, reason)
