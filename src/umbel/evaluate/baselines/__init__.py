"""Rows that stand beside every model: majority, k-mers, a small network from scratch, and frozen embeddings."""
