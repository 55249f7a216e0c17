"""Users' models, written otherwise than TVB's own: each one that TVB runs is translated, and gives TVB's numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numba import float64, guvectorize, njit, vectorize
from numpy import exp, tanh
from tvb.basic.neotraits.api import Final, List, NArray
from tvb.simulator import coupling, integrators, models, monitors, noise
from tvb.simulator.models.base import Model, ModelNumbaDfun
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj

N_NODE = 3
SLOW = pytest.mark.slow


def own_model(*names, base=Model, not_integrated=(), parameters=None, **members):
    """Class of a model with given state variables and parameters."""
    parameters = {"k": 0.1, "g": 0.5} if parameters is None else parameters
    attributes = {
        "state_variables": names,
        "non_integrated_variables": list(not_integrated) or None,
        "_nvar": len(names),
        "cvar": np.array([0], dtype=np.int32),
        "state_variable_range": Final(default={name: np.array([-1.0, 1.0]) for name in names}),
        "variables_of_interest": List(of=str, choices=names, default=names),
        **{name: NArray(default=np.array([value])) for name, value in parameters.items()},
    }
    return type(Model)("Mine", (base,), attributes | members)


@pytest.fixture
def of_model(connectivity_of):
    """Function that returns a simulator of three regions with a given model."""

    def build(model, scheme="HeunDeterministic", **parts):
        weights = np.random.RandomState(0).uniform(0.1, 1.0, (N_NODE, N_NODE))
        integrator = getattr(integrators, scheme)(dt=0.5)
        shape = (1, len(model.state_variables), N_NODE, model.number_of_modes)
        return Simulator(
            connectivity=connectivity_of(weights),
            model=model,
            coupling=parts.pop("coupling", coupling.Linear(a=np.array([0.1]))),
            integrator=parts.pop("integrator", integrator),
            monitors=[monitors.Raw()],
            initial_conditions=np.random.RandomState(1).uniform(0.1, 0.9, shape),
            simulation_length=5.0,
            **parts,
        )

    return build


@pytest.fixture
def same_as_tvb(float64_tvb, equal_runs, difference):
    """Function that checks a simulator: TVB's numbers, other ones with another parameter, and the gradient."""

    def check(sim, parameter="k", slope=False):
        simulate, state = tj.prepare(sim)
        ours = simulate(state)
        equal_runs(ours, float64_tvb(sim).run(), tolerance=1e-12)
        value = getattr(state.model, parameter)
        changed = state.replace(model=state.model.replace(**{parameter: value * 1.1}))
        assert difference(simulate(changed), ours)[0] > 1e-6
        if slope:

            def mean(value):
                changed = state.replace(model=state.model.replace(**{parameter: value}))
                return jnp.mean(simulate(changed).data[0] ** 2)

            step = 1e-6 * np.ones_like(value)
            expected = (mean(value + step) - mean(value - step)) / 2e-6
            assert np.sum(jax.grad(mean)(value)) == pytest.approx(float(expected), rel=1e-5, abs=1e-9)
        return simulate, state

    return check


def all_arguments_named(self, state, coupling, local_coupling):
    (u,) = state
    return np.array([-self.k * u + coupling[0] + local_coupling * u])


def other_names(model, *args):
    states, arriving, _ = args
    return np.array([-model.k * states[0] + arriving[0]])


def without_default(self, y, c_, lc, /):
    return np.array([-self.k * y[0] + c_[0] + lc])


@pytest.mark.parametrize("dfun", [all_arguments_named, pytest.param(other_names, marks=SLOW), without_default])
def test_dfun_takes_three_arguments_in_order_whatever_their_names(of_model, same_as_tvb, dfun):
    same_as_tvb(of_model(own_model("u", dfun=dfun)()))


class Boosted(models.ReducedWongWang):
    boost = NArray(default=np.array([0.1]))

    def dfun(self, x, c, local_coupling=0.0):
        S = x[0]
        w = self.w.reshape(-1, 1) if self.w.size > 1 else self.w
        y = self.a * (1 + self.boost) * (w * self.J_N * S + self.I_o + self.J_N * c[0]) - self.b
        return np.array([-S / self.tau_s + (1 - S) * y / (1 - np.exp(-self.d * y)) * self.gamma])


