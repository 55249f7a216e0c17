"""Runtime support: compiled programs, pickling and forked processes, progress bars."""
