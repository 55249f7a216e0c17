"""Versions of the packages that results depend on."""

import importlib.metadata

PACKAGES = ("tvb-library", "jax", "jaxlib", "numpy", "optax")


def package_versions() -> dict[str, str]:
    """Installed version of each package that the numbers depend on.

    Returns
    -------
    dict of str to str
        By the name of the distribution. tvb_jaxfit itself is not among them.
    """
    return {name: importlib.metadata.version(name) for name in PACKAGES}
