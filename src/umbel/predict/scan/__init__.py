"""Whole chromosomes: tracks of what a model says of every base, or embeddings along contigs of any length."""

from umbel.predict.scan.embeddings import ScanSettings, scan_embeddings

__all__ = ["ScanSettings", "scan_embeddings"]
