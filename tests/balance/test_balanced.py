"""Balanced: the published constants, the closed form of the Wong-Wang models, its derivatives, and what is refused."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq
from tvb.simulator.lab import models

import tvb_jaxfit as tj
from tests.balance.conftest import N_NODE, exc_inh
from tvb_jaxfit import Balanced, BalanceWarning
from tvb_jaxfit.fitting.losses import with_costs_of_dependents
from tvb_jaxfit.linear_response.linearise import steady_step
from tvb_jaxfit.parameters import resolve_dependents, strip_parameters
from tvb_jaxfit.persistence.serialise import read, write

A_E, B_E, D_E, A_I, B_I, D_I = 310.0, 125.0, 0.16, 615.0, 177.0, 0.087
REGIONAL = np.linspace(-1.0, 1.0, N_NODE)
CASES = [
    {"G": 0.0},
    {"G": 2.0},
    {"G": 20.0},
    {"G": 1.0, "lamda": 0.6},
    {"G": 1.0, "w_p": 1.4 + 0.3 * REGIONAL, "I_ext": 0.02 + 0.01 * REGIONAL},
    {"G": 1.5, "lamda": 0.2, "M_i": 1.3 + 0.2 * REGIONAL},
]


def _rate(current, a, b, d, gain=1.0):
    x = gain * (a * current - b)
    return x / (1.0 - np.exp(-d * x))


def closed_form(values, weights, target):
    """J_i, S_e and S_i of each region, from the equations as they are published."""
    defaults = {"w_p": 1.4, "I_ext": 0.0, "lamda": 0.0, "G": 2.0, "M_i": 1.0, "W_i": 0.7}
    p = {name: np.broadcast_to(values.get(name, default), N_NODE) for name, default in defaults.items()}
    J_N, I_o = 0.15, 0.382
    target = np.broadcast_to(target, N_NODE)
    S_e = target * 100.0 * 0.641e-3 / (1.0 + target * 100.0 * 0.641e-3)
    c = p["G"] * J_N * weights @ S_e

    def root(function, low, high):
        return brentq(function, low, high, xtol=1e-15, rtol=1e-15)

    def of_region(w_p, I_ext, lamda, gain, W_i, c, S, rate):
        I_e = root(lambda current: _rate(current, A_E, B_E, D_E, gain) - rate, 0.3, 0.4031)
        to_i = J_N * S + W_i * I_o + lamda * c
        S_i = root(lambda S_i: 0.01 * _rate(to_i - S_i, A_I, B_I, D_I, gain) - S_i, 0.0, 1.0)
        return (w_p * J_N * S + I_o + c + I_ext - I_e) / S_i, S, S_i

    regions = zip(*(p[name] for name in ("w_p", "I_ext", "lamda", "M_i", "W_i")), c, S_e, target, strict=True)
    return np.array([of_region(*region) for region in regions]).T


def _balanced(sim, **options):
    simulate, state = tj.prepare(sim)
    state.model.J_i = Balanced(simulate=simulate, **options)
    return simulate, state


def _regional(model="ReducedWongWangExcInh", target=3.0, **values):
    """(simulator, state) with a value of each region."""
    sim = exc_inh(model)
    _, state = _balanced(sim, target=np.broadcast_to(target, N_NODE))
    return sim, _with_values(sim, state, values)


def _with_values(sim, state, values):
    """State with values of each region, the simulator's own where none are given, so that all have one program."""
    state = jax.tree.map(lambda leaf: leaf, state)
    for name in ("G", "lamda", "w_p", "I_ext", "W_e", *(["M_i"] if "M_i" in state.model else [])):
        value = values.get(name, np.ravel(getattr(sim.model, name)))
        setattr(state.model, name, jnp.broadcast_to(jnp.asarray(value), (N_NODE,)))
    return state


@pytest.mark.parametrize(
    ("model", "target"),
    [
        pytest.param("ReducedWongWangExcInh", 3.0, marks=pytest.mark.slow),
        pytest.param("DecoBalancedExcInh", 3.0, marks=pytest.mark.slow),
        ("DecoBalancedExcInh", 3.0 + REGIONAL),
    ],
)
def test_the_value_is_the_closed_form(model, target):
    sim, state = _regional(model, target)
    resolved = jax.jit(lambda state: resolve_dependents(state).model.J_i)
    for values in [values for values in CASES if "M_i" not in values or model == "DecoBalancedExcInh"]:
        found = resolved(_with_values(sim, state, values))
        J_i, S_e, S_i = closed_form(values, sim.connectivity.weights, target)
        np.testing.assert_allclose(found.value, J_i, rtol=1e-10)
        np.testing.assert_allclose(found.rest[:, :, 0], [S_e, S_i], rtol=1e-11)
        # Negative control: regions differ where they should.
        assert (np.ptp(J_i) > 0.05) == (values != {"G": 0.0} or np.ndim(target) > 0)


