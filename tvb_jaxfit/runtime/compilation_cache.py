"""Compiled programs on disk, shared by the processes of a cohort."""

import hashlib
import os
import platform
from pathlib import Path


def use_compilation_cache(folder: str | os.PathLike) -> None:
    """Let JAX store compiled programs in a folder, unless this process has a cache already.

    It is a setting of the process, for processes that this package has started or that serve it.

    Parameters
    ----------
    folder : path-like
        Machines of different types have subfolders of their own: a program is compiled for one type.
    """
    import jax

    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(folder) / _machine()))
        # Small networks have many programs that take less than JAX's limit of a second.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def _machine():
    """Digest of what a processor can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return hashlib.blake2b(f"{platform.machine()} {features}".encode(), digest_size=8).hexdigest()
