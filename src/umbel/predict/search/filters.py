"""Conditions on the rows of an index, in which no name can be taken for anything else than a name."""

from __future__ import annotations

from umbel.genome.interval import Interval


def quoted(text: str) -> str:
    """Write a text as a literal of SQL, in which only the quotation mark has a meaning and is doubled.

    Examples
    --------
    >>> quoted("O'Hara"), quoted("x' OR '1'='1")
    ("'O''Hara'", "'x'' OR ''1''=''1'")
    """
    return "'" + text.replace("'", "''") + "'"


def condition(species: str = "", contig: str = "", interval: Interval | None = None) -> str:
    """Write what rows must fulfil; empty where nothing is asked.

    Parameters
    ----------
    interval
        Rows that share a base with it, on either strand.

    Examples
    --------
    >>> condition("Alpha prima", interval=Interval("chr1", 10, 20))
    "species = 'Alpha prima' AND contig = 'chr1' AND start < 20 AND `end` > 10"
    """
    parts = []
    if species:
        parts.append(f"species = {quoted(species)}")
    if contig:
        parts.append(f"contig = {quoted(contig)}")
    if interval is not None:
        # "end" is a word of SQL.
        parts.append(f"contig = {quoted(interval.contig)} AND start < {interval.end} AND `end` > {interval.start}")
    return " AND ".join(parts)