@pytest.mark.parametrize(
    ("rate", "target", "expected"),
    [
        # TVB's units at 3 Hz.
        ("H_e", 3.0, {"I_e": 0.3765333620, "S_e": 0.1612849115, "S_i": 0.0389188682}),
        # Demirtas et al. (2019), cuBNM; J_i is 1 there.
        ("H_e", 3.0773270642, {"I_e": 0.3773805650, "S_e": 0.1647572075, "S_i": 0.0392184486, "J_i": 1.0}),
        # Deco et al. (2014): the current is 0.026 nA below the threshold.
        ("x_e / a_e", -0.026, {"I_e": 0.37723, "S_e": 0.16412, "H_e": 3.0631}),
    ],
    ids=["3 Hz", "Demirtas", "Deco"],
)
def test_an_isolated_region_has_the_published_constants(rate, target, expected):
    state = (
        _regional(target=target, G=0.0)[1] if rate == "H_e" else _balanced(exc_inh(G=0.0), rate=rate, target=target)[1]
    )
    found = resolve_dependents(state).model.J_i
    S_e, S_i = np.asarray(found.rest[:, 0, 0])
    I_e = 1.4 * 0.15 * S_e - float(found.value[0]) * S_i + 0.382
    values = {"I_e": I_e, "S_e": S_e, "S_i": S_i, "J_i": float(found.value[0]), "H_e": _rate(I_e, A_E, B_E, D_E)}
    digits = {0.37723: 5, 0.16412: 5, 3.0631: 4, 1.0: 4}
    for name, value in expected.items():
        assert round(values[name], digits.get(value, 10)) == value, name
    if "J_i" in expected:
        I_i = 0.15 * S_e - S_i + 0.7 * 0.382
        assert round(I_i, 10) == 0.2528951325


PARAMETERS = {"G": 1.0, "w_p": 1.4, "lamda": 0.3, "I_ext": 0.0, "W_i": 0.7}


@pytest.fixture
def value():
    """Function: J_i with numbers added to parameters, and to the weight of one connection."""
    _, state = _balanced(exc_inh(G=1.0, lamda=0.3))

    def value(numbers):
        new = {name: getattr(state.model, name) + number for name, number in zip(PARAMETERS, numbers, strict=False)}
        weights = state.connectivity.weights.at[1, 2].add(numbers[-1])
        connectivity = state.connectivity.replace(weights=weights)
        return strip_parameters(state.replace(model=state.model.replace(**new), connectivity=connectivity)).model.J_i

    return value


def test_its_derivatives_are_central_differences_of_the_closed_form(value):
    backward, weights = jax.jit(jax.jacrev(value))(jnp.zeros(6)), exc_inh().connectivity.weights

    def exact(numbers):
        changed = weights.copy()
        changed[1, 2] += numbers[-1]
        values = {name: at + number for (name, at), number in zip(PARAMETERS.items(), numbers, strict=False)}
        return closed_form(values, changed, 3.0)[0]

    # Richardson: central differences of two steps.
    first, second = (np.stack([exact(h * u) - exact(-h * u) for u in np.eye(6)], 1) / (2 * h) for h in (2e-3, 1e-3))
    np.testing.assert_allclose(backward, (4.0 * second - first) / 3.0, rtol=1e-7, atol=1e-8)
    assert np.all(np.abs(backward).max(axis=0) > 0.1)


@pytest.mark.slow
def test_its_derivatives_forward_are_those_in_reverse(value):
    backward, forward = (jax.jit(jacobian(value))(jnp.zeros(6)) for jacobian in (jax.jacrev, jax.jacfwd))
    np.testing.assert_allclose(forward, backward, rtol=1e-10, atol=1e-14)