class Columns(models.ReducedWongWang):
    """Model that expects regional parameters of shape (n_node,), as TVB passes them to numba models."""

    def dfun(self, x, c, local_coupling=0.0):
        w = self.w[:, None]
        return np.array([-x[0] / self.tau_s + np.tanh(w * x[0] + c[0])])


@pytest.mark.parametrize("w", [np.array([0.5]), np.linspace(0.4, 0.6, N_NODE)])
@pytest.mark.parametrize("cls", [pytest.param(Boosted, marks=SLOW), Columns])
def test_a_numba_model_may_have_a_numpy_dfun_of_its_own(
    of_model, same_as_tvb, float64_tvb, equal_runs, difference, cls, w
):
    simulate, state = same_as_tvb(of_model(cls(w=w)), "w")
    assert state.model.w.shape == (w.shape if w.size > 1 else ())
    regional = np.linspace(0.4, 0.6, N_NODE)
    ours = simulate(state.replace(model=state.model.replace(w=jnp.asarray(regional))))
    equal_runs(ours, float64_tvb(of_model(cls(w=regional))).run())
    uniform = simulate(state.replace(model=state.model.replace(w=jnp.full(N_NODE, 0.5))))
    assert difference(ours, uniform)[0] > 1e-6


def test_parameters_that_a_models_code_does_not_accept_by_region_are_global(of_model, same_as_tvb):
    simulate, state = tj.prepare(of_model(Boosted()))
    with pytest.raises(ValueError, match=r"State.model.tau_s: shape \(3,\); TVB's Boosted takes one value"):
        simulate(state.replace(model=state.model.replace(tau_s=jnp.full(N_NODE, 100.0))))
    with pytest.raises(tj.UnsupportedComponent, match="Simulator.model"):
        tj.prepare(of_model(Boosted(tau_s=np.linspace(90.0, 110.0, N_NODE))))


def updated_in_place_after(self, x):
    x[2] = np.tanh(x[0] - x[1]) * self.g
    return x


def updated_after(self, x):
    return np.array([x[0], x[1], np.tanh(x[0] - x[1]) * self.g])


def updated_before(self, x, c, local_coupling=0.0, stimulus=0.0):
    self._drive = np.tanh(c[0] + x[1])
    x[2] = self._drive * self.g
    return x


def updated_in_place_before(self, x, c, local_coupling=0.0, stimulus=0.0):
    self._drive = np.tanh(c[0] + x[1])
    x[2] = self._drive * self.g


def dfun_of_integrated(self, x, c, local_coupling=0.0):
    u, v = x
    return np.array([(-self.k * u + np.tanh(u - v) + c[0]) / 10.0, (u - v) / 10.0])


def dfun_of_drive(self, x, c, local_coupling=0.0):
    u, v = x
    if self._drive is None:
        self._drive = np.tanh(c[0] + v)
    dx = np.array([(-self.k * u + self._drive) / 10.0, (u - v) / 10.0])
    self._drive = None
    return dx


BEFORE, AFTER = "update_state_variables_before_integration", "update_state_variables_after_integration"


@pytest.mark.parametrize(
    "scheme",
    [
        "HeunDeterministic",
        pytest.param("EulerDeterministic", marks=SLOW),
        pytest.param("RungeKutta4thOrderDeterministic", marks=SLOW),
    ],
)
@pytest.mark.parametrize(
    "members",
    [
        {AFTER: updated_in_place_after, "dfun": dfun_of_integrated},
        {AFTER: updated_after, "dfun": dfun_of_integrated},
        {BEFORE: updated_before, "dfun": dfun_of_drive, "_drive": None},
        {BEFORE: updated_in_place_before, "dfun": dfun_of_drive, "_drive": None},
        {"dfun": dfun_of_integrated},
    ],
    ids=["in place after", "after", "before", "in place before", "none"],
)
def test_variables_that_a_model_updates_itself(of_model, same_as_tvb, members, scheme):
    sim = of_model(own_model("u", "v", "R", not_integrated=["R"], **members)(), scheme)
    same_as_tvb(sim, slope=members.get(BEFORE) is updated_before)


def dfun_that_writes(self, x, c, local_coupling=0.0):
    x[1] = np.tanh(x[0]) * self.k
    return np.array([-x[0] + x[1] + c[0], 0.0 * x[1]])


