"""Compiled programs, other processes, and progress bars."""
