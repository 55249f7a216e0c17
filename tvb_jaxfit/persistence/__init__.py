"""Files: atomic writing, stored trees, fingerprints, and the cache on disk."""
