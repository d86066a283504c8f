"""The result of mutating a region: arrays, and the files they become."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.files import whole_file
from umbel.genome.interval import Interval
from umbel.genome.sequence import BASES, Codes, N

DELETION = "del"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class IsmResult:
    """Scores of every mutation of a region of n bases.

    Attributes
    ----------
    region
        The place, forward strand.
    ref
        uint8 ``(n,)``: its bases.
    kinds
        Columns of ``llr``: A, C, G, T, and ``del`` where deletions were asked for.
    llr
        float32 ``(n, 4 or 5)``: ln P(base) - ln P(reference base), in nats, 0 for the reference itself; of a deletion
        its score. NaN where the reference is N.
    log_probs
        float32 ``(n, 4)``: ln P of A, C, G and T where the base is hidden; NaN where it is N.
    head
        Name of a head's output to float32 ``(n, 4)``: output with the substitution minus output without, 0 for the
        reference itself, NaN where it is N.
    n_unknown
        Bases of the region that are N.
    n_without_context
        Other bases without a score: their windows have fewer known bases than a token.
    n_short_windows
        Bases whose window was cut short by an end of the contig.
    n_windows_with_n
        Bases whose window holds an N.
    facts
        What the result comes from, as plain JSON.
    files
        Names to what was written; empty where nothing was.
    """

    region: Interval
    ref: Codes
    kinds: tuple[str, ...]
    llr: Floats
    log_probs: Floats
    head: Mapping[str, Floats]
    n_unknown: int
    n_without_context: int
    n_short_windows: int
    n_windows_with_n: int
    facts: Mapping[str, Any]
    files: Mapping[str, Path] = field(default_factory=dict)

    def rows(self) -> Iterator[list[str]]:
        """Yield the lines of the TSV as their fields: a header, then one line a substitution or deletion."""
        yield ["contig", "pos", "ref", "alt", "llr", "ln_p_ref", "ln_p_alt", *(f"head:{name}" for name in self.head)]
        # A deletion has no probability of its own, and N none at all.
        known = (self.ref[:, None] < N) & (np.arange(len(self.kinds)) < N)
        for i, base in enumerate(self.ref.tolist()):
            place = [self.region.contig, str(self.region.start + i + 1), BASES[base]]
            for j, kind in enumerate(self.kinds):
                if j == base < N:
                    continue
                asked = (
                    [*self.log_probs[i, [base, j]], *(values[i, j] for values in self.head.values())]
                    if known[i, j]
                    else ()
                )
                told = [_text(value) for value in asked] or ["."] * (2 + len(self.head))
                yield [*place, kind, _text(self.llr[i, j]), *told]

    def anndata(self) -> Any:
        """Give the result as AnnData: positions by bases, ``X`` the scores, layers the log-probabilities and heads."""
        import pandas as pd
        from anndata import AnnData

        positions = self.region.start + 1 + np.arange(len(self.ref))
        obs = pd.DataFrame(
            {
                "contig": pd.Categorical([self.region.contig] * len(self.ref)),
                "pos": positions,
                "ref": pd.Categorical([BASES[base] for base in self.ref], categories=list(BASES)),
            },
            index=[f"{self.region.contig}:{position}" for position in positions],
        )
        found = AnnData(
            X=self.llr,
            obs=obs,
            var=pd.DataFrame(index=list(self.kinds)),
            uns={"umbel": json.dumps(self.facts, sort_keys=True)},
        )
        for name, values in {"log_prob": self.log_probs, **{f"head:{n}": v for n, v in self.head.items()}}.items():
            layer = np.full(self.llr.shape, np.nan, np.float32)
            layer[:, :4] = values
            found.layers[name] = layer
        return found

    def write_table(self, path: Path) -> None:
        """Write the TSV, whole or not at all."""
        with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as handle:
            for fields in self.rows():
                handle.write("\t".join(fields) + "\n")

    def write_anndata(self, path: Path) -> None:
        """Write the ``.h5ad``, whole or not at all."""
        with whole_file(path) as temporary:
            self.anndata().write_h5ad(temporary)


def _text(value: np.floating[Any]) -> str:
    """Write a number, or ``.`` where there is none."""
    return "." if np.isnan(value) else f"{value:.6g}"
