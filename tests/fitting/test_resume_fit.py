"""A fit is resumed only if it is the same: a difference is refused by the name that its user knows."""

import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import coupling, monitors

import tvb_jaxfit as tj
from tests.conftest import simulator

N_NODE, STEPS = 4, 6


def _sim(change=lambda sim: None, **parts):
    weights = np.random.RandomState(0).uniform(0.1, 1.0, (N_NODE, N_NODE)) * ~np.eye(N_NODE, dtype=bool)
    sim = simulator(weights, steps=150, **({"monitors": [monitors.TemporalAverage(period=16.0)]} | parts))
    change(sim)
    return sim


def _target(seed=1, shift=0.0):
    random = np.random.RandomState(seed)
    fc = np.corrcoef(random.normal(size=(N_NODE, 40)) + random.normal(size=40))
    return fc + shift * ~np.eye(N_NODE, dtype=bool)


def fitted(path, steps=STEPS, sim=None, target=None, **options):
    """A fit with a checkpoint."""
    free = {"coupling.a": tj.Parameter(), "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=2.0)}
    options = {"method": "simulate", "free": free, "max_steps": steps, "progress": False, "checkpoint": path} | options
    return tj.fit(_sim() if sim is None else sim, _target() if target is None else target, **options)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Checkpoint of a fit of three steps."""
    path = tmp_path_factory.mktemp("begun") / "fit.npz"
    fitted(path, steps=3)
    return path


@pytest.fixture
def begun_elsewhere(tmp_path):
    """Checkpoint of a fit that was started in another process."""
    path = tmp_path / "fit.npz"
    script = f"""
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.fitting.test_resume_fit import fitted
fitted({str(path)!r}, steps=3)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])
    return path


@pytest.fixture
def copied(begun, tmp_path):
    return shutil.copy(begun, tmp_path / "fit.npz")


@pytest.mark.slow
def test_a_fit_resumed_by_another_process_has_the_same_end(begun_elsewhere):
    whole, resumed = fitted(None), fitted(begun_elsewhere, resume=True)
    np.testing.assert_array_equal(resumed.history.loss, whole.history.loss)
    np.testing.assert_array_equal(resumed.fitted.model.w.value, whole.fitted.model.w.value)


def test_a_simulator_that_was_configured_meanwhile_is_the_same(copied):
    sim = _sim()
    sim.configure()
    assert fitted(copied, sim=sim, resume=True).history.loss.size == STEPS + 1


def _set(path, value):
    def change(sim):
        *above, name = path.split(".")
        owner = sim
        for each in above:
            owner = getattr(owner, each)
        setattr(owner, name, value)

    return lambda: {"sim": _sim(change)}


OTHERS = {
    "target": lambda: {"target": _target(shift=1e-9)},
    "another target": lambda: {"target": _target(seed=9)},
    "loss": lambda: {"loss": tj.rmse_corr},
    "penalty": lambda: {"penalty": lambda state: 1e-9 * jnp.sum(state.model.w**2)},
    "skip_t": lambda: {"skip_t": 5},
    "n_realisations": lambda: {"n_realisations": 2},
    "resample": lambda: {"resample": False},
    "patience": lambda: {"patience": 3},
    "simulation_length": lambda: {"simulation_length": 800.0},
    "optimizer": lambda: {"optimizer": optax.adam(0.3)},
    "integrator.noise": lambda: {"source": jax.random.key(5)},
    "simulator.connectivity.speed": _set("connectivity.speed", np.array([3.0])),
    "simulator.model.I_o": _set("model.I_o", np.array([0.33])),
    "simulator.integrator.dt": _set("integrator.dt", 2.0),
    "simulator.integrator.noise.nsig": _set("integrator.noise.nsig", np.array([1e-7])),
    "simulator.coupling": _set("coupling", coupling.Scaling(a=np.array([0.05]))),
    r"simulator.monitors\[0\].period": lambda: {"sim": _sim(monitors=[monitors.TemporalAverage(period=8.0)])},
    r"model.w \(bounds\)": lambda: {
        "free": {
            "coupling.a": tj.Parameter(),
            "model.w": tj.BoundedParameter(lower_bound=0.0, upper_bound=2.0, regional=True),
        }
    },
    "callback SavingCallback state": lambda: {"callback": tj.SavingCallback("state")},
}


# Slow: each of them is recognised in the same way as one of the others.
SLOW = (
    *("another target", "penalty", "n_realisations", "resample", "simulation_length", "simulator.model.I_o"),
    *("simulator.integrator.dt", "simulator.integrator.noise.nsig", "simulator.coupling"),
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in OTHERS])
def test_another_fit_is_refused_by_name(copied, name):
    before = Path(copied).read_bytes()
    named = "target" if name == "another target" else name
    with pytest.raises(ValueError, match=f"is of another fit .*{named}"):
        fitted(copied, resume=True, **OTHERS[name]())
    assert Path(copied).read_bytes() == before


@pytest.mark.slow
def test_max_steps_belongs_to_the_fit_if_the_learning_rate_depends_on_it(tmp_path):
    path, options = tmp_path / "fit.npz", {"method": "linear+simulate", "max_evaluations": 3}
    fitted(path, steps=1, **options)
    fitted(path, steps=1, resume=True, **options)
    with pytest.raises(ValueError, match="another fit .*max_steps"):
        fitted(path, steps=2, resume=True, **options)
