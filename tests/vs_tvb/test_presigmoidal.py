"""PreSigmoidal's parameters are accepted in every shape that TVB accepts, with the meaning that they have in TVB."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling, integrators, models, monitors
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj

N_NODE = 4
SHAPES = [(4,), (4, 1), (1, 4), (4, 1, 1), (1, 4, 1), (4, 1, 1, 1), (2,), (2, 1, 1), (2, 4, 1), (4, 2, 1, 1), (1, 1)]


@pytest.fixture
def hopfield(connectivity_of):
    """Function that returns the simulator of TVB's Hopfield demo with given parameters of its coupling."""

    def build(**parameters):
        random = np.random.RandomState(0)
        dynamic = parameters.pop("dynamic", False)
        return Simulator(
            connectivity=connectivity_of(random.uniform(0.1, 1.0, (N_NODE, N_NODE))),
            model=models.Hopfield(dynamic=np.array([int(dynamic)])),
            coupling=coupling.PreSigmoidal(G=np.array([2.0]), dynamic=dynamic, **parameters),
            integrator=integrators.EulerDeterministic(dt=0.5),
            monitors=[monitors.Raw()],
            initial_conditions=random.uniform(0.0, 1.0, (1, 2, N_NODE, 1)),
            simulation_length=2.0,
        )

    return build


def values(shape):
    return 0.3 + 0.1 * np.arange(np.prod(shape)).reshape(shape)


@pytest.mark.parametrize("shape", [(4,), (4, 1, 1)])
def test_regional_thresholds_have_the_meaning_that_they_have_in_tvb(
    hopfield, float64_tvb, equal_runs, difference, shape
):
    sim = hopfield(theta=values(shape))
    simulate, state = tj.prepare(sim)
    assert state.coupling.theta.shape == (N_NODE,)
    ours = simulate(state)
    equal_runs(ours, float64_tvb(sim).run(), tolerance=1e-12)
    other = float64_tvb(hopfield(theta=values((4, 1, 1) if shape == (4,) else (4,)))).run()
    assert difference(ours, other)[0] > 1e-6

    @jax.jit
    def mean(theta):
        return jnp.mean(simulate(state.replace(coupling=state.coupling.replace(theta=theta))).data[0])

    theta, step = state.coupling.theta, jnp.array([1e-5, 0.0, 0.0, 0.0])
    slope = (mean(theta + step) - mean(theta - step)) / 2e-5
    assert jax.jit(jax.grad(mean))(theta)[0] == pytest.approx(float(slope), rel=1e-6)
    changed = state.replace(coupling=state.coupling.replace(theta=theta + 0.1))
    tj.write_back(changed, sim)
    np.testing.assert_array_equal(sim.coupling.theta, values(shape) + 0.1)
    equal_runs(simulate(changed), float64_tvb(sim).run(), tolerance=1e-12)


@pytest.mark.parametrize(
    "dynamic, global_t", [(False, False), *(pytest.param(d, g, marks=pytest.mark.slow) for d, g in [(0, 1), (1, 0)])]
)
@pytest.mark.parametrize("name", ["theta", *(pytest.param(n, marks=pytest.mark.slow) for n in "HQGP")])
def test_every_shape_is_accepted_or_refused_as_in_tvb(hopfield, float64_tvb, name, dynamic, global_t):
    """`prepare` itself compares one step from a random history with TVB's."""
    n_accepted = 0
    for shape in SHAPES:
        sim = hopfield(dynamic=bool(dynamic), globalT=bool(global_t))
        setattr(sim.coupling, name, values(shape))
        try:
            theirs = float64_tvb(sim).run()
        except Exception:
            with pytest.raises(tj.UnsupportedComponent, match="TVB's own PreSigmoidal fails with Hopfield"):
                tj.prepare(sim)
            continue
        _, state = tj.prepare(sim)
        assert np.isfinite(theirs[0][1]).all()
        assert getattr(state.coupling, name).size == np.prod(shape)
        n_accepted += 1
    assert n_accepted >= 4


def test_a_value_of_another_shape_is_refused_by_the_state(hopfield):
    simulate, state = tj.prepare(hopfield(theta=values((4,))))
    with pytest.raises(ValueError, match=r"State.coupling.theta: shape \(3,\) is neither global .*nor regional \(4,\)"):
        simulate(state.replace(coupling=state.coupling.replace(theta=jnp.ones(3))))
    with pytest.raises(ValueError, match=r"State.coupling.G: 4 values; PreSigmoidal"):
        simulate(state.replace(coupling=state.coupling.replace(G=jnp.ones(4))))
