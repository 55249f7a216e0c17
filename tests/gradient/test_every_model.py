"""The gradient of every model's vector field is right in every parameter, and finite wherever the value is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator import coupling, integrators, models, monitors
from tvb.simulator.simulator import Simulator

from tvb_jaxfit.jaxpr.interpret import interpret
from tvb_jaxfit.state import State
from tvb_jaxfit.translate import traits
from tvb_jaxfit.translate.prepare import translate_simulator

N_NODE = 4
MODELS = models.ModelsEnum.get_base_model_subclasses()
# Parameters that no equation uses.
NO_EFFECT = {
    models.Epileptor: {"s"},
    models.JansenRit: {"p_min", "p_max"},
    models.MontbrioPazoRoxin: {"Gamma"},
    models.ReducedWongWang: {"sigma_noise"},
    models.ZerlautAdaptationFirstOrder: {"S_i"},
}
# This model takes second differences over 1e-7, which leave few digits of its value and derivative. They are averaged
# over many evaluations, with relative changes of the parameters that exceed rounding and do not matter otherwise.
NOISY = models.ZerlautAdaptationSecondOrder
N_NOISY, NUDGE = 64, 1e-9
# Five-point differences: the truncation error is of the order h^4, that of rounding 1e-16 / h.
POINTS = np.array([-2.0, -1.0, 1.0, 2.0])
FACTORS = np.array([1.0, -8.0, 8.0, -1.0]) / 12.0
RELATIVE = 2e-4


# Models of different kinds: numexpr, sigmoids, a hand-written vector field.
BY_DEFAULT = (
    models.Generic2dOscillator,
    models.JansenRit,
    models.ReducedWongWangExcInh,
)


def each_model(*classes):
    """Test parameters: all models; by default, models of different kinds."""
    return [pytest.param(c, marks=() if c in BY_DEFAULT else pytest.mark.slow, id=c.__name__) for c in classes]


@functools.cache
def field_of(cls, **flags):
    """Translated vector field of a model with TVB's defaults, and the model's node of the state."""
    random = np.random.RandomState(1)
    sim = Simulator(
        connectivity=Connectivity(
            weights=random.uniform(size=(N_NODE, N_NODE)),
            tract_lengths=np.zeros((N_NODE, N_NODE)),
            centres=np.zeros((N_NODE, 3)),
            region_labels=np.array([f"region {i}" for i in range(N_NODE)]),
            speed=np.array([np.inf]),
        ),
        model=cls(**{name: np.array([value]) for name, value in flags.items()}),
        coupling=coupling.Linear(),
        integrator=integrators.EulerDeterministic(dt=0.01),
        monitors=[monitors.Raw()],
    )
    translated = translate_simulator(sim)
    model = translated.reference.model
    node = State(**{p.name: jnp.asarray(p.shaped(np.asarray(p.read(model), float))) for p in traits.parameters(model)})
    return translated["model"].vector_field, node


def states(field, scale=1.0, seed=0):
    """Random states in the model's ranges times a scale, and random coupling, at which TVB's value is finite."""
    model, random = field.model, np.random.RandomState(seed)
    ranges = np.array([model.state_variable_range[name] for name in model.state_variables])
    shape = (model.nvar, N_NODE, model.number_of_modes)
    for _ in range(1000):
        x = scale * random.uniform(ranges[:, :1, None], ranges[:, 1:, None], shape)
        c = scale * random.uniform(-0.1, 0.3, (len(model.cvar), *shape[1:]))
        with np.errstate(all="ignore"):
            if np.all(np.isfinite(model.dfun(x.copy(), c.copy()))):
                return x, c
    raise AssertionError("TVB's own value is finite at none of the states")


def directions(field, node):
    """Yield name, kind and direction of each check: global, and random regional ones where TVB allows them."""
    random = np.random.RandomState(2)
    for parameter in traits.parameters(field.model):
        value = np.asarray(getattr(node, parameter.name))
        yield parameter.name, "global", np.ones((1,)) if value.size == 1 else random.uniform(0.5, 1.5, value.shape)
        regional = parameter.shape is None and not parameter.is_scalar
        if regional and field.regional_layouts.get(parameter.name, "column") is not None:
            yield parameter.name, "regional", random.uniform(-1.0, 1.0, N_NODE)


@functools.cache
def checked(cls):
    """By parameter and kind: (derivative in the direction, central difference, its rounding error); and the loss."""
    field, node = field_of(cls)
    x, c = states(field)
    size = np.abs(np.asarray(jax.jit(lambda n: field(field.constants(n), jnp.asarray(x), jnp.asarray(c)))(node)))
    # Rows are scaled to their size, so that each has the same weight; rows of zeros are not scaled.
    size = size.max((1, 2), keepdims=True)
    weight = np.random.RandomState(3).uniform(0.5, 1.5, x.shape) / np.where(size == 0.0, 1.0, size)
    kinds = list(directions(field, node))
    wide = {name for name, kind, _ in kinds if kind == "regional"}
    base = {n: np.broadcast_to(v, (N_NODE,)) if n in wide else np.atleast_1d(v) for n, v in node.items()}

    def loss(values):
        dx = field(field.constants(State(**values)), jnp.asarray(x), jnp.asarray(c))
        return jnp.sum(jnp.tanh(weight * dx))

    # Directions in the values; global ones are broadcast over all regions.
    steps, displaced = [], {name: [] for name in base}
    for name, kind, direction in kinds:
        h = RELATIVE * (np.max(np.abs(base[name])) or 1.0)
        direction = np.broadcast_to(direction, base[name].shape)
        steps.append((name, kind, direction, h))
        for point in POINTS:
            for key, value in base.items():
                displaced[key].append(value + point * h * direction if key == name else value)

    def both(base, displaced):
        return jax.value_and_grad(loss)(base), jax.vmap(loss)(displaced)

    displaced = {name: np.stack(values) for name, values in displaced.items()}
    evaluations = evaluate_repeatedly if cls is NOISY else evaluate_once
    (value, gradient), around = evaluations(both, base, displaced)
    found = {}
    for index, (name, kind, direction, h) in enumerate(steps):
        derivative = np.sum(gradient[name] * direction, axis=-1) * h
        numeric = around.reshape(len(derivative), -1, POINTS.size)[:, index] @ FACTORS
        noise = np.hypot(np.std(derivative), np.std(numeric)) / np.sqrt(len(derivative)) + 1e-15 * N_NODE * len(size)
        found[name, kind] = (np.mean(derivative), np.mean(numeric), noise)
    return found, float(value[0])


def evaluate_once(both, *arguments):
    """Values of one evaluation, with a leading axis."""
    return jax.tree.map(lambda a: np.asarray(a)[None], jax.jit(both)(*arguments))


def evaluate_repeatedly(both, *arguments):
    """Values of many evaluations with different rounding, by NumPy: compilation would take minutes."""
    random = np.random.RandomState(4)
    leaves, tree = jax.tree.flatten(arguments)
    batch = jax.tree.unflatten(
        tree, [a * (1.0 + NUDGE * random.uniform(-1.0, 1.0, (N_NOISY, *np.shape(a)))) for a in leaves]
    )
    closed, shapes = jax.make_jaxpr(jax.vmap(both), return_shape=True)(*batch)
    return jax.tree.unflatten(jax.tree.structure(shapes), interpret(closed, jax.tree.leaves(batch)))


@pytest.mark.parametrize("cls", each_model(*MODELS))
def test_gradient_in_every_parameter_equals_central_differences(cls):
    found, value = checked(cls)
    assert np.isfinite(value)
    assert {name for name, _ in found} == {p.name for p in traits.parameters(cls())}
    wrong = {
        key: (derivative, numeric)
        for key, (derivative, numeric, noise) in found.items()
        if not abs(derivative - numeric) <= 1e-7 * abs(numeric) + 4 * noise
    }
    assert not wrong


@pytest.mark.parametrize("cls", each_model(*NO_EFFECT))
def test_parameters_that_no_equation_uses_have_a_gradient_of_exactly_zero(cls):
    found, _ = checked(cls)
    derivatives = {name: derivative for (name, _), (derivative, *_) in found.items() if name in NO_EFFECT[cls]}
    assert derivatives == dict.fromkeys(NO_EFFECT[cls], 0.0)


@functools.cache
def value_and_gradient(cls, **flags):
    """Function to the value of a field, and to the derivatives of its sum in parameters, state and coupling."""
    field, _ = field_of(cls, **flags)

    @jax.jit
    def both(node, x, c):
        def total(node, x, c):
            value = field(field.constants(node), x, c)
            return jnp.sum(value), value

        (_, value), gradient = jax.value_and_grad(total, (0, 1, 2), has_aux=True)(node, x, c)
        return value, gradient

    return both


def assert_finite(cls, x, c, values=None, **flags):
    _, node = field_of(cls, **flags)
    node = node.replace(**{name: jnp.asarray([value]) for name, value in (values or {}).items()})
    value, (by_parameter, by_state, by_coupling) = value_and_gradient(cls, **flags)(
        node, jnp.asarray(x), jnp.asarray(c)
    )
    assert np.all(np.isfinite(value))
    assert [name for name, leaf in by_parameter.items() if not np.all(np.isfinite(leaf))] == []
    assert np.all(np.isfinite(by_state)) and np.all(np.isfinite(by_coupling))


def filled(cls, rows=None, c=0.0, **flags):
    """States in the middle of the ranges, with some rows given, and a constant coupling."""
    field, _ = field_of(cls, **flags)
    model = field.model
    ranges = np.array([model.state_variable_range[name] for name in model.state_variables])
    x = np.broadcast_to(ranges.mean(axis=1)[:, None, None], (model.nvar, N_NODE, model.number_of_modes)).copy()
    for row, value in (rows or {}).items():
        x[row] = value
    return x, np.full((len(model.cvar), N_NODE, model.number_of_modes), c)


@pytest.mark.parametrize(
    "cls, rows, c, flags",
    [
        pytest.param(models.ReducedWongWang, {}, -100.0, {}, id="ReducedWongWang"),
        pytest.param(models.WilsonCowan, {}, -1000.0, {}, id="WilsonCowan", marks=pytest.mark.slow),
        pytest.param(models.JansenRit, {1: -1500.0, 2: 0.0}, 0.0, {}, id="JansenRit"),
        pytest.param(models.Epileptor, {0: -80.0}, 0.0, {"modification": True}, id="Epileptor", marks=pytest.mark.slow),
    ],
)
def test_where_an_exponential_overflows_the_gradient_equals_central_differences(cls, rows, c, flags):
    """In every parameter, state and coupling; the field is constant only in the argument that overflows."""
    (x, c), (_, node) = filled(cls, rows, c, **flags), field_of(cls, **flags)
    both = value_and_gradient(cls, **flags)
    arguments, tree = jax.tree.flatten((node, jnp.asarray(x), jnp.asarray(c)))
    value, gradient = both(*jax.tree.unflatten(tree, arguments))
    assert np.all(np.isfinite(value))
    rounding = 4.0 * np.finfo(float).eps * np.sum(np.abs(value))
    for position, (leaf, derivative) in enumerate(zip(arguments, jax.tree.leaves(gradient), strict=True)):
        numeric, tolerance = np.zeros(leaf.shape), np.zeros(leaf.shape)
        for index in np.ndindex(leaf.shape):
            h = 1e-4 * max(abs(float(leaf[index])), 0.1)
            before, after = arguments[:position], arguments[position + 1 :]
            ends = [[*before, leaf.at[index].add(sign * h), *after] for sign in (1.0, -1.0)]
            upper, lower = (float(jnp.sum(both(*jax.tree.unflatten(tree, end))[0])) for end in ends)
            numeric[index], tolerance[index] = (upper - lower) / (2.0 * h), rounding / h
        assert np.all(np.abs(derivative - numeric) <= 1e-6 * np.abs(numeric) + tolerance)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


# Binary fractions for which a x - b is exactly 0: the input of every transfer function is 1/2.
HALF = {"a": 0.25, "b": 0.125, "d": 128.0, "w": 1.0, "J_N": 0.25, "I_o": 0.375}
BOTH_HALF = {"a_e": 0.25, "b_e": 0.125, "d_e": 128.0, "a_i": 0.25, "b_i": 0.125, "d_i": 128.0, "w_p": 1.0, "J_N": 0.25}
BOTH_HALF |= {"J_i": 1.0, "W_e": 1.0, "W_i": 1.0, "I_o": 0.625, "I_ext": 0.0, "G": 1.0, "lamda": 0.5}


@pytest.mark.parametrize(
    "cls, values, rows",
    [
        pytest.param(models.ReducedWongWang, HALF, {0: 0.5}, id="ReducedWongWang"),
        pytest.param(models.ReducedWongWangExcInh, BOTH_HALF, {0: 0.5, 1: 0.25}, id="ReducedWongWangExcInh"),
        pytest.param(models.DecoBalancedExcInh, BOTH_HALF, {0: 0.5, 1: 0.25}, id="DecoBalancedExcInh"),
    ],
)
def test_at_the_singular_points_of_all_transfer_functions_value_and_gradient_are_finite(cls, values, rows):
    """TVB's own formula is 0/0 at these points."""
    x, c = filled(cls, rows)
    model = cls(**{name: np.array([value]) for name, value in values.items()})
    model.configure()
    with np.errstate(all="ignore"):
        assert np.all(np.isnan(model.dfun(x.copy(), c.copy())))
    assert_finite(cls, x, c, values)


# At ten times its ranges TVB's own KIonEx takes logarithms of negative numbers.
CASES = [(cls, scale) for cls in MODELS for scale in (1.0, 10.0) if (cls, scale) != (models.KIonEx, 10.0)]


@pytest.mark.slow
@pytest.mark.parametrize("cls, scale", [pytest.param(*case, id=f"{case[0].__name__}-{case[1]}") for case in CASES])
def test_at_random_states_the_gradient_is_finite_where_the_value_is(cls, scale):
    field, _ = field_of(cls)
    assert_finite(cls, *states(field, scale, seed=5))
