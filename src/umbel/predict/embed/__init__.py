"""Embeddings of files: how they are cut, computed, kept, found again and drawn."""

from umbel.predict.embed.file import EmbedResult, embed_file
from umbel.predict.embed.settings import EmbedSettings

__all__ = ["EmbedResult", "EmbedSettings", "embed_file"]
