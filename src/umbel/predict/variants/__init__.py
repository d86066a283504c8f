"""Variants of a VCF file scored by a model."""
