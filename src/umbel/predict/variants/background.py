"""Random variants of the same genome, scored as those of the file are: what a score is to be compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from umbel.errors import RunError
from umbel.files import sha256_json, whole_file
from umbel.genome.sequence import Codes, N, decode
from umbel.genome.variant import Genome, Kind, Variant, left_normalise
from umbel.predict.parts import metadata, open_parts, write_part
from umbel.predict.predictor import Predictor
from umbel.predict.variants.alleles import Limits
from umbel.predict.variants.calibration import Shape
from umbel.predict.variants.scores import HeadScore, Values, score_windows
from umbel.predict.variants.settings import VariantSettings
from umbel.predict.variants.windows import VariantWindow, cut_window
from umbel.progress import Reporter

Scores = dict[Shape, dict[str, Values]]

DRAWS_PER_PART = 20
"""Random variants that are scored and stored together; what a killed call repeats at most."""
_TRIES_A_DRAW = 500


class _Places:
    """Places of a genome, every base as likely as any other."""

    def __init__(self, genome: Genome, rng: np.random.Generator):
        self._genome, self._rng = genome, rng
        self._names = list(genome.lengths)
        self._ends = np.cumsum(list(genome.lengths.values()), dtype=np.int64)

    def stretch(self, length: int) -> tuple[str, int] | None:
        """Draw ``length`` bases; None where the draw goes beyond its contig."""
        place = int(self._rng.integers(self._ends[-1]))
        number = int(np.searchsorted(self._ends, place, side="right"))
        contig = self._names[number]
        start = place - (int(self._ends[number - 1]) if number else 0)
        return (contig, start) if start + length <= self._genome.lengths[contig] else None

    def letters(self, length: int) -> Codes | None:
        """Draw the bases of a stretch; None where the draw has an N."""
        drawn = self.stretch(length)
        if drawn is None:
            return None
        codes = self._genome.fetch(drawn[0], drawn[1], drawn[1] + length)
        return None if (codes == N).any() else codes


def draw_variants(
    shape: Shape, count: int, genome: Genome, limits: Limits, seed: int, tries_a_draw: int = _TRIES_A_DRAW
) -> list[VariantWindow]:
    """Draw variants of one shape, uniformly over the places of a genome whose windows have no N.

    Substitutions take each of the three other bases equally often. What is inserted is a stretch of the genome from
    elsewhere. Insertions and deletions are left-normalised. A class has its own random numbers, whatever others are
    drawn.

    Returns
    -------
    ``count`` of them, or fewer where ``tries_a_draw`` tries for each did not find them.
    """
    rng = np.random.default_rng([seed, shape.n_ref, shape.n_alt, int(shape.is_substitution)])
    places = _Places(genome, rng)
    found: list[VariantWindow] = []
    for _ in range(count * tries_a_draw):
        if len(found) == count:
            break
        drawn = places.stretch(max(1, shape.n_ref))
        if drawn is None:
            continue
        contig, start = drawn
        old = genome.fetch(contig, start, start + shape.n_ref)
        if (old == N).any():
            continue
        if shape.is_substitution:
            new: Codes | None = ((old + rng.integers(1, 4, len(old))) % 4).astype(np.uint8)
        else:
            new = places.letters(shape.n_alt) if shape.n_alt else np.zeros(0, np.uint8)
        if new is None:
            continue
        variant = Variant(contig, start, decode(old), decode(new)).trimmed()
        if (len(variant.ref), len(variant.alt)) != (shape.n_ref, shape.n_alt):
            continue
        window = cut_window(left_normalise(variant, genome), genome, limits.flank_bp)
        if not window.has_n and window.least_known >= limits.min_bases:
            found.append(window)
    return found


def score_background(
    predictor: Predictor,
    shapes: Iterable[Shape],
    genome: Genome,
    limits: Limits,
    settings: VariantSettings,
    folder: Path,
    head: HeadScore | None,
    reporter: Reporter,
) -> Scores:
    """Draw and score the variants of each class; what was stored in ``folder`` by an earlier call is taken as it is.

    Raises
    ------
    RunError
        If the folder belongs to another call.
    """
    todo = sorted(shapes)
    folders = {
        shape: folder / f"{'sub' if shape.is_substitution else 'other'}-{shape.n_ref}-{shape.n_alt}" for shape in todo
    }
    parts = {shape: open_parts(folders[shape], {"class": str(shape)}) for shape in todo}
    done = sum(min(len(there) * DRAWS_PER_PART, settings.background) for there in parts.values())
    task = reporter.start("background", settings.background * len(todo), "random variants", done=done)
    for shape, there in parts.items():
        firsts = range(0, settings.background, DRAWS_PER_PART)
        windows: list[VariantWindow] = []
        if len(there) < len(firsts):
            windows = draw_variants(shape, settings.background, genome, limits, settings.seed)
        kind: Kind = "snv" if shape.is_substitution else "complex"
        for first in firsts[len(there) :]:
            values = score_windows(predictor, windows[first : first + DRAWS_PER_PART], settings, head, kind)
            there.append(write_part(folders[shape], len(there), pa.table(values)))
            task.advance(min(DRAWS_PER_PART, settings.background - first))
    task.close()
    return {shape: _joined(there) for shape, there in parts.items()}


def _joined(parts: list[Path]) -> dict[str, Values]:
    whole = pa.concat_tables(map(pq.read_table, parts))
    return {name: whole[name].to_numpy() for name in whole.column_names}


def read_background(path: Path, identity: Mapping[str, object]) -> Scores:
    """Read the classes that an earlier call stored; none where there is no such file.

    Raises
    ------
    RunError
        If the file belongs to another model, genome or setting, or is damaged.
    """
    if not path.exists():
        return {}
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise RunError(
            f"{path}: is no background that umbel wrote ({error}): delete it, or name another file"
        ) from error
    told = (table.schema.metadata or {}).get(b"umbel_background", b"").decode()
    if told != sha256_json(identity):
        raise RunError(
            f"{path}: holds the background of another model, genome or setting (scores, window, longest allele, "
            "passes, draws, seed): name another --background-file"
        )
    result: Scores = {}
    for row in table.to_pylist():
        shape = Shape(row["n_ref"], row["n_alt"], row["is_substitution"])
        result.setdefault(shape, {})[row["score"]] = np.array(row["values"], np.float64)
    return result


def write_background(path: Path, scores: Scores, identity: Mapping[str, object]) -> None:
    """Store classes for other calls with the same model, genome and settings."""
    rows = [
        {
            "n_ref": shape.n_ref,
            "n_alt": shape.n_alt,
            "is_substitution": shape.is_substitution,
            "score": column,
            "values": values.tolist(),
        }
        for shape, columns in sorted(scores.items())
        for column, values in columns.items()
    ]
    schema = pa.schema(
        [
            ("n_ref", pa.int64()),
            ("n_alt", pa.int64()),
            ("is_substitution", pa.bool_()),
            ("score", pa.string()),
            ("values", pa.list_(pa.float64())),
        ],
        {**metadata(identity), "umbel_background": sha256_json(identity)},
    )
    with whole_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema), temporary)
