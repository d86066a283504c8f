"""Find sequences by their embeddings: an index on disk of the rows of several genomes, and queries to it."""

from umbel.predict.search.index import Addition, SearchIndex
from umbel.predict.search.query import Found, SearchResult, search

__all__ = ["Addition", "Found", "SearchIndex", "SearchResult", "search"]
