"""Scores of the drawn substitutions by a model: one masked pass a place and strand, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.evaluate.zero_shot.rows import Rows
from umbel.genome.reference import Reference
from umbel.predict.ism.passes import base_log_probs, place_window
from umbel.predict.parts import open_parts, write_part
from umbel.predict.predictor import Predictor
from umbel.progress import Reporter

Floats = npt.NDArray[np.float64]

PLACES_PER_PART = 128
"""Places that are computed and stored together; what a killed run repeats at most."""


def model_scores(
    predictor: Predictor,
    reference: Reference,
    rows: Rows,
    flank_bp: int,
    folder: Path,
    identity: Mapping[str, object],
    reporter: Reporter,
    title: str,
) -> Floats:
    """Log-likelihood ratio of the reference against the allele, ``(n,)``: the ``llr`` of ``umbel variants``, negated.

    Parameters
    ----------
    predictor
        Trained, or with random weights.
    reference, rows
        Where, and what.
    flank_bp
        Bases on either side of a place.
    folder, identity
        Where finished parts wait, and whose they are.
    reporter, title
        Where progress goes, and what it is called.

    Returns
    -------
    float64; NaN where a window has fewer known bases than a token.
    """
    places, row_of = np.unique(np.column_stack((rows.contig, rows.position)), axis=0, return_inverse=True)
    tables = [pq.read_table(path) for path in open_parts(folder, dict(identity) | {"weights": predictor.weights_hash})]
    n_done = sum(len(table) for table in tables)
    task = reporter.start(title, len(places), "places", done=n_done)
    for first in range(n_done, len(places), PLACES_PER_PART):
        some = places[first : first + PLACES_PER_PART].tolist()
        windows = [place_window(reference, rows.contigs[contig], position, flank_bp) for contig, position in some]
        logs = base_log_probs(predictor, windows)
        tables.append(pa.table({base: np.ascontiguousarray(logs[:, i]) for i, base in enumerate("ACGT")}))
        write_part(folder, first // PLACES_PER_PART, tables[-1])
        task.advance(len(some))
    task.close()
    whole = pa.concat_tables(tables)
    by_place = np.column_stack([whole[base].to_numpy() for base in "ACGT"]).astype(np.float64)
    place = row_of.reshape(-1)
    found: Floats = by_place[place, rows.ref] - by_place[place, rows.alt]
    return found
