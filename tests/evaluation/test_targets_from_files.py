"""A target may be a path: fit and evaluate read the same formats as the command line."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

import tvb_jaxfit as tj
from tvb_jaxfit.command.matrices import load_fc
from tvb_jaxfit.evaluation.sessions import named_targets
from tvb_jaxfit.evaluation.target import match_target

LABELS = ["lA", "lB", "l<C>", "rA", "rB"]
FC = np.corrcoef(np.random.default_rng(3).normal(size=(5, 60)) + np.random.default_rng(4).normal(size=60))
EXPECTED = FC * ~np.eye(5, dtype=bool)
ORDER = [3, 0, 4, 2, 1]
SHUFFLED = pd.DataFrame(FC, LABELS, LABELS).iloc[ORDER, ORDER]


def _text(delimiter):
    return lambda path: np.savetxt(path, FC, delimiter=delimiter)


FORMATS = {
    "commas.csv": _text(","),
    "semicolons.csv": _text(";"),
    "tabs.tsv": _text("\t"),
    "spaces.txt": _text(" "),
    "numbered.csv": lambda path: pd.DataFrame(FC).to_csv(path),
    "names of both.csv": lambda path: SHUFFLED.to_csv(path),
    "names of columns.csv": lambda path: SHUFFLED.to_csv(path, index=False),
    "names of rows.tsv": lambda path: SHUFFLED.to_csv(path, header=False, sep="\t"),
    "array.npy": lambda path: np.save(path, FC),
    "arrays.npz": lambda path: np.savez(path, other=np.zeros(3), fc=FC),
    "arrays.npz:mine": lambda path: np.savez(str(path).removesuffix(":mine"), other=np.zeros(3), mine=FC),
    "matlab.mat": lambda path: scipy.io.savemat(path, {"fc": FC}),
    "one.mat": lambda path: scipy.io.savemat(path, {"anything": FC}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_from_a_path_and_from_a_string(tmp_path, name):
    path = tmp_path / name
    FORMATS[name](path)
    with warnings.catch_warnings():
        # Rows are put into the order of the regions.
        warnings.simplefilter("ignore")
        for target in (path, str(path), tj.load_fc(path), load_fc(str(path))):
            np.testing.assert_allclose(match_target(target, LABELS), EXPECTED, rtol=0, atol=1e-15)


def test_sessions_may_be_paths(tmp_path):
    paths = [tmp_path / "one.npy", tmp_path / "two.csv"]
    np.save(paths[0], FC)
    SHUFFLED.to_csv(paths[1])
    with pytest.warns(UserWarning, match="put into the order"):
        by_order = named_targets(paths, LABELS)
        by_name = named_targets(dict(zip(["a", "b"], map(str, paths), strict=True)), LABELS)
    assert by_order.sessions == ("session 0", "session 1") and by_name.sessions == ("a", "b")
    for targets in (by_order, by_name):
        np.testing.assert_allclose(targets.matrices["mean"], EXPECTED, rtol=0, atol=1e-15)


def test_a_missing_file_is_named_with_a_similar_existing_one(tmp_path):
    np.save(tmp_path / "fc_rest.npy", FC)
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'fc_rest\.npy'\?"):
        match_target(tmp_path / "fc_res.npy", LABELS)
    with pytest.raises(ValueError, match="no such file, and there is no data set 'dk_mean'"):
        match_target("dk_mean", LABELS)


def test_a_data_set_is_a_target_by_its_name():
    np.testing.assert_array_equal(tj.load_fc("dk_average"), tj.load_functional_connectivity("dk_average"))


def test_fit_and_evaluate_take_a_path(tmp_path, build_small):
    sim, path = build_small(simulation_length=400.0), Path(tmp_path) / "fc.csv"
    np.savetxt(path, FC, delimiter=",")
    # Five regions instead of six: the message shows that the file was read.
    with pytest.raises(ValueError, match=r"target: shape \(5, 5\) for 6 regions"):
        tj.fit(sim, path, {"coupling.a": tj.Parameter()})
    with pytest.raises(ValueError, match=r"target: shape \(5, 5\) for 6 regions"):
        tj.evaluate(sim, str(path), fc=tj.FCOptions(skip_t=0), progress=False)
