"""Data sets are read from their files unchanged, without importing their packages, and TVB accepts them."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from tvb.datatypes.connectivity import Connectivity

from tvb_jaxfit.data import load_connectivity, load_functional_connectivity, load_structural_connectivity

loaders = pytest.mark.parametrize(
    "load", [load_structural_connectivity, load_functional_connectivity, load_connectivity]
)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Package with TVB-Optim's name and data of two regions, that cannot be imported."""
    package = tmp_path / "tvboptim"
    for kind in ("connectivity", "functional"):
        (package / "data" / kind / "dk_average").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.delitem(sys.modules, "tvboptim", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def write(kind, **arrays):
        np.savez(package / "data" / kind / "dk_average" / "data.npz", **arrays)

    return write


def test_structural_connectivity_is_that_of_84_labelled_regions():
    weights, lengths, region_labels = load_structural_connectivity()
    for matrix in (weights, lengths):
        assert matrix.dtype == np.float64
        assert matrix.shape == (84, 84)
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(np.diag(matrix), 0)
        assert (matrix >= 0).all()
    # Millimetres: longer than a voxel, shorter than a path around the head.
    assert 1 < lengths[weights > 0].min() < lengths.max() < 300
    assert len(set(region_labels)) == 84
    assert {type(label) for label in region_labels} == {str}
    assert [sum(label.startswith(side) for label in region_labels) for side in ("L.", "R.")] == [42, 42]


def test_functional_connectivity_is_a_correlation_matrix_with_a_zero_diagonal():
    fc = load_functional_connectivity()
    assert fc.dtype == np.float64
    assert fc.shape == (84, 84)
    np.testing.assert_array_equal(np.diag(fc), 0)
    np.testing.assert_allclose(fc + np.eye(84), (fc + np.eye(84)).T, rtol=0, atol=1e-12)
    assert np.linalg.eigvalsh(fc + np.eye(84)).min() > -1e-6


def test_data_are_the_files_own_numbers_and_the_package_is_not_imported(stand_in):
    weights, lengths = np.array([[0, 3], [7, 0]]), np.array([[0.0, 11.5], [12.5, 0.0]])
    fc = np.array([[0.0, 0.5], [0.5, 0.0]])
    stand_in("connectivity", weights=weights, lengths=lengths, region_labels=np.array(["a", "b"]))
    stand_in("functional", fc=fc)
    loaded_weights, loaded_lengths, region_labels = load_structural_connectivity()
    np.testing.assert_array_equal(loaded_weights, weights)
    assert loaded_weights.dtype == np.float64
    np.testing.assert_array_equal(loaded_lengths, lengths)
    assert region_labels == ["a", "b"]
    np.testing.assert_array_equal(load_functional_connectivity(), fc)
    assert "tvboptim" not in sys.modules


def test_objects_in_a_file_are_not_unpickled(stand_in):
    matrix, objects = np.zeros((2, 2)), np.array(["a", "b"], dtype=object)
    stand_in("connectivity", weights=matrix, lengths=matrix, region_labels=objects)
    stand_in("functional", fc=objects)
    for load in (load_structural_connectivity, load_functional_connectivity):
        with pytest.raises(ValueError, match="allow_pickle=False"):
            load()


def test_importing_the_loaders_imports_neither_tvb_nor_jax(pytestconfig):
    script = "import sys, tvb_jaxfit.data; print(sorted({'jax', 'tvb', 'tvboptim'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=pytestconfig.rootpath, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@loaders
def test_a_missing_package_is_named_with_the_command_that_installs_it(load, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *args: None if name == "tvboptim" else find_spec(name, *args)
    )
    with pytest.raises(ModuleNotFoundError, match=r'pip install "tvb-jaxfit\[demos\]"'):
        load()


@loaders
@pytest.mark.usefixtures("stand_in")
def test_a_package_without_the_file_is_told_from_a_missing_package(load):
    with pytest.raises(FileNotFoundError, match=r'0\.4 or later: pip install "tvb-jaxfit\[demos\]"'):
        load()


def test_dk_average_is_a_connectivity_that_tvb_accepts():
    weights, lengths, region_labels = load_structural_connectivity()
    connectivity = load_connectivity("dk_average")
    connectivity.configure()
    np.testing.assert_array_equal(connectivity.weights, weights)
    np.testing.assert_array_equal(connectivity.tract_lengths, lengths)
    assert connectivity.region_labels.tolist() == region_labels
    np.testing.assert_array_equal(connectivity.centres, np.zeros((84, 3)))
    # TVB derives the hemispheres from the labels.
    np.testing.assert_array_equal(connectivity.hemispheres, [label.startswith("R.") for label in region_labels])


@pytest.mark.parametrize(
    "name, file",
    [
        ("76", "connectivity_76.zip"),
        ("connectivity_76", "connectivity_76.zip"),
        ("connectivity_76.zip", "connectivity_76.zip"),
        ("96", "connectivity_96.zip"),
        ("paupau", "paupau.zip"),
    ],
)
def test_names_of_tvb_data_load_what_tvb_itself_loads(name, file):
    loaded, expected = load_connectivity(name), Connectivity.from_file(file)
    for field in ("weights", "tract_lengths", "centres", "region_labels", "cortical", "areas", "orientations"):
        np.testing.assert_array_equal(getattr(loaded, field), getattr(expected, field))


def test_each_call_returns_a_new_connectivity():
    first, second = load_connectivity(), load_connectivity()
    first.weights /= first.weights.max()
    assert second.weights.max() > 1


@pytest.mark.parametrize("load", [load_structural_connectivity, load_functional_connectivity])
def test_unknown_names_are_refused_with_those_that_exist(load):
    with pytest.raises(ValueError, match=r"no data set 'dTOR'. Available: dk_average\."):
        load("dTOR")


def test_an_unknown_connectivity_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match=r"no data set '77'. Available: dk_average, .*connectivity_76\.zip, "):
        load_connectivity("77")
