"""What a benchmark suite is: its datasets, where they come from, and the files that their publishers ship."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Literal, get_args

from pydantic import Field
from pydantic.dataclasses import dataclass

from umbel.config.values import STRICT, Count, Natural
from umbel.data.labelled.task import Kind, Task
from umbel.errors import ConfigError

Metric = Literal["accuracy", "f1", "macro_f1", "mcc", "auroc", "auprc", "spearman", "pearson2", "r2"]
METRICS: tuple[Metric, ...] = get_args(Metric)
Reader = Literal[
    "fasta", "csv", "parquet", "classes", "lrb_elements", "lrb_bins", "lrb_genes", "lrb_tracks", "lrb_variants"
]
SplitName = Literal["train", "dev", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Trust = Literal["counted", "claimed", "unverified"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True, config=STRICT)
class Source:
    """Where files are fetched from."""

    licence: str
    """Of the data, as their page says."""
    page: str
    """Where a person reads about them."""
    repo: str = ""
    """Dataset repository of the Hugging Face Hub; ``""`` where the files are not on the Hub."""
    revision: str = ""
    """Commit of the repository that is fetched; ``""`` takes the newest."""
    how: str = ""
    """How to get the files by hand."""


@dataclass(frozen=True, config=STRICT)
class SplitFile:
    """File (or folder) of one split."""

    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Its path below the dataset's folder, or names that it may have, of which the first that is there is read."""
    reader: Reader
    rows: Count | None = None
    """Examples in it; None where nobody says."""
    sha256: Sha256 | None = None


@dataclass(frozen=True, config=STRICT)
class Dataset:
    """One dataset of a suite: what is asked, how it is scored, and what is known of its files."""

    name: str
    group: str
    """The task that it belongs to; suites average over the datasets of a task."""
    task: Kind
    metric: Metric
    """As the suite's paper scores it."""
    source: Source
    train: SplitFile | None
    test: SplitFile
    dev: SplitFile | None = None
    """None: the publishers ship none, and it is to be made from train; test never selects."""
    also: tuple[Metric, ...] = ()
    """Reported beside it, where the paper's word leaves open which of two is meant."""
    classes: tuple[str, ...] = ()
    """Names of classes, labels or outputs, in the order of the files' numbers. Empty: their numbers."""
    n_outputs: Count | None = None
    """Labels or outputs, where they are not named; None: as many as the first row has."""
    bin_bp: Count = 1
    length_bp: tuple[Natural, Natural] | None = None
    """Shortest and longest sequence, as published."""
    window_bp: Count | None = None
    """Bases cut around a coordinate, unless the user asks for another number; None: the files hold sequences."""
    trust: Trust = "unverified"
    """Of ``rows``: counted in the files, claimed by someone, or neither."""
    folder: str = ""
    """Folder of its files, below the folder that the user names."""
    companions: tuple[str, ...] = ()
    """Further files that the reader needs, below ``folder``."""
    genomes: dict[str, str] = field(default_factory=dict)
    """Class (``*``: all) to the name of the genome that its coordinates are of; the user puts it into ``genomes/``."""
    species: tuple[str, ...] = ()
    strand: Literal["one", "both", "unknown"] = "unknown"
    """Whether the label holds for the given strand only, or for the reverse complement too. Our reading."""
    uncertain: str = ""
    """What of this entry is our guess."""
    notes: tuple[str, ...] = ()
    """What to know before believing a score."""

    def __post_init__(self) -> None:
        if self.length_bp and self.length_bp[0] > self.length_bp[1]:
            raise ValueError(f"length_bp {self.length_bp[0]} to {self.length_bp[1]} is no range")
        if self.task in ("binary", "multiclass") and not self.classes:
            raise ValueError(f"classes are missing, and a {self.task} task needs them")
        if self.classes:
            Task(self.task, self.classes, self.bin_bp)

    def splits(self) -> Iterator[tuple[SplitName, SplitFile]]:
        """Yield the splits that the publishers ship, with their files."""
        for split in SPLITS:
            file: SplitFile | None = getattr(self, split)
            if file is not None:
                yield split, file

    def reader_of(self, split: SplitName) -> Reader:
        """Reader of the file of a split."""
        file: SplitFile = getattr(self, split)
        return file.reader

    def names(self, n_outputs: int) -> tuple[str, ...]:
        """Names of ``n_outputs`` classes, labels or outputs: those of the manifest, or their numbers."""
        return self.classes or tuple(str(i) for i in range(n_outputs))


@dataclass(frozen=True, config=STRICT)
class Suite:
    """A benchmark suite.

    Examples
    --------
    >>> from umbel.evaluate.suites import load_suite
    >>> suite = load_suite("mpgb")
    >>> len(suite.datasets), len(suite.groups), suite.dataset("core_promoters").metric
    (31, 11, 'mcc')
    """

    name: str
    title: str
    paper: str
    page: str
    datasets: Annotated[tuple[Dataset, ...], Field(min_length=1)]
    verified: str = ""
    """How the facts of this manifest were checked."""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [dataset.name for dataset in self.datasets]
        for i, name in enumerate(names):
            if name in names[:i]:
                raise ValueError(f"dataset {name!r} is there twice")

    @property
    def groups(self) -> tuple[str, ...]:
        """Tasks that datasets belong to, in the order of the manifest."""
        return tuple(dict.fromkeys(dataset.group for dataset in self.datasets))

    @property
    def licences(self) -> tuple[str, ...]:
        """Licences of the data, each once."""
        return tuple(dict.fromkeys(dataset.source.licence for dataset in self.datasets))

    def dataset(self, name: str) -> Dataset:
        """Give the dataset of that name.

        Raises
        ------
        ConfigError
            If there is none, with the names there are.
        """
        for dataset in self.datasets:
            if dataset.name == name:
                return dataset
        known = ", ".join(dataset.name for dataset in self.datasets)
        raise ConfigError(f"suite {self.name} has no dataset {name!r}. It has {known}.")
