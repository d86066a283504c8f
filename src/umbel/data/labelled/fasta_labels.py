"""FASTA whose headers carry the label, in the ways that publishers of labelled sets write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from umbel.errors import LabelError
from umbel.genome.lines import read_lines

Layout = Literal["id|label", "id|labels", "id label", "label_n"]
"""What a header says: an id and one label behind the last ``|``; an id and a label behind each ``|``; an id, a blank
and the label; or a label, ``_`` and a running number."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class FastaText:
    """One record as it stands in the file: line of the header, header without ``>``, letters of the sequence."""

    line: int
    header: str
    letters: bytes


def read_records(path: str | Path) -> Iterator[FastaText]:
    r"""Yield the records of a plain or gzip FASTA file, whatever letters they hold; a sequence may be empty.

    Raises
    ------
    LabelError
        Text before the first header, a header that is not UTF-8, no record at all, or an unreadable file.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.fa"
    >>> _ = source.write_text(">a|1\nAC\nGT\n\n>b|0\n")
    >>> [(record.line, record.header, record.letters) for record in read_records(source)]
    [(1, 'a|1', b'ACGT'), (5, 'b|0', b'')]
    """
    header: str | None = None
    line = 0
    letters: list[bytes] = []
    for number, text in read_lines(path, LabelError):
        stripped = text.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else text.strip()
        if stripped.startswith(b">"):
            if header is not None:
                yield FastaText(line, header, b"".join(letters))
            line, letters = number, []
            try:
                header = stripped[1:].decode("utf-8").strip()
            except UnicodeDecodeError as error:
                raise LabelError("the header is not UTF-8 text. Save the file as UTF-8.", path, number) from error
        elif stripped:
            if header is None:
                raise LabelError("the file does not begin with a '>' header. Is this a FASTA file?", path, number)
            letters.append(stripped)
    if header is None:
        raise LabelError("the file is empty: it holds no FASTA record. Check how it was made.", path)
    yield FastaText(line, header, b"".join(letters))


def find_layout(headers: Sequence[str], path: str | Path) -> Layout:
    """Tell the layout that all headers have: ``id|label`` with one ``|``, or ``id label`` in two words.

    Nothing else is guessed: ``label_n`` may as well be an id, and of several ``|`` any may stand before the label.

    Raises
    ------
    LabelError
        With the header that does not fit, and the layouts that can be named.

    Examples
    --------
    >>> find_layout(["a|0.5", "b|1.5"], "a.fa"), find_layout(["a yes", "b no"], "a.fa")
    ('id|label', 'id label')
    """
    if all(header.count("|") == 1 for header in headers):
        return "id|label"
    if all(len(header.split()) == 2 and "|" not in header for header in headers):
        return "id label"
    odd = next(
        (header for header in headers if ("|" in headers[0]) != ("|" in header) or header.count("|") > 1), headers[0]
    )
    raise LabelError(
        f"where the label is in the headers cannot be told from {('>' + odd)[:60]!r}. Name the layout (header=...): "
        f"{', '.join(repr(layout) for layout in LAYOUTS)}. If there is one file a class, give the classes by file.",
        path,
    )


def split_header(header: str, layout: Layout) -> tuple[str, list[str]] | str:
    """Cut a header into id and labels; in place of them, what is wrong with it.

    Examples
    --------
    >>> split_header("chr1|100|0.5", "id|label"), split_header("a|0|1|1", "id|labels")
    (('chr1|100', ['0.5']), ('a', ['0', '1', '1']))
    >>> split_header("promoter_12", "label_n"), split_header("a", "id label")
    (('promoter_12', ['promoter']), "header 'a' is not laid out as 'id label'")
    """
    refusal = f"header {header[:40]!r} is not laid out as {layout!r}"
    if layout == "id|labels":
        name, *labels = (part.strip() for part in header.split("|"))
        return (name, labels) if labels else refusal
    if layout == "id|label":
        name, mark, label = header.rpartition("|")
        return (name.strip(), [label.strip()]) if mark else refusal
    if layout == "id label":
        words = header.split(maxsplit=1)
        return (words[0], [words[1]]) if len(words) == 2 else refusal
    word = header.split(maxsplit=1)[0] if header else ""
    label, mark, number = word.rpartition("_")
    return (word, [label]) if mark and label and number.isdigit() else refusal
