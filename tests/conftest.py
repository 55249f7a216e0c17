"""Fixtures of the comparisons with TVB: simulators, TVB's own runs as reference, and snapshots of TVB objects."""

import contextlib
import copy
import types

import jax
import numpy as np
import pytest
from tvb.basic.neotraits.api import HasTraits
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.descriptors import NDArray
from tvb.simulator.history import BaseHistory, DenseHistory, SparseHistory
from tvb.simulator.simulator import Simulator

from tvb_jaxfit.parameters import path_name
from tvb_jaxfit.translate.clone import configured_clone

# TVB's Additive noise at the amplitude of Deco et al. (2013).
NSIG = 0.00283**2 / 2


@pytest.fixture(scope="session")
def weights_76():
    """Directed weights of tvb-data, scaled to a maximum of 1."""
    weights = Connectivity.from_file().weights
    weights = weights / weights.max()
    assert weights.shape == (76, 76) and np.any(weights != weights.T)
    weights.setflags(write=False)
    return weights


@pytest.fixture(scope="session")
def weights_6():
    """Directed weights of six regions, some pairs unconnected."""
    weights = np.random.RandomState(0).uniform(0.1, 1.0, size=(6, 6))
    weights[weights < 0.3] = 0.0
    np.fill_diagonal(weights, 0.0)
    weights.setflags(write=False)
    return weights


def white_matter(weights, tract_lengths=None, speed=np.inf):
    """New connectivity, without delays unless tract lengths and a speed are given."""
    n_node = len(weights)
    return Connectivity(
        weights=np.array(weights),
        tract_lengths=np.full((n_node, n_node), 10.0) if tract_lengths is None else np.array(tract_lengths),
        centres=np.zeros((n_node, 3)),
        region_labels=np.array([f"region {i}" for i in range(n_node)]),
        speed=np.array([speed]),
    )


def simulator(weights, *, dt=4.0, steps=300, scheme="HeunStochastic", nsig=NSIG, seed=42, **parts):
    """Simulator of reduced Wong-Wang regions near their bifurcation, where coupling matters.

    ``model``: its parameters; any other keyword is an attribute of the Simulator itself.
    """
    integrator = getattr(integrators, scheme)(dt=dt)
    if scheme.endswith("Stochastic"):
        integrator.noise = noise.Additive(nsig=np.atleast_1d(nsig), noise_seed=seed)
    values = {"w": np.array([0.5]), "I_o": np.array([0.32])} | parts.pop("model", {})
    defaults = {
        "connectivity": white_matter(weights),
        "model": models.ReducedWongWang(**values),
        "coupling": coupling.Linear(a=np.array([0.07])),
        "integrator": integrator,
        "monitors": [monitors.Raw()],
        "simulation_length": steps * dt,
    }
    return Simulator(**(defaults | parts))


@pytest.fixture
def build(weights_76):
    """Simulator of 76 regions (see `simulator`)."""
    return lambda weights=weights_76, **parts: simulator(weights, **parts)


@pytest.fixture
def build_small(weights_6):
    """Simulator of six regions (see `simulator`)."""
    return lambda weights=weights_6, **parts: simulator(weights, **parts)


class Float64TVB:
    """TVB with a double-precision history: a copy of a simulator, and its runs."""

    def __init__(self, sim):
        self.sim = configured_clone(sim, float64_history=True)

    def run(self):
        return self.sim.run()


@pytest.fixture
def float64_tvb():
    """Class: ``float64_tvb(sim).run()`` is TVB's own run on a copy, with a history in double precision."""
    return Float64TVB


@contextlib.contextmanager
def histories_in_double():
    """TVB with float64 in place of float32 in its history classes, for simulators that TVB itself configures."""
    classes = (BaseHistory, DenseHistory, SparseHistory)
    arrays = [a for cls in classes for a in vars(cls).values() if isinstance(a, NDArray) and a.dtype == "f"]
    try:
        for array in arrays:
            array.dtype = "d"
        yield
    finally:
        for array in arrays:
            array.dtype = "f"


@pytest.fixture
def float64_histories():
    """Function: `histories_in_double`, for tests in which the user's own simulator is configured by TVB."""
    return histories_in_double


@pytest.fixture
def put_in():
    """Function (state, path, value): state with an unchecked value, as a tree map can leave one."""

    def put(state, path, value):
        def one(at, leaf):
            return value if path_name(at) == path else leaf

        return jax.tree_util.tree_map_with_path(one, state)

    return put


