"""Saved predictions, and the numbers that are computed from them and from nothing else."""
