"""``igv.html``: genome, annotation and tracks in a browser, by double click and without a network."""

from __future__ import annotations

import base64
import gzip
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from umbel.errors import BackendError
from umbel.genome.reference import Reference
from umbel.genome.runs import Runs
from umbel.predict.tracks.annotation_rows import annotation_lines
from umbel.predict.tracks.bed import BgzipLines, label_colours
from umbel.predict.tracks.track import Track

_HERE = Path(__file__).parent
IGV = _HERE / "vendor" / "igv.min.js"
_SHOWN_BP = 20_000
_MOST_SEQUENCE = 1 << 30
_REFERENCE, _ANNOTATION = "reference.2bit", "annotation.gff3"


@dataclass(frozen=True)
class Page:
    """What a page shows.

    Attributes
    ----------
    title
        Of the page.
    tracks
        In the order in which they are drawn.
    files
        Track names to files beside the page; ``dominant`` and ``calls`` may be among them.
    places
        Contig to merged runs of the bases that have values.
    folder
        Name of the folder that the page will lie in.
    """

    title: str
    tracks: Sequence[Track]
    files: Mapping[str, str]
    places: Mapping[str, Runs]
    folder: str


def write_page(
    path: Path, page: Page, reference: Reference, annotation: str | Path | None = None, embed_bytes: int = 48_000_000
) -> bool:
    """Write the page, with all data in it if they are not larger than ``embed_bytes``.

    A page that was opened from disk may not read the files beside it. Where data are larger, the page asks for the
    folder once, and igv.js then reads of its files what it shows; sequence and annotation are written beside it.

    Returns
    -------
    Whether the data are in the page.

    Raises
    ------
    BackendError
        If jinja2 is not installed.
    AnnotationError
        If the annotation is wrong, or of other contigs.
    """
    try:
        from umbel.page import template

        page_template = template(_HERE, "igv.html", {})
    except ImportError as error:
        raise BackendError("igv.html needs jinja2: pip install 'umbel[tracks]'") from error
    lengths = {contig: reference.lengths[contig] for contig in page.places}
    lines = [] if annotation is None else annotation_lines(annotation, page.places, reference.lengths)
    indices = (_index(path.parent, name) for name in page.files.values())
    beside = [*page.files.values(), *(name for name in indices if name is not None)]
    sizes = "".join(f"{contig}\t{length}\n" for contig, length in lengths.items())
    data = {"contigs.sizes": _packed(sizes.encode("utf-8"))}
    known_bp = sum(int((runs[:, 1] - runs[:, 0]).sum()) for runs in page.places.values())
    size = sum((path.parent / name).stat().st_size for name in beside) + known_bp // 3 + sum(map(len, lines)) // 4
    is_embedded = size <= embed_bytes
    if is_embedded:
        if sequence := _sequence(reference, page.places, lengths):
            data[_REFERENCE] = sequence
        if lines:
            data[_ANNOTATION] = _packed("".join(f"{line}\n" for line in ["##gff-version 3", *lines]).encode("utf-8"))
        data |= {name: _packed((path.parent / name).read_bytes()) for name in beside}
        beside, genes = [], _ANNOTATION
    else:
        genes = f"{_ANNOTATION}.gz"
        if _write_sequence(path.parent / _REFERENCE, reference, page.places, lengths):
            beside.append(_REFERENCE)
        if lines:
            with BgzipLines(path.parent / genes, lengths, "gff") as file:
                file.write(lines)
            beside += [genes, file.index.name]
    names = {*data, *beside}
    config = {
        "locus": _locus(page.places),
        "reference": _REFERENCE if _REFERENCE in names else None,
        "tracks": _tracks(page, names, genes if lines else None),
        "beside": beside,
        "embedded": list(data),
    }
    script = IGV.read_text(encoding="utf-8").replace("</script", "<\\/script")
    path.write_text(
        page_template.render(title=page.title, config=config, data=data, igv=script, folder=page.folder),
        encoding="utf-8",
    )
    return is_embedded


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode("ascii")


def _index(folder: Path, name: str) -> str | None:
    for ending in (".tbi", ".csi"):
        if (folder / (name + ending)).is_file():
            return name + ending
    return None


def _sequence(reference: Reference, places: Mapping[str, Runs], lengths: Mapping[str, int]) -> str | None:
    """Give the bases of the places, packed; None where a browser could not hold the contigs."""
    with tempfile.TemporaryDirectory(prefix="umbel-") as folder:
        file = Path(folder) / _REFERENCE
        return _packed(file.read_bytes()) if _write_sequence(file, reference, places, lengths, _MOST_SEQUENCE) else None


def _write_sequence(
    file: Path,
    reference: Reference,
    places: Mapping[str, Runs],
    lengths: Mapping[str, int],
    most: int = (1 << 32) - (1 << 28),
) -> bool:
    from umbel.genome.twobit_writing import twobit_bytes, write_twobit

    if twobit_bytes(lengths) > most:
        return False
    write_twobit(file, reference, places)
    return True


def _locus(places: Mapping[str, Runs]) -> str:
    """Say where to begin: the middle of the first place."""
    contig, runs = next(iter(places.items()))
    start, end = runs[0].tolist()
    first = max(start, (start + end - _SHOWN_BP) // 2)
    last = min(end, first + _SHOWN_BP)
    # igv.js takes names with a colon only between tabs, and only then.
    return f"{contig}\t{first + 1}\t{last}" if ":" in contig else f"{contig}:{first + 1}-{last}"


def _tracks(page: Page, names: set[str], genes: str | None) -> list[dict[str, Any]]:
    """Describe the tracks as igv.js has them; ``url`` and ``indexURL`` are names of files."""
    found: list[dict[str, Any]] = []
    if genes:
        index = next((genes + ending for ending in (".tbi", ".csi") if genes + ending in names), None)
        found.append(_annotation_track("annotation", genes, "gff3", index, 110) | {"displayMode": "EXPANDED"})
    if "calls" in page.files:
        found.append(_annotation_track("calls", page.files["calls"], "gff3", None, 60))
    if "dominant" in page.files:
        name = page.files["dominant"]
        index = next((name + ending for ending in (".tbi", ".csi") if name + ending in names), None)
        found.append(_annotation_track("dominant expert", name, "bed", index, 40) | {"displayMode": "COLLAPSED"})
    for number, track in enumerate(page.tracks):
        name = page.files[track.name]
        red, green, blue = label_colours(len(page.tracks))[number]
        index = next((name + ending for ending in (".tbi", ".csi") if name + ending in names), None)
        entry: dict[str, Any] = {
            "name": f"{track.title} ({track.unit})" if track.unit else track.title,
            "type": "wig",
            "format": "bigwig" if name.endswith(".bw") else "bedgraph",
            "url": name,
            "indexURL": index,
            "height": 60,
            "color": f"rgb({red},{green},{blue})",
        }
        if track.low is None or track.high is None:
            entry["autoscale"] = True
        else:
            entry |= {"min": track.low, "max": track.high}
        found.append(entry)
    return found


def _annotation_track(name: str, url: str, kind: str, index: str | None, height: int) -> dict[str, Any]:
    return {"name": name, "type": "annotation", "format": kind, "url": url, "indexURL": index, "height": height}
