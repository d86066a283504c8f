"""Whether a file is GFF3 as the specification has it: every line that is not, and why."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from umbel.errors import AnnotationError
from umbel.genome.lines import read_lines
from umbel.genome.ontology import is_so_type

_CONTIG = re.compile(r"(?:[a-zA-Z0-9.:^*$@!+_?|-]|%[0-9A-Fa-f]{2})+")
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_VERSION = re.compile(r"##gff-version\s+3(\.[0-9]+)*\s*")
_WHOLE = re.compile(r"[0-9]+")
_NAMED = frozenset(
    {
        *("ID", "Name", "Alias", "Parent", "Target", "Gap", "Derives_from", "Note", "Dbxref", "Ontology_term"),
        "Is_circular",
    }
)
_LISTS = frozenset({"Parent", "Alias", "Note", "Dbxref", "Ontology_term"})
_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """What is wrong, and in which line (1-based)."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass
class _Identity:
    """A feature that has an ID: one line, or several of a discontinuous one."""

    line: int
    kind: str
    contig: str
    parents: tuple[str, ...]
    places: set[tuple[int, int]] = field(default_factory=set)


class _File:
    """What has been read so far."""

    def __init__(self) -> None:
        self.regions: dict[str, tuple[int, int]] = {}
        self.circular: set[str] = set()
        self.named: dict[str, _Identity] = {}
        # Who names whom: ID, kind of reference, contig and line of the feature that does.
        self.wanted: list[tuple[str, str, str, int]] = []
        self.ends: list[tuple[str, int, int, int]] = []
        self.n_features = 0

    def directive(self, number: int, text: str) -> Iterator[Problem]:
        words = text.split()
        if words[0] == "##sequence-region":
            if len(words) != 4 or not all(_WHOLE.fullmatch(word) for word in words[2:]):
                yield Problem(number, f"{text!r} is not ##sequence-region contig start end")
                return
            contig, start, end = words[1], int(words[2]), int(words[3])
            if contig in self.regions:
                yield Problem(number, f"a second ##sequence-region of {contig}")
            if not 1 <= start <= end:
                yield Problem(number, f"##sequence-region {start} to {end} is not 1-based with start before end")
            self.regions[contig] = (start, end)
        elif words[0] == "###":
            yield from self.resolve()

    def resolve(self) -> Iterator[Problem]:
        """Everything that is named must be there by now."""
        for identity, kind, contig, number in self.wanted:
            if identity not in self.named:
                yield Problem(number, f"{kind}={identity}, and no feature has that ID")
            elif kind == "Parent" and self.named[identity].contig != contig:
                yield Problem(number, f"Parent={identity}, which lies on another contig")
        self.wanted = []

    def feature(self, number: int, text: str) -> Iterator[Problem]:
        self.n_features += 1
        columns = text.split("\t")
        if len(columns) != 9:
            yield Problem(number, f"{len(columns)} columns divided by tabs, there must be 9")
            return
        for which, column in enumerate(columns, start=1):
            if not column or column != column.strip(" "):
                yield Problem(number, f"column {which} is empty or has blanks around it; '.' stands for nothing")
            if _LONE_PERCENT.search(column):
                yield Problem(number, f"column {which} has a % that begins no escape; write %25")
            if _CONTROL.search(column):
                yield Problem(number, f"column {which} has a control character that is not escaped")
        contig, _, kind, first, last, score, strand, phase, attributes = columns
        if not _CONTIG.fullmatch(contig):
            yield Problem(number, f"contig {contig!r} has characters that must be escaped")
        if not is_so_type(kind):
            yield Problem(number, f"type {kind!r} is no term of the Sequence Ontology that we know")
        place = yield from self._place(number, contig, first, last)
        if score != "." and not _is_finite(score):
            yield Problem(number, f"score {score!r} is no finite number")
        if strand not in ("+", "-", ".", "?"):
            yield Problem(number, f"strand {strand!r} is none of + - . ?")
        if phase not in (".", "0", "1", "2"):
            yield Problem(number, f"phase {phase!r} is none of 0 1 2 .")
        elif kind in ("CDS", "SO:0000316") and phase == ".":
            yield Problem(number, "a CDS without phase")
        if attributes != ".":
            yield from self._attributes(number, contig, kind, place, attributes)

    def _place(self, number: int, contig: str, first: str, last: str) -> Generator[Problem, None, tuple[int, int]]:
        if not (_WHOLE.fullmatch(first) and _WHOLE.fullmatch(last)):
            yield Problem(number, f"start {first!r} and end {last!r} must be whole numbers")
            return (0, 0)
        start, end = int(first), int(last)
        if not 1 <= start <= end:
            yield Problem(number, f"start {start} and end {end} must be 1-based, with start not beyond end")
        first_of, last_of = self.regions.get(contig, (0, 0))
        if not first_of <= start <= end <= last_of:
            # A region may be told later in the file, and a circular one has features beyond its end.
            self.ends.append((contig, start, end, number))
        return (start, end)

    def _attributes(self, number: int, contig: str, kind: str, place: tuple[int, int], text: str) -> Iterator[Problem]:
        found: dict[str, str] = {}
        for pair in text.rstrip(";").split(";"):
            key, sign, value = pair.partition("=")
            if not sign or not key.strip() or not value:
                yield Problem(number, f"attribute {pair!r} is not key=value")
                continue
            if key in found:
                yield Problem(number, f"attribute {key} is there twice; several values are divided by commas")
            if "=" in value or "&" in value:
                yield Problem(number, f"the value of {key} has a = or & that is not escaped")
            if "," in value and key in _NAMED - _LISTS:
                yield Problem(number, f"the value of {key} has a comma that is not escaped")
            if key[0].isupper() and key not in _NAMED:
                yield Problem(number, f"attribute {key}: names that begin with a capital are reserved")
            found[key] = value
        if found.get("Is_circular") == "true":
            self.circular.add(contig)
        parents = tuple(unquote(parent) for parent in found["Parent"].split(",")) if "Parent" in found else ()
        self.wanted += [(parent, "Parent", contig, number) for parent in parents]
        if "Derives_from" in found:
            self.wanted.append((unquote(found["Derives_from"]), "Derives_from", contig, number))
        if "ID" not in found:
            return
        identity = unquote(found["ID"])
        known = self.named.setdefault(identity, _Identity(number, kind, contig, parents))
        if (known.kind, known.contig, known.parents) != (kind, contig, parents):
            yield Problem(number, f"ID={identity} is that of another feature, in line {known.line}")
        elif place in known.places:
            yield Problem(number, f"ID={identity} has this place already, in line {known.line} or after it")
        known.places.add(place)

    def end(self, number: int) -> Iterator[Problem]:
        """Find what can only be said when all has been read."""
        yield from self.resolve()
        for contig, start, end, line in self.ends:
            if contig not in self.regions:
                continue
            first, last = self.regions[contig]
            if start < first or (end > last and contig not in self.circular):
                yield Problem(line, f"{start} to {end} is not within ##sequence-region {contig} {first} {last}")
        yield from self._circles()
        if not self.n_features:
            yield Problem(number, "the file holds no feature")

    def _circles(self) -> Iterator[Problem]:
        for identity, feature in self.named.items():
            seen, waiting = set[str](), list(feature.parents)
            while waiting:
                current = waiting.pop()
                if current == identity:
                    yield Problem(feature.line, f"ID={identity} is its own ancestor")
                    break
                if current not in seen and current in self.named:
                    seen.add(current)
                    waiting += self.named[current].parents


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_gff3(path: str | Path) -> list[Problem]:
    r"""Find every line of a GFF3 file that the specification does not allow; none if it is right.

    Looked at: version line, sequence regions and coordinates within them, nine columns, escaping, types (the terms of
    :mod:`umbel.genome.ontology`, or accessions), scores, strands, phases (CDS needs one), attributes, IDs (several
    lines of one ID are one discontinuous feature of one type, contig and parent), parents that are there before the
    next ``###``, and circles of them. Not looked at: whether a child lies within its parent, and order.

    Raises
    ------
    AnnotationError
        If the file cannot be read.

    References
    ----------
    Stein 2020, "Generic Feature Format Version 3", version 1.26, Sequence Ontology Project.

    Examples
    --------
    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "a.gff3"
    >>> _ = source.write_text("##gff-version 3\nchr1\t.\tCDS\t1\t9\t.\t+\t.\tID=a\n")
    >>> [str(problem) for problem in check_gff3(source)]
    ['line 2: a CDS without phase']
    """
    found: list[Problem] = []
    file, number = _File(), 0
    for number, line in read_lines(path, AnnotationError):
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            found.append(Problem(number, "not UTF-8 text"))
            continue
        if number == 1 and not _VERSION.fullmatch(text):
            found.append(Problem(1, "the first line must be ##gff-version 3"))
        if text.startswith(("##FASTA", ">")):
            break
        if text.startswith("##"):
            found += file.directive(number, text)
        elif text.strip() and not text.startswith("#"):
            found += file.feature(number, text)
    found += file.end(number)
    return sorted(found, key=lambda problem: problem.line)


def require_gff3(path: str | Path, problems: Sequence[Problem] | None = None) -> None:
    """See that a file is valid GFF3.

    Raises
    ------
    AnnotationError
        With the first problems and their number.
    """
    problems = check_gff3(path) if problems is None else problems
    if problems:
        shown = "; ".join(map(str, problems[:_SHOWN]))
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise AnnotationError(f"this is not valid GFF3: {shown}{more}", path)
