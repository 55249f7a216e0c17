"""Connectivity and functional connectivity to try things on."""

import importlib.resources
import importlib.util
from pathlib import Path

import numpy as np

from .checks.options import check, either, path, string
from .checks.suggestions import did_you_mean
from .persistence.matrix_files import read_array
from .persistence.provenance import record_source

__all__ = ["load_connectivity", "load_fc", "load_functional_connectivity", "load_structural_connectivity"]

_DK_AVERAGE = "dk_average"


def load_structural_connectivity(name="dk_average"):
    """Load a structural connectivity: weights, tract lengths and region labels.

    Parameters
    ----------
    name : {"dk_average"}
        ``"dk_average"`` is the average over subjects of the 84 regions of the Desikan-Killiany parcellation, as
        distributed with TVB-Optim. Its data files are read; TVB-Optim itself is not imported.

    Returns
    -------
    weights : numpy.ndarray of shape (n_node, n_node)
        Connection strengths, ``weights[target, source]``, as in the file: not scaled.
    lengths : numpy.ndarray of shape (n_node, n_node)
        Tract lengths [mm].
    region_labels : list of str
        Names of the regions.

    Raises
    ------
    ValueError
        There is no such data set.
    ModuleNotFoundError
        The package that has the files, tvboptim, is not installed.
    FileNotFoundError
        It is installed, but without the files.

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
        record_source(path, weights, lengths, name=f"{name} ({_within(path)})")
        return weights, lengths, data["region_labels"].tolist()


def load_functional_connectivity(name="dk_average"):
    """Load an empirical functional connectivity, whose regions are those of the structural one of the same name.

    Parameters
    ----------
    name : {"dk_average"}
        See `load_structural_connectivity`.

    Returns
    -------
    fc : numpy.ndarray of shape (n_node, n_node)
        Correlations of the BOLD signals, with a diagonal of zeros.

    Raises
    ------
    ValueError
        There is no such data set.
    ModuleNotFoundError
        The package that has the files, tvboptim, is not installed.
    FileNotFoundError
        It is installed, but without the files.

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
    record_source(path, fc, name=f"{name} ({_within(path)})")
    return fc


def load_fc(file):
    r"""Load an empirical functional connectivity (FC) from a file, with the names of its regions if it has them.

    Parameters
    ----------
    file : path-like
        csv, tsv, txt or dat: text with commas, semicolons, tabs or spaces, with or without a line and a column of
        names; npy; npz or mat, where ``"FILE:KEY"`` names one of several arrays (else the one called fc, or the only
        one). Or the name of a data set of `load_functional_connectivity`.

    Returns
    -------
    ndarray, or LabelledMatrix where the file has names, shape (n_node, n_node)
        `fit` and `evaluate` match the names to the regions; ``numpy.asarray`` gives the values alone. Cells that are
        empty or say NA or NaN are NaN.

    Raises
    ------
    OSError
        Where there is no such file, or it may not be read.
    ValueError
        Where it is damaged, or holds no such array or no numbers.
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


def load_connectivity(name="dk_average"):
    """Load a TVB Connectivity, for a Simulator.

    Parameters
    ----------
    name : str, default "dk_average"
        ``"dk_average"``, see `load_structural_connectivity`, or a file of tvb-data: ``"connectivity_76.zip"``, or
        ``"connectivity_76"`` or ``"76"`` for short.

    Returns
    -------
    connectivity : tvb.datatypes.connectivity.Connectivity
        A new instance. The weights are as in the file; scale them where the model needs it:
        ``connectivity.weights /= connectivity.weights.max()``.

    Raises
    ------
    ValueError
        There is no such connectivity.
    ModuleNotFoundError
        ``"dk_average"``: the package that has the files, tvboptim, is not installed.
    FileNotFoundError
        It is installed, but without the files.

    Notes
    -----
    TVB requires the centres of the regions, but those of ``"dk_average"`` are not known: they are zeros. A simulation
    without a surface does not use them; a plot in space would be meaningless. Areas, orientations and the cortical
    mask are not known either and are left out.

    Examples
    --------
    >>> from tvb_jaxfit.data import load_connectivity
    >>> load_connectivity("76").weights.shape
    (76, 76)
    """
    check("load_connectivity", name=(name, string))
    # TVB takes seconds to import.
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


def connectivity_problem(name):
    """What is wrong with a name for `load_connectivity`, as text; empty where there is such a connectivity.

    Parameters
    ----------
    name : str
    """
    files = _tvb_data_files()
    if name == _DK_AVERAGE or _short(name) in map(_short, files):
        return ""
    return str(_unknown(name, [_DK_AVERAGE, *files]))


def _tvb_data_files():
    """Return the names of the connectivity files of tvb-data."""
    folder = importlib.resources.files("tvb_data.connectivity")
    return sorted(file.name for file in folder.iterdir() if file.name.endswith(".zip"))


def _short(name):
    """Return what tells one file of tvb-data from another: "76" for "connectivity_76.zip" and "connectivity_76"."""
    return name.removeprefix("connectivity_").removesuffix(".zip")


def _within(path):
    """Path of a file from its package on."""
    return Path(*path.parts[path.parts.index("tvboptim") :]).as_posix() if "tvboptim" in path.parts else path.name


def _unknown(name, available):
    near = did_you_mean(name, [*available, *map(_short, available)])
    return ValueError(f"there is no data set {name!r}. Available: {', '.join(available)}.{near}")


def _tvboptim_file(kind, name):
    """Return the path of a data file of TVB-Optim, found without importing it.

    Importing it would take seconds and need all of its dependencies, for a file.
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