@pytest.mark.parametrize(
    "scheme",
    [
        "HeunDeterministic",
        pytest.param("EulerDeterministic", marks=SLOW),
        pytest.param("RungeKutta4thOrderDeterministic", marks=SLOW),
        pytest.param("EulerStochastic", marks=SLOW),
        pytest.param("HeunStochastic", marks=SLOW),
    ],
)
def test_a_dfun_that_writes_to_the_state_changes_it_as_in_tvb(of_model, same_as_tvb, scheme):
    same_as_tvb(of_model(own_model("u", "v", dfun=dfun_that_writes)(), scheme))


def dfun_that_counts(self, x, c, local_coupling=0.0):
    self._calls = self._calls + 1
    return np.array([-self.k * x[0] * self._calls + c[0]])


def test_an_attribute_that_is_carried_from_step_to_step_is_refused(of_model):
    with pytest.raises(tj.UnsupportedComponent, match="_calls is set in one step and read in the next"):
        tj.prepare(of_model(own_model("u", dfun=dfun_that_counts, _calls=0)()))


@guvectorize([(float64[:],) * 5], "(n),(m),(),()->(n)", nopython=True)
def arrays_of_length_1(x, c, k, g, dx):
    dx[0] = -k[0] * x[0] + g[0] * math.tanh(c[0] + x[1])
    dx[1] = -x[1] + x[0]


@njit
def rate(x):
    return 1.0 / (1.0 + exp(-x))


@guvectorize([(float64[:], float64[:], float64, float64, float64, float64[:])], "(n),(m)" + ",()" * 3 + "->(n)")
def scalars_and_branches(vw, coupling, k, g, local_coupling, dx):
    c_pop0 = coupling[0]
    u, v = vw[0], vw[1]
    total = 0.0
    for i in range(3):
        total += (i + 1) * 0.1 * u
    if u < 0.5:
        du = -k * u**2 + rate(v)
    else:
        du = g - k * u
    if g > 0.2 and v < 0.6:
        dv = tanh(total)
    elif v < 0.7:
        dv = max(u, v) - v
    else:
        dv = 0.0
    dx[0] = du + c_pop0
    dx[1] = dv - abs(v) + local_coupling * v


@guvectorize("(n),(m),(),()->(n)")
def without_types(x, c, k, g, dx):
    dx[0] = -k * x[0] + g * math.exp(-x[1] * x[1])
    dx[1] = math.sin(x[0]) - x[1] + c[0]


def into_an_array(self, x, c, local_coupling=0.0):
    dx = np.empty((x.shape[1], 2))
    without_types(x[..., 0].T, c[..., 0].T, self.k, self.g, dx)
    return dx.T[..., np.newaxis]


@vectorize([float64(float64)])
def softsign(x):
    return x / (1.0 + abs(x))


def by_gufunc(gufunc, *more):
    def dfun(self, x, c, local_coupling=0.0):
        x_, c_ = x.reshape(x.shape[:-1]).T, c.reshape(c.shape[:-1]).T
        extra = (local_coupling,) * len(more)
        return gufunc(x_, c_, self.k, self.g, *extra).T[..., np.newaxis]

    return dfun


@pytest.mark.parametrize("k", [pytest.param(np.array([0.1]), marks=SLOW), np.linspace(0.1, 0.3, N_NODE)])
@pytest.mark.parametrize(
    "dfun",
    [by_gufunc(arrays_of_length_1), by_gufunc(scalars_and_branches, "local_coupling"), into_an_array],
    ids=["arrays of length 1", "scalars and branches", "without types"],
)
def test_models_whose_only_code_is_a_gufunc(of_model, same_as_tvb, dfun, k):
    same_as_tvb(of_model(own_model("u", "v", base=ModelNumbaDfun, dfun=dfun)(k=k)), slope=k.size == 1)


def by_ufunc(self, x, c, local_coupling=0.0):
    return np.array([-self.k * x[0] + softsign(x[0] + c[0])])


def test_numbas_ufuncs_are_translated(of_model, same_as_tvb):
    same_as_tvb(of_model(own_model("u", dfun=by_ufunc)()))


