"""Benchmark suites as data: what they ask, what their files should hold, and readers for those files."""

from umbel.evaluate.suites.checking import SplitReport, SuiteReport, check_suite
from umbel.evaluate.suites.fetching import fetch_suite
from umbel.evaluate.suites.loading import load_suite, suite_names
from umbel.evaluate.suites.manifest import METRICS, Dataset, Source, SplitFile, Suite
from umbel.evaluate.suites.published import PublishedRow, published
from umbel.evaluate.suites.reading import read_dataset

__all__ = [
    "METRICS",
    "Dataset",
    "PublishedRow",
    "Source",
    "SplitFile",
    "SplitReport",
    "Suite",
    "SuiteReport",
    "check_suite",
    "fetch_suite",
    "load_suite",
    "published",
    "read_dataset",
    "suite_names",
]