@pytest.fixture
def float32_tvb():
    """Function: configured copy with TVB's float32 history. NumPy's global stream is left alone."""
    return configured_clone


def assert_equal_runs(ours, theirs, tolerance=1e-13, bold_tolerance=1e-11, kinds=None):
    """Times exactly equal, data within an absolute tolerance: states lie in [0, 1], BOLD reaches about 200.

    Rounding alone is 1e-15. TVB's transfer function y / (1 - exp(-y)) loses digits near y = 0, which can add up to
    1e-13, and in millions of samples to 1e-12. Returns the largest difference of each monitor.
    """
    assert len(ours) == len(theirs)
    worst = []
    for index, ((our_time, our_data), (time, data)) in enumerate(zip(ours, theirs, strict=True)):
        our_data = np.asarray(our_data)
        assert data.size and np.isfinite(data).all()
        assert our_data.shape == data.shape
        np.testing.assert_array_equal(our_time, time)
        bold = kinds is not None and isinstance(kinds[index], monitors.Bold)
        worst.append(np.max(np.abs(our_data - data)))
        assert worst[-1] <= (bold_tolerance if bold else tolerance), f"monitors[{index}]: {worst[-1]:.2e}"
    return worst


@pytest.fixture
def equal_runs():
    """Function: `assert_equal_runs`."""
    return assert_equal_runs


def largest_difference(ours, theirs):
    """Largest difference of each monitor."""
    return [np.max(np.abs(np.asarray(a) - np.asarray(b))) for (_, a), (_, b) in zip(ours, theirs, strict=True)]


@pytest.fixture
def difference():
    """Function: `largest_difference`."""
    return largest_difference


def _plain(value, seen):
    """TVB object as nested data that compares by value: every attribute, including private ones."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return [_plain(item, seen) for item in value.ravel()]
        return ("array", value.dtype.str, value.shape, value.flags.writeable, value.tobytes())
    if isinstance(value, np.random.RandomState):
        return ("stream", *(_plain(item, seen) for item in value.get_state()))
    if isinstance(value, types.MethodType):
        return ("method", value.__func__.__qualname__, id(value.__self__))
    if isinstance(value, dict):
        return {key: _plain(item, seen) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *(_plain(item, seen) for item in value)]
    if isinstance(value, (HasTraits, BaseHistory)):
        if id(value) in seen:
            return ("seen", seen[id(value)])
        seen[id(value)] = len(seen)
        for name in getattr(type(value), "declarative_attrs", ()):
            # Reading a trait puts its default on the instance. Read here, so that it makes no difference later.
            try:
                getattr(value, name)
            except Exception:  # required and not given
                continue
        content = {name: _plain(item, seen) for name, item in vars(value).items()}
        if isinstance(value, BaseHistory):
            # TVB stores these in its descriptors, not on the instance.
            for cls in (BaseHistory, DenseHistory, SparseHistory):
                for name in vars(cls):
                    if hasattr(vars(cls)[name], "instance_state"):
                        content[name] = _plain(getattr(value, name), seen)
            return (type(value).__name__, content)
        return (type(value).__name__, id(value), content)
    if callable(value) or type(value).__module__ in ("logging", "uuid"):
        return repr(value)
    return copy.deepcopy(value)


def take_snapshot(sim):
    """All contents of a simulator, and NumPy's global random stream, as data that compares by value."""
    return {"sim": _plain(sim, {}), "numpy.random": _plain(list(np.random.get_state()), {})}


@pytest.fixture
def snapshot():
    """Function: `take_snapshot`."""
    return take_snapshot


@pytest.fixture
def connectivity_of():
    """Function: `white_matter`."""
    return white_matter


@pytest.fixture
def copy_of():
    """Function: full copy of a simulator before its run; within `float64_histories` in double precision."""
    return configured_clone


@pytest.fixture
def short_linear_fits(monkeypatch):
    """A smaller sweep, and simulations of seconds instead of 20 minutes."""
    from tvb_jaxfit.fitting.linear import confirmation
    from tvb_jaxfit.fitting.linear import fit as linear_fit

    monkeypatch.setattr(linear_fit, "_POINTS", 16)
    monkeypatch.setattr(linear_fit, "_STARTS", 1)
    monkeypatch.setattr(confirmation, "LONGEST", 20_000.0)
    monkeypatch.setattr(confirmation, "SHORTEST", 20_000.0)