@guvectorize([(float64[:],) * 5], "(n),(m),(),()->(n)", nopython=True)
def unbounded_loop(x, c, k, g, dx):
    dx[0], dx[1] = 0.0, 0.0
    y = abs(x[0]) + 0.1
    while y < 10.0:
        y = y * 2.0
        dx[0] += 1.0


def test_a_loop_whose_length_depends_on_the_state_is_refused_with_its_reason(of_model):
    with pytest.raises(tj.UnsupportedComponent, match="unbounded_loop has more than 64 combinations of branches"):
        tj.prepare(of_model(own_model("u", "v", base=ModelNumbaDfun, dfun=by_gufunc(unbounded_loop))()))


def derives_none(self):
    self.rate = 1.0 / (10.0 * self.k)
    self._scratch = None


def derives_function(self):
    self._function = lambda x: np.tanh(self.k * x)


def derives_containers(self):
    self._dict, self._list = {"rate": 2.0 * self.k}, [None, self.g + 1.0]


def derives_constants(self):
    self.rate = 1.0 / (10.0 * self.k)
    self._mask, self._name, self._count = self.k > 0.05, "mine", 3


def of_rate(self, x, c, local_coupling=0.0):
    return np.array([-self.rate * x[0] + c[0]])


def of_function(self, x, c, local_coupling=0.0):
    return np.array([-self._function(x[0]) + c[0]])


def of_dict(self, x, c, local_coupling=0.0):
    return np.array([-self._dict["rate"] * x[0] + self._list[1] * c[0]])


def of_mask(self, x, c, local_coupling=0.0):
    assert self._name == "mine"
    return np.array([np.where(self._mask, -self.rate * x[0], 0.1) + c[0] * self._count])


@pytest.mark.parametrize(
    "dfun, derives",
    [
        (of_rate, derives_none),
        (of_function, derives_function),
        (of_dict, derives_containers),
        (of_mask, derives_constants),
    ],
)
@pytest.mark.parametrize("k", [pytest.param(np.array([0.1]), marks=SLOW), np.array([0.1, 0.2, 0.3])[:, None]])
def test_derived_attributes_that_are_no_arrays(of_model, same_as_tvb, dfun, derives, k):
    model = own_model("u", dfun=dfun, update_derived_parameters=derives)(k=k)
    simulate, state = same_as_tvb(of_model(model))
    if dfun is of_mask:
        below = simulate(state.replace(model=state.model.replace(k=0.1 * state.model.k)))
        assert not np.allclose(below.data[0], simulate(state).data[0])


@pytest.mark.parametrize("ntau", [0.0, pytest.param(2.0, marks=SLOW)])
@pytest.mark.parametrize(
    "scheme, shape",
    [
        *((scheme, shape) for scheme in ("EulerStochastic", "HeunStochastic") for shape in ((), (3, 1))),
        *(
            pytest.param(scheme, shape, marks=SLOW)
            for scheme in ("EulerStochastic", "HeunStochastic")
            for shape in ((1,), (2,), (3,), (2, 3), (1, 3), (2, 1, 1), (1, 3, 1), (2, 3, 1))
        ),
    ],
)
def test_every_shape_of_nsig_that_tvb_runs(of_model, float64_tvb, equal_runs, difference, scheme, shape, ntau):
    model = own_model("u", "v", dfun=lambda self, x, c, lc=0.0: np.array([-self.k * x[0] + c[0], x[0] - x[1]]))()
    nsig = np.asarray(1e-2 * (1.0 + np.arange(np.prod(shape, dtype=int)).reshape(shape)))
    integrator = getattr(integrators, scheme)(dt=0.5, noise=noise.Additive(nsig=nsig, noise_seed=3, ntau=ntau))
    sim = of_model(model, integrator=integrator)
    try:
        theirs = float64_tvb(sim).run()
    except Exception:
        theirs = None
    if theirs is None:
        with pytest.raises(tj.UnsupportedComponent, match=r"Simulator.integrator.noise.nsig: (shape|one value)"):
            tj.prepare(sim)
        return
    simulate, state = tj.prepare(sim)
    equal_runs(simulate(state), theirs, tolerance=1e-13)
    other = state.replace(integrator=state.integrator.replace(noise=state.integrator.noise.replace(nsig=1.1 * nsig)))
    if shape not in ((2,), (3,), (2, 3)):  # TVB reshapes these, and the state shows the new shape
        tj.write_back(other, sim)
        np.testing.assert_allclose(sim.integrator.noise.nsig, 1.1 * nsig, rtol=1e-15)
        assert sim.integrator.noise.nsig.shape == shape
        assert difference(simulate(other), theirs)[0] > 1e-6


