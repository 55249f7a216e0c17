"""Fingerprints: digests of values, objects and code that decide a result."""
