"""Fits of many subjects: what belongs to each, one fit after the other or side by side, and tables of all."""
