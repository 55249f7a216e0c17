"""Files: atomic writing, stored trees, fingerprints of content, and the cache on disk."""

from .registry import serialisable

__all__ = ["serialisable"]
