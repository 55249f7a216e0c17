"""Data sets: structural and functional connectivity for examples and tests, and FC from files."""

import importlib.resources
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .checks.options import check, either, path, string
from .checks.suggestions import did_you_mean
from .persistence.matrix_files import LabelledMatrix, read_array
from .persistence.provenance import record_source

if TYPE_CHECKING:
    from tvb.datatypes.connectivity import Connectivity

__all__ = ["load_connectivity", "load_fc", "load_functional_connectivity", "load_structural_connectivity"]

_DK_AVERAGE = "dk_average"


def load_structural_connectivity(name: str = "dk_average") -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Load a structural connectivity: weights, tract lengths and region labels.

    Parameters
    ----------
    name : {"dk_average"}
        ``"dk_average"`` has the 84 regions of the Desikan-Killiany parcellation, averaged over subjects. Its files are
        distributed with TVB-Optim, which is not imported.

    Returns
    -------
    weights : numpy.ndarray of shape (n_node, n_node)
        Connection strengths as in the file, not scaled: ``weights[target, source]``.
    lengths : numpy.ndarray of shape (n_node, n_node)
        Tract lengths [mm].
    region_labels : list of str
        Names of the regions.

    Raises
    ------
    ValueError
        There is no such data set.
    ModuleNotFoundError
        The package tvboptim, which contains the files, is not installed.
    FileNotFoundError
        The installed tvboptim does not contain them.

    Examples
    --------
    >>> from tvb_jaxfit.data import load_structural_connectivity
    >>> weights, lengths, region_labels = load_structural_connectivity()
    >>> weights.shape, lengths.shape, region_labels[0]
    ((84, 84), (84, 84), 'L.BSTS')
    """
    check("load_structural_connectivity", name=(name, string))
    if name != _DK_AVERAGE:
        raise _unknown(name, [_DK_AVERAGE])
    path = _tvboptim_file("connectivity", name)
    with np.load(path, allow_pickle=False) as data:
        weights, lengths = (np.ascontiguousarray(data[key], dtype=np.float64) for key in ("weights", "lengths"))
        record_source(path, weights, lengths, name=f"{name} ({_path_in_package(path)})")
        return weights, lengths, data["region_labels"].tolist()


def load_functional_connectivity(name: str = "dk_average") -> np.ndarray:
    """Load an empirical functional connectivity with the regions of the structural connectivity of the same name.

    Parameters
    ----------
    name : {"dk_average"}
        See `load_structural_connectivity`.

    Returns
    -------
    fc : numpy.ndarray of shape (n_node, n_node)
        Correlations of BOLD signals, with a diagonal of zeros.

    Raises
    ------
    ValueError
        There is no such data set.
    ModuleNotFoundError
        The package tvboptim, which contains the files, is not installed.
    FileNotFoundError
        The installed tvboptim does not contain them.

    Examples
    --------
    >>> from tvb_jaxfit.data import load_functional_connectivity
    >>> load_functional_connectivity().shape
    (84, 84)
    """
    check("load_functional_connectivity", name=(name, string))
    if name != _DK_AVERAGE:
        raise _unknown(name, [_DK_AVERAGE])
    path = _tvboptim_file("functional", name)
    with np.load(path, allow_pickle=False) as data:
        fc = np.ascontiguousarray(data["fc"], dtype=np.float64)
    record_source(path, fc, name=f"{name} ({_path_in_package(path)})")
    return fc


def load_fc(file: str | os.PathLike) -> np.ndarray | LabelledMatrix:
    r"""Load an empirical functional connectivity (FC) from a file, with the names of its regions if the file has them.

    Parameters
    ----------
    file : path-like
        A file of one of these formats: csv, tsv, txt or dat (text with commas, semicolons, tabs or spaces, with or
        without a line and a column of names); npy; npz or mat, where ``"FILE:KEY"`` selects one of several arrays (by
        default the one named fc, or the only one). Or the name of a data set of `load_functional_connectivity`.

    Returns
    -------
    ndarray, or LabelledMatrix if the file has names, shape (n_node, n_node)
        `fit` and `evaluate` match the names to the regions; ``numpy.asarray`` returns the values alone. Empty cells,
        and cells that contain NA or NaN, are NaN.

    Raises
    ------
    OSError
        There is no such file, or it may not be read.
    ValueError
        The file is damaged, or has no such array or no numbers.
    ModuleNotFoundError
        As `load_functional_connectivity`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import tvb_jaxfit as tj
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "fc.csv"
    >>> _ = file.write_text(",left,right\nleft,1,0.4\nright,0.4,1\n")
    >>> fc = tj.load_fc(file)
    >>> fc.columns, fc.values[0, 1].item()
    (['left', 'right'], 0.4)
    """
    check("load_fc", file=(file, either(string, path)))
    if not Path(file).suffix and not Path(file).exists():
        try:
            return load_functional_connectivity(str(file))
        except ValueError as error:
            raise ValueError(f"{file}: no such file, and {error}") from error
    return read_array(file, "fc")


def load_connectivity(name: str = "dk_average") -> "Connectivity":
    """Load a Connectivity of TVB, for a Simulator.

    Parameters
    ----------
    name : str, default "dk_average"
        ``"dk_average"`` (see `load_structural_connectivity`), or a file of tvb-data: ``"connectivity_76.zip"``, short
        ``"connectivity_76"`` or ``"76"``.

    Returns
    -------
    connectivity : tvb.datatypes.connectivity.Connectivity
        A new instance. The weights are as in the file; scale them if the model requires it:
        ``connectivity.weights /= connectivity.weights.max()``.

    Raises
    ------
    ValueError
        There is no such connectivity.
    ModuleNotFoundError
        ``"dk_average"``: the package tvboptim, which contains the files, is not installed.
    FileNotFoundError
        The installed tvboptim does not contain them.

    Notes
    -----
    TVB requires the centres of the regions. Those of ``"dk_average"`` are unknown, and set to zero: a simulation
    without a surface does not use them, but a spatial plot would be meaningless. Areas, orientations and the cortical
    mask are unknown, too, and not set.

    Examples
    --------
    >>> from tvb_jaxfit.data import load_connectivity
    >>> load_connectivity("76").weights.shape
    (76, 76)
    """
    check("load_connectivity", name=(name, string))
    # Importing TVB takes seconds.
    from tvb.datatypes.connectivity import Connectivity

    if name != _DK_AVERAGE:
        files = {_short(file): file for file in _tvb_data_files()}
        if _short(name) not in files:
            raise ValueError(connectivity_problem(name))
        connectivity, file = Connectivity.from_file(files[_short(name)]), files[_short(name)]
        with importlib.resources.as_file(importlib.resources.files("tvb_data.connectivity") / file) as path:
            record_source(path, connectivity.weights, connectivity.tract_lengths, name=f"{file} (tvb_data)")
        return connectivity
    weights, lengths, region_labels = load_structural_connectivity(name)
    return Connectivity(
        weights=weights,
        tract_lengths=lengths,
        region_labels=np.array(region_labels),
        centres=np.zeros((len(region_labels), 3)),
    )


def connectivity_problem(name: str) -> str:
    """Error text for a name that `load_connectivity` does not know; empty for a known one.

    Parameters
    ----------
    name : str
    """
    files = _tvb_data_files()
    if name == _DK_AVERAGE or _short(name) in map(_short, files):
        return ""
    return str(_unknown(name, [_DK_AVERAGE, *files]))


def _tvb_data_files():
    """Names of the connectivity files of tvb-data."""
    folder = importlib.resources.files("tvb_data.connectivity")
    return sorted(file.name for file in folder.iterdir() if file.name.endswith(".zip"))


def _short(name):
    """Short name of a file of tvb-data: "76" for "connectivity_76.zip" and "connectivity_76"."""
    return name.removeprefix("connectivity_").removesuffix(".zip")


def _path_in_package(path):
    """Path of a file relative to the folder that contains its package."""
    return Path(*path.parts[path.parts.index("tvboptim") :]).as_posix() if "tvboptim" in path.parts else path.name


def _unknown(name, available):
    near = did_you_mean(name, [*available, *map(_short, available)])
    return ValueError(f"there is no data set {name!r}. Available: {', '.join(available)}.{near}")


def _tvboptim_file(kind, name):
    """Path of a data file of TVB-Optim.

    The package is located, not imported: that would take seconds, and require all of its dependencies.
    """
    spec = importlib.util.find_spec("tvboptim")
    if spec is None:
        raise ModuleNotFoundError(
            f'the data set {name!r} is read from the package tvboptim, which is not installed: pip install "tvb-jaxfit'
            '[demos]".',
            name="tvboptim",
        )
    path = Path(spec.submodule_search_locations[0], "data", kind, name, "data.npz")
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} is missing from the installed tvboptim. Install 0.4 or later: pip install "tvb-jaxfit[demos]".'
        )
    return path