@pytest.mark.slow
def test_a_simulation_follows_the_balance_whatever_is_changed():
    simulate, state = _balanced(exc_inh(G=0.2, nsig=0.0, length=500.0))

    @jax.jit
    def last(G):
        (_, data), *_ = simulate(state.replace(model=state.model.replace(G=G)))
        return data[-1, 0, :, 0]

    # Without noise, the run from near the fixed point ends in it, where S_e has the value of 3 Hz.
    np.testing.assert_allclose(last(jnp.asarray(0.5)), 0.1612849115, atol=1e-3)
    np.testing.assert_allclose(last(jnp.asarray(0.8)), 0.1612849115, atol=1e-3)
    # Negative control: the values of another coupling.
    plain = strip_parameters(state)
    plain.model.G = jnp.asarray(0.8)
    (_, other), *_ = simulate(plain)
    assert np.abs(other[-1, 0, :, 0] - 0.1612849115).max() > 0.01
    # The gradient of a run passes through the balance.
    at = jnp.asarray(0.5)
    central = [(last(at + h) - last(at - h))[0] / (2.0 * h) for h in (2e-3, 1e-3)]
    gradient = jax.jit(jax.grad(lambda G: last(G)[0]))(at)
    np.testing.assert_allclose(gradient, (4.0 * central[1] - central[0]) / 3.0, rtol=1e-6)


@pytest.mark.slow
def test_another_models_rate_is_balanced_by_a_parameter_that_excites():
    sim = exc_inh()
    sim.model = models.WilsonCowan(P=np.array([0.6]), variables_of_interest=("E", "I"))
    sim.coupling.a = np.array([0.5])
    simulate, state = tj.prepare(sim)
    state.model.P = Balanced(0.15, "E", simulate)
    found = resolve_dependents(state)
    np.testing.assert_allclose(found.model.P.rest[0, :, 0], 0.15, rtol=1e-10)
    assert np.ptp(found.model.P.value) > 1e-3
    # It is at rest: a step of TVB's own scheme, without noise, leaves it there.
    x = found.model.P.rest
    moved = steady_step(
        simulate.step, simulate.constants(strip_parameters(found)), state.connectivity.weights, {"noise": 0.0 * x}, x
    )
    np.testing.assert_allclose(moved, x, rtol=1e-12)


def test_negative_values_are_reported_with_their_regions():
    _, state = _regional(G=0.1, w_p=[1.4, 1.4, 0.1, 1.4, 0.1], W_e=0.93)
    with pytest.warns(BalanceWarning, match=r"model.J_i: 2 of 5 balanced values are below 0 .* in region 2, region 4"):
        value = strip_parameters(state).model.J_i
    # They are never cut off.
    assert np.sum(value < 0.0) == 2
    parameter = state.model.J_i
    assert float(parameter.cost(value)) > 2.0 and float(parameter.cost(jnp.ones(5))) == 0.0
    assert float(parameter.cost(jnp.ones(5).at[2].set(0.0))) == pytest.approx(1.0)
    # A fit adds the cost to its penalty.
    plain = state.replace(model=state.model.replace(J_i=value))
    penalty = with_costs_of_dependents(lambda state: 1.0, state)
    assert float(penalty(plain)) == pytest.approx(1.0 + float(parameter.cost(value)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda simulate: Balanced(0.0), "and not 0"),
        (lambda simulate: Balanced([1.0, np.nan]), "not finite"),
        (lambda simulate: Balanced(rate=3), "rate = 3; give a string"),
        (lambda simulate: Balanced(), r"Give Balanced\(simulate=simulate\)"),
        (lambda simulate: Balanced([1.0, 2.0], simulate=simulate), "2 targets"),
        (lambda simulate: Balanced(rate="H_E", simulate=simulate), "no variable 'H_E' .* Did you mean 'H_e'"),
        (lambda simulate: Balanced(rate="H_e +", simulate=simulate), "no expression of Python"),
    ],
)
def test_what_cannot_be_balanced_is_refused(make, message):
    simulate, state = tj.prepare(exc_inh())
    with pytest.raises(ValueError, match=message):
        state.model.J_i = make(simulate)
        strip_parameters(state)


def test_it_is_shown_stored_and_pickled(tmp_path, capsys):
    _, state = _regional(G=1.0)
    tj.show_parameters(state)
    assert "(5 values), Balanced H_e = 3 at the fixed point" in capsys.readouterr().out
    found = resolve_dependents(state)
    write(tmp_path / "state.npz", {"J_i": found.model.J_i}, "parameter")
    again = read(tmp_path / "state.npz", "parameter")["J_i"]
    np.testing.assert_array_equal(again.value, found.model.J_i.value)
    # A file holds no simulator: the value stays as it is.
    assert again.simulate is None and again.resolve(strip_parameters(state), "model.J_i") is again
    copy = pickle.loads(pickle.dumps(found))
    np.testing.assert_allclose(strip_parameters(copy).model.J_i, found.model.J_i.value, rtol=1e-12)
