"""Benchmark suites as data: what they ask, what their files should hold, and readers for those files."""

from umbel.evaluate.suites.loading import load_suite, suite_names
from umbel.evaluate.suites.manifest import METRICS, Dataset, Source, SplitFile, Suite

__all__ = ["METRICS", "Dataset", "Source", "SplitFile", "Suite", "load_suite", "suite_names"]
