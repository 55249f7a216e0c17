"""Check of the files that a command reads, before TVB and JAX are loaded."""

import argparse
import ast
import zipfile
from pathlib import Path

import numpy as np

from ..checks.fc import shape_problem, values_problem
from ..data import connectivity_problem
from ..persistence.matrix_files import suggest_file
from .dependent_options import parse_maps
from .matrices import load_array, load_fc, load_maps
from .options import is_script
from .outcome import Refused
from .path_options import parse_settings

# First bytes of an HDF5 file.
_HDF5 = b"\x89HDF\r\n\x1a\n"


def input_problems(options: argparse.Namespace) -> list[str]:
    """Problems of the files that a command reads, as far as they can be found without TVB.

    Parameters
    ----------
    options : argparse.Namespace
        Without problems of their own; see `option_problems`.

    Returns
    -------
    list of str
    """
    problems = []
    if getattr(options, "fc", None) is not None:
        problems += fc_problems(options.fc)
    for name in getattr(options, "group", None) or []:
        problems += fc_problems(name, "--group")
    for path, option in parse_maps(getattr(options, "map", []))[0].items():
        try:
            load_maps(option)
        except Refused as refused:
            problems += [f"--map {path}: {reason}" for reason in refused.reasons]
    if options.connectivity is not None:
        problems += connectivity_problems(options.connectivity)
    if options.simulator is not None:
        problems += _simulator_problems(options.simulator)
    for path, value in parse_settings(options.set or [])[0].items():
        if isinstance(value, str):
            try:
                load_array(value[1:], path)
            except Refused as refused:
                problems += [f"--set {path}: {reason}" for reason in refused.reasons]
    return problems


def fc_problems(name: str, option: str = "--fc") -> list[str]:
    """Problems of the file of an FC.

    Parameters
    ----------
    name : str
        As ``--fc`` takes it.
    option : str, optional
        Name in messages.
    """
    try:
        fc = np.asarray(load_fc(name, option), float)
    except Refused as refused:
        return refused.reasons
    if fc.ndim == 2 and fc.shape[0] != fc.shape[1]:
        cause = shape_problem(fc.shape, min(fc.shape))
        return [f"{option} {name}: shape {fc.shape}{cause and f'; {cause}'}"]
    is_symmetric = fc.ndim == 2 and np.array_equal(fc, fc.T, equal_nan=True)
    cause = values_problem(fc) if is_symmetric else ""
    return [f"{option} {name}: {cause}"] if cause else []


def connectivity_problems(name: str, option: str = "--connectivity") -> list[str]:
    """Problems of the file of a connectivity; parameters as of `fc_problems`."""
    file = Path(name)
    if not file.exists():
        problem = connectivity_problem(name)
        return [f"{option} {name}: no such file, and {problem}{suggest_file(file)}"] if problem else []
    try:
        with file.open("rb") as opened:
            is_hdf5 = opened.read(len(_HDF5)) == _HDF5
    except OSError as error:
        return [f"{option} {name}: {error.strerror}"]
    if not (is_hdf5 if file.suffix == ".h5" else zipfile.is_zipfile(file)):
        kind = "HDF5" if file.suffix == ".h5" else "zip"
        return [f"{option} {name}: no {kind} file; give a connectivity of TVB, which ends in .zip or .h5"]
    return []


def _simulator_problems(name):
    """Problems of a script; a module is searched for when it is imported."""
    file = Path(name)
    if not file.exists() and ":" in name:
        file = Path(name.rpartition(":")[0])
    if not is_script(str(file)):
        return []
    try:
        ast.parse(file.read_bytes(), str(file))
    except FileNotFoundError:
        return [f"--simulator {name}: no such file.{suggest_file(file)}".rstrip(".")]
    except OSError as error:
        return [f"--simulator {name}: {error.strerror}"]
    except (SyntaxError, ValueError) as error:
        return [f"--simulator {name}: {type(error).__name__}: {error}"]
    return []
