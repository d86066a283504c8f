"""Sequences with labels: what is asked of them, and files of them read, checked and split."""