def dfun_with_buffer(self, x, c, local_coupling=0.0):
    self._buffer[0] = self._buffer[0] + 1.0
    return np.array([-self.k * x[0] + c[0]]) if self._buffer[0] < 2.0 else np.array([self.k * x[0]])


def test_an_array_that_is_carried_from_call_to_call_is_refused(of_model):
    model = own_model("u", dfun=dfun_with_buffer)()
    model._buffer = np.zeros(1)
    with pytest.raises(tj.UnsupportedComponent, match="with the same arguments gives another value"):
        tj.prepare(of_model(model))


def of_lists(self, x, c, local_coupling=0.0):
    u, v = x
    dx = np.zeros_like(x)
    dx[0, [0, 2]] = np.sum([-self.k * u, c[0]], axis=0)[[0, 2]]
    dx[1] = np.array([0.1, 0.2, 0.4])[np.digitize(u, [0.3, 0.6])] + np.polyval([0.1, -0.2, 0.3], v)
    np.add.at(dx, (0, [1, 1]), 0.1 * np.max([u, v], axis=0)[1])
    return dx - self.k * np.maximum.reduce([u, v])


def of_joined(self, x, c, local_coupling=0.0):
    u, v = x
    spread = np.subtract.outer(u[:, 0], u[:, 0]).sum(axis=1)[:, np.newaxis]
    return np.r_[c, c] - self.k * np.r_[x[:1], np.choose((u > 0.5).astype(int), [u, spread])[np.newaxis]]


@pytest.mark.parametrize("dfun", [pytest.param(of_lists, marks=pytest.mark.slow), of_joined])
def test_numpy_functions_accept_lists(of_model, same_as_tvb, dfun):
    same_as_tvb(of_model(own_model("u", "v", dfun=dfun)()), slope=dfun is of_lists)


def of_derived(self, x, c, local_coupling=0.0):
    return np.array([-self.rate * x[0] + c[0]])


def configure_that_derives(self):
    super(type(self), self).configure()
    self.rate = 2.0 * self.k + self.g**2


def configure_without_derivation(self):
    """Set an attribute that depends on no parameter."""
    super(type(self), self).configure()
    self.table = np.random.RandomState(0).uniform(size=2)


@pytest.mark.parametrize("k", [np.array([0.1]), pytest.param(np.linspace(0.1, 0.3, N_NODE)[:, None], marks=SLOW)])
def test_attributes_that_a_models_own_configure_derives_depend_on_its_parameters(
    of_model, same_as_tvb, float64_tvb, equal_runs, k
):
    sim = of_model(own_model("u", dfun=of_derived, configure=configure_that_derives)(k=k))
    simulate, state = same_as_tvb(sim, slope=True)
    regional = state.replace(model=state.model.replace(k=jnp.array([0.1, 0.2, 0.3])))
    sim.model.k = np.array([[0.1], [0.2], [0.3]])
    equal_runs(simulate(regional), float64_tvb(sim).run())


def test_a_models_own_configure_that_derives_nothing_need_not_be_translated(of_model, same_as_tvb):
    same_as_tvb(of_model(own_model("u", dfun=all_arguments_named, configure=configure_without_derivation)()))


def of_class_constants(self, x, c, local_coupling=0.0):
    u, v = x
    shift = self.__class__.SHIFTS[1] + type(self).TABLE["g"]
    assert isinstance(self, Model) and isinstance(type(self), type)
    return np.array([-self.k.item() * u + c[0], shift - self.g.item(0) * v])


def test_constants_of_a_class_are_read_from_it(of_model, same_as_tvb):
    constants = {"SHIFTS": np.array([0.1, 0.2]), "TABLE": {"g": 0.3}}
    same_as_tvb(of_model(own_model("u", "v", dfun=of_class_constants, **constants)()), slope=True)
