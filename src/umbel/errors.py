"""Every error umbel raises on purpose, drawn as a tree.

UmbelError
├── ConfigError        a recipe, a setting or a ``--set`` is wrong
├── InputError         a file that the user gave is wrong (path, and line or row)
│   ├── FastaError
│   ├── AnnotationError   GFF3 and BED
│   ├── VcfError          VCF and BCF
│   ├── LabelError        labelled examples
│   └── ManifestError
├── CorpusError        a built corpus is damaged, or does not fit the request
├── CheckpointError    a checkpoint is damaged, of another architecture, or has wrong keys
│   └── AdapterError      an adapter does nothing, matches nothing, or belongs to another base
├── RunError           a run or result folder holds something else than asked for
├── BackendError       a named backend cannot run here
├── ShapeError         tensors given to an operator do not fit together
└── OutputError        a result could not be written (disk full, no permission)

The command line prints the message and exits with 1; a wrong command line exits with 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class UmbelError(Exception):
    """Root of the tree: catch this to catch everything umbel raises on purpose."""


class ConfigError(UmbelError):
    """A recipe, a setting or a ``--set`` argument is wrong."""


class InputError(UmbelError):
    """A file that the user gave is wrong.

    Parameters
    ----------
    problem
        What is wrong, and what to do about it, as one or two sentences.
    path
        The file.
    line
        1-based line (or row) in it, where that is known.

    Examples
    --------
    >>> str(InputError("no sequence follows this header.", "a.fa", 3))
    'a.fa, line 3: no sequence follows this header.'
    """

    def __init__(self, problem: str, path: str | Path, line: int | None = None):
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {problem}")
        self.problem = problem
        self.path = Path(path)
        self.line = line

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.path, self.line)


class FastaError(InputError):
    """A FASTA file is empty, broken, truncated, or not nucleotide sequence."""


class AnnotationError(InputError):
    """A GFF3 or BED file is broken or belongs to another assembly."""


class VcfError(InputError):
    """A VCF or BCF file is broken, or belongs to another assembly."""


class LabelError(InputError):
    """A file of labelled examples is broken, or its labels are not what the task says."""


class ManifestError(InputError):
    """A manifest, of a corpus or of a suite, is broken or names something that is not there."""


class CorpusError(UmbelError):
    """A built corpus is damaged, or does not fit what was asked of it."""


class CheckpointError(UmbelError):
    """A checkpoint is damaged, of another architecture, or has wrong keys."""


class AdapterError(CheckpointError):
    """An adapter that does nothing, whose targets match nothing, or that was trained on another base."""


class RunError(UmbelError):
    """A run or result folder holds something else than what was asked for."""


class BackendError(UmbelError):
    """A backend that was named outright cannot run here."""


class ShapeError(UmbelError, ValueError):
    """Tensors given to an operator do not fit together."""


class OutputError(UmbelError):
    """A result could not be written; what was there before is untouched."""
