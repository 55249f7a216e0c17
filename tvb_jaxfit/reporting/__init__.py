"""Presentation of fits: parameter tables, the summary and the report of a fit, and code that repeats it."""
