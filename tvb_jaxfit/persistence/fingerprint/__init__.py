"""Digests of the content of objects and of code, equal in every process."""
