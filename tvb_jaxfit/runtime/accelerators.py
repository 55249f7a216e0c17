"""GPUs of this machine that JAX would use, found without starting JAX: one process may then have each of them."""

import importlib.util
import os
import re
import sys
from pathlib import Path

from .processes import processors

# Packages by which JAX uses NVIDIA's GPUs.
_PLUGINS = ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12")
_DEVICES = Path("/dev")


def gpus() -> list[str]:
    """Numbers or names of the GPUs, as in the environment variable ``CUDA_VISIBLE_DEVICES``.

    Returns
    -------
    list of str
        Empty where JAX has no support for GPUs, or is set to another platform.
    """
    jax = sys.modules.get("jax")
    chosen = None if jax is None else jax.config.jax_platforms
    platforms = chosen or os.environ.get("JAX_PLATFORMS")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if not any(_is_installed(plugin) for plugin in _PLUGINS):
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        # CUDA ignores what follows a -1.
        names = [name.strip() for name in visible.split(",")]
        return [name for name in names[: names.index("-1") if "-1" in names else None] if name]
    numbers = (re.fullmatch(r"nvidia(\d+)", path.name) for path in _DEVICES.glob("nvidia[0-9]*"))
    return sorted((found[1] for found in numbers if found), key=int)


def default_n_workers() -> int:
    """Number of processes that use this machine: one for each GPU, or else for each processor."""
    return len(gpus()) or len(processors())


def environment_of(worker: int, n_workers: int, found: list[str]) -> dict[str, str]:
    """Environment variables that give a worker its GPU, and its part of the memory where several share one.

    Parameters
    ----------
    worker : int
        Its number, from 0.
    n_workers : int
    found : list of str
        GPUs; see `gpus`.
    """
    if not found:
        return {}
    variables = {"CUDA_VISIBLE_DEVICES": found[worker % len(found)]}
    n_sharing = -(-n_workers // len(found))
    if n_sharing > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:
        # JAX takes three quarters of the memory of a GPU at its start.
        variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / n_sharing:.3f}"
    return variables


def _is_installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
