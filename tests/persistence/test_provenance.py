"""Provenance names the files of FC and connectome with their SHA-256, and the SHA-256 of the values of arrays."""

import hashlib

import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes.connectivity import Connectivity

from tvb_jaxfit import load_connectivity, load_functional_connectivity
from tvb_jaxfit.command.matrices import load_array, load_fc
from tvb_jaxfit.command.simulator import _connectivity
from tvb_jaxfit.persistence.provenance import data_provenance, describe, digest


def sha256(path):
    """SHA-256 of a file, as sha256sum prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def connectivity_of(n_node):
    """Connectivity that was not read from a file."""
    weights, lengths = np.random.default_rng(n_node).uniform(size=(2, n_node, n_node))
    return Connectivity(weights=weights, tract_lengths=lengths)


def test_an_array_is_its_shape_and_the_hash_of_its_values_whatever_holds_them():
    values = np.random.default_rng(1).uniform(size=(4, 4)).astype(np.float32)
    expected = hashlib.sha256(values.astype("<f8").tobytes()).hexdigest()
    for array in (values, values.tolist(), jnp.asarray(values), np.asfortranarray(values)):
        assert describe(array) == f"4 x 4 values, SHA-256 of them as float64 {expected}"
    assert digest(values.T) != expected


@pytest.mark.parametrize("name", ["fc.csv", "fc.npy", "labelled.csv"])
def test_a_file_that_was_read_is_named_with_its_hash(tmp_path, name):
    values = np.random.default_rng(len(name)).uniform(size=(3, 3)).round(3)
    if name.endswith(".npy"):
        np.save(tmp_path / name, values)
    else:
        heads, lines = ",a,b,c\n", [",".join(map(str, row)) for row in values]
        lines = [f"{region},{line}" for region, line in zip("abc", lines, strict=True)] if "label" in name else lines
        (tmp_path / name).write_text((heads if "label" in name else "") + "\n".join(lines))
    told = data_provenance(load_fc(str(tmp_path / name)), connectivity_of(3))
    assert told["empirical FC"].startswith(f"{tmp_path / name}, SHA-256 of the file {sha256(tmp_path / name)}; 3 x 3")
    assert "file" not in told["weights"] and "file" not in told["tract lengths"]
    # Other values have no source.
    assert "file" not in describe(np.asarray(load_array(str(tmp_path / name), "fc")) + 1e-9)


def test_data_that_is_given_by_name_is_named_with_the_hash_of_its_file():
    connectivity = load_connectivity("dk_average")
    told = data_provenance(load_functional_connectivity(), connectivity)
    for name, kind in {
        "empirical FC": "functional",
        "weights": "connectivity",
        "tract lengths": "connectivity",
    }.items():
        assert told[name].startswith(f"dk_average (tvboptim/data/{kind}/dk_average/data.npz), SHA-256 of the file ")
    connectivity.weights = connectivity.scaled_weights(mode="tract")
    scaled = data_provenance(load_functional_connectivity(), connectivity)
    assert "dk_average" not in scaled["weights"] and "scaled or changed since it was read" in scaled["weights"]
    assert load_connectivity("76") is not None and "connectivity_76.zip (tvb_data)" in describe(
        load_connectivity("76").tract_lengths
    )


def test_a_connectome_from_a_file_on_the_command_line_is_named(tmp_path):
    import importlib.resources

    file = tmp_path / "mine.zip"
    file.write_bytes((importlib.resources.files("tvb_data.connectivity") / "connectivity_66.zip").read_bytes())
    connectivity = _connectivity({"connectivity": str(file), "weights_scaling": "tract", "speed": 3.0})
    told = data_provenance(np.eye(66), connectivity)
    assert told["tract lengths"].startswith(f"{file}, SHA-256 of the file {sha256(file)}; 66 x 66 values")
