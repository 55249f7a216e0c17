"""Coupling: what nodes send, what acts after the weighted sum, and how it compares with TVB's own."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from tvb.simulator import coupling as tvb_coupling

from ...dynamics.network import coupling_input, start_network
from ...dynamics.step import Step
from ...state import State
from .. import traits
from ..clone import clone, history_with_weights
from ..double_precision import in_double, max_row_error
from ..mapped_parameter import MappedParameter, global_or_regional, node_column
from ..tracing.method import Untranslatable, trace
from ..tracing.mutable_array import MutableArray
from . import vector_field_oracle as trials

_TOLERANCE = 1e-11
_SPARSE, _DENSE = tvb_coupling.SparseCoupling, tvb_coupling.Coupling


@dataclass(eq=False)
class Translated:
    """One coupling as pure functions; see `Step` for what each does.

    Attributes
    ----------
    post, channels, pairs : callable or None
    single : frozenset of str
        Parameters that act before the sum, where TVB takes one value for all regions.
    """

    post: object
    channels: object = None
    pairs: object = None
    single: frozenset = frozenset()


def refusals(sim):
    """Reasons why the coupling of a simulator is not translated, as far as they show before configure()."""
    coupling = sim.coupling
    n_node = sim.connectivity.weights.shape[0]
    name = type(coupling).__name__
    for parameter in traits.parameters(coupling):
        value = np.asarray(parameter.read(coupling))
        shapes = _regional_shapes(coupling, n_node)
        if value.size != 1 and value.shape not in shapes and not _has_own_call(coupling):
            yield (
                f"Simulator.coupling.{parameter.name}: shape {value.shape} is neither one value nor {shapes[0]}, one "
                f"for each region, which is what TVB broadcasts against {name}'s sum. Reshape it."
            )
        elif not np.all(np.isfinite(value)):
            yield (
                f"Simulator.coupling.{parameter.name}: {np.sum(~np.isfinite(value))} values are not finite. "
                "Give finite ones."
            )
    cached = getattr(coupling, "_cached_lri", None)
    targets = np.nonzero(sim.connectivity.weights)[0]
    rows = np.unique(targets, return_index=True)
    if cached is not None and not all(map(np.array_equal, (coupling._cached_nzr, cached), rows)):
        yield (
            "Simulator.coupling: this instance has run with another connectivity and keeps its row indices; TVB would "
            "fail or err with it. Make a new instance."
        )


def _has_own_call(coupling):
    """Whether the coupling has a __call__ of its own, as TVB's PreSigmoidal: it takes parameters in whatever shape."""
    return type(coupling).__call__ not in (_SPARSE.__call__, _DENSE.__call__)


def _is_dense(coupling):
    """Whether TVB sums over all pairs, laid out (target, n_cvar, source, n_mode), or over those that are connected."""
    return type(coupling).__call__ is not _SPARSE.__call__


def _regional_shapes(coupling, n_node):
    """Shapes of a regional parameter that TVB broadcasts against the sum: one value a target."""
    return [(n_node, 1, 1)] if _is_dense(coupling) else [(n_node, 1), (1, n_node, 1)]


def leaves(sim):
    """Table of the coupling's parameters."""
    n_node = np.shape(sim.connectivity.weights)[0]

    def leaf(parameter):
        def native(value, sim):
            held = np.shape(parameter.read(sim.coupling))
            if _has_own_call(sim.coupling) and value.size == np.prod(held, dtype=int):
                return value.reshape(held)
            return value.reshape(_regional_shapes(sim.coupling, n_node)[0]) if value.size > 1 else value.reshape(1)

        def shaped(value):
            return value if _has_own_call(sim.coupling) and value.size not in (1, n_node) else value.ravel()

        def shapes(sim):
            return (*global_or_regional(n_node), (1, n_node, 1))

        return MappedParameter(
            f"coupling.{parameter.name}",
            lambda sim: sim.coupling,
            parameter.name,
            native,
            shaped,
            is_scalar=parameter.is_scalar,
            shapes=None if parameter.is_scalar else shapes,
        )

    return [leaf(parameter) for parameter in traits.parameters(sim.coupling)]


_ONE_VALUE = "{} uses it before the sum over regions, where it takes one value for all. Give one."


def constants(coupling, n_node, single=frozenset()):
    """Function from the coupling's node of the state to its parameters, each (1, n_node or 1, 1).

    Those of a coupling with its own __call__ are in the shapes in which it holds them.
    """
    parameters = traits.parameters(coupling)

    def column(parameter, value):
        if not _has_own_call(coupling):
            return _column(value, n_node, parameter.name)
        held = np.shape(parameter.read(coupling))
        if value.size not in (1, np.prod(held, dtype=int)) and parameter.name not in single:
            raise ValueError(f"State.coupling.{parameter.name}: shape {value.shape}. Give one value, or shape {held}.")
        return value.reshape(held) if value.size == np.prod(held, dtype=int) else value

    def columns(node):
        columns = {p.name: column(p, getattr(node, p.name)) for p in parameters}
        for name in single:
            if columns[name].size > 1:
                what = _ONE_VALUE.format(type(coupling).__name__)
                raise ValueError(f"State.coupling.{name}: {columns[name].size} values; {what}")
        return columns

    return columns


def _column(value, n_node, name):
    value = value[0] if value.shape == (1, n_node, 1) else value
    return node_column(value, n_node, f"coupling.{name}")[None]


def translate(sim):
    """Ways to the coupling of a configured simulator, the best first.

    Yields
    ------
    Translated

    Raises
    ------
    Untranslatable
        Where TVB's code cannot be followed.
    """
    coupling, n_cvar = sim.coupling, len(sim.model.cvar)
    if _has_own_call(coupling):
        one = frozenset(p.name for p in traits.parameters(coupling) if np.size(p.read(coupling)) == 1)
        for hidden in _HIDDEN:
            yield Translated(lambda theta, s, y: s, pairs=_followed_call(coupling, hidden), single=one)
        return
    post = _followed_post(coupling, n_cvar)
    pre = type(coupling).pre
    if pre is _DENSE.pre:
        yield Translated(post)
    elif pre is tvb_coupling.Difference.pre:
        yield _split(post, _sent_with_one, lambda y, s: s[:-1] - s[-1:] * y)
    elif pre is tvb_coupling.Kuramoto.pre:
        yield _split(post, _sent_on_circle, _turned_back)
    else:
        needed = _needed_by_pre(coupling, sim)
        single = frozenset(needed - {"x_i", "x_j"})
        if "x_i" in needed:
            yield Translated(post, pairs=_followed_pairs(coupling), single=single)
        else:
            yield Translated(post, channels=_followed_pre(coupling), single=single)


def _split(post, channels, together):
    """Coupling whose pre(x_i, x_j) is a sum of products: one factor is sent, the other is the target's own."""
    return Translated(lambda theta, s, y: post(theta, together(y, s), y), channels)


def _sent_with_one(theta, y):
    """x_j - x_i: x_j, and 1 to count what arrives."""
    return jnp.concatenate([y, jnp.ones_like(y[:1])])


def _sent_on_circle(theta, y):
    """sin(x_j - x_i) = sin x_j cos x_i - cos x_j sin x_i."""
    return jnp.concatenate([jnp.sin(y), jnp.cos(y)])


def _turned_back(y, s):
    sines, cosines = jnp.split(s, 2)
    return sines * jnp.cos(y) - cosines * jnp.sin(y)


def _for_each_variable(s, n_cvar):
    """Sums of one channel, repeated for each coupling variable, as TVB repeats the weights."""
    return jnp.broadcast_to(s, (max(n_cvar, s.shape[0]), *s.shape[1:]))


def _followed_post(coupling, n_cvar):
    own = type(coupling).post
    if own is _DENSE.post:
        return lambda theta, s, y: _for_each_variable(s, n_cvar)
    if _is_dense(coupling):

        def post(theta, s, y):
            # TVB's layout is (target, n_cvar, n_mode), each row of the weights repeated for each variable.
            gx = jnp.swapaxes(_for_each_variable(s, n_cvar), 0, 1)
            values = traits.as_declared(coupling, theta["coupling"], lambda value: jnp.swapaxes(value, 0, 1))
            return jnp.swapaxes(trace(coupling, "post", values, gx)[0], 0, 1)
    else:

        def post(theta, s, y):
            return trace(coupling, "post", traits.as_declared(coupling, theta["coupling"]), s)[0]

    return post


def _followed_pre(coupling):
    """What a node sends, where pre does not look at the target."""
    dense = _is_dense(coupling)

    def channels(theta, y):
        values = traits.as_declared(coupling, theta["coupling"])
        if dense:
            return trace(coupling, "pre", values, y[None, :, :1], y[None])[0][0]
        return trace(coupling, "pre", values, y, y)[0]

    return channels


def _needed_by_pre(coupling, sim):
    """Which of x_i, x_j and the parameters enter pre."""
    shape = (len(sim.model.cvar), 2, sim.model.number_of_modes)
    x = jax.ShapeDtypeStruct((2, *shape) if _is_dense(coupling) else shape, jnp.result_type(float))
    one = jax.ShapeDtypeStruct((1, 1, 1), x.dtype)
    names = [p.name for p in traits.parameters(coupling)]

    def pre(x_i, x_j, *parameters):
        values = traits.as_declared(coupling, dict(zip(names, parameters, strict=True)))
        return trace(coupling, "pre", values, x_i, x_j)[0]

    traced = jax.make_jaxpr(pre)(x, x, *[one] * len(names)).jaxpr
    needed = {id(v) for v in traced.outvars}
    for equation in reversed(traced.eqns):
        if any(id(v) in needed for v in equation.outvars):
            needed |= {id(v) for v in equation.invars}
    return {name for name, v in zip(["x_i", "x_j", *names], traced.invars, strict=True) if id(v) in needed}


def _followed_pairs(coupling):
    """pre(x_i, x_j) for every pair, and the weighted sum."""
    dense = _is_dense(coupling)

    def pairs(theta, weights, y_i, y_j):
        values = traits.as_declared(coupling, theta["coupling"])
        n_target, n_cvar, n_source, n_mode = y_j.shape
        if dense:
            pre, _ = trace(coupling, "pre", values, jnp.swapaxes(y_i[None], 0, 2), y_j)
        else:
            x_i = jnp.repeat(y_i, n_source, axis=1)
            x_j = jnp.swapaxes(y_j, 0, 1).reshape(n_cvar, -1, n_mode)
            pre, _ = trace(coupling, "pre", values, x_i, x_j)
            pre = jnp.swapaxes(pre.reshape(-1, n_target, n_source, n_mode), 0, 1)
        # Pairs that are not connected do not enter, not even where they are not finite; their slope in the weight does.
        pre = jnp.where((weights != 0.0)[:, None, :, None] | jnp.isfinite(pre), pre, 0.0)
        return jnp.einsum("ij,icjm->cim", weights, pre)

    return pairs


class _History:
    """What a coupling's own __call__ sees of TVB's history."""

    def __init__(self, weights, y_i, y_j):
        self.n_node, self.n_cvar, _, self.n_mode = y_j.shape
        self.es_weights = MutableArray(jnp.broadcast_to(weights[:, None, :, None], y_j.shape))
        self._seen = MutableArray(y_i), MutableArray(y_j)

    def query(self, step):
        """Current state of the targets, and what they see of the sources."""
        return self._seen


# Which of the pairs that are not connected a __call__ sees as 0. TVB shows it all of them so; but where nothing depends
# on that, they are better seen as they are: the slope in a weight of 0 is then right.
_HIDDEN = {
    "none": lambda weights: jnp.zeros_like(weights, bool),
    "own": lambda weights: (weights == 0.0) & jnp.eye(weights.shape[0], dtype=bool),
    "all": lambda weights: weights == 0.0,
}


def _followed_call(coupling, hidden):
    """A coupling with a __call__ of its own, as TVB's PreSigmoidal."""

    def pairs(theta, weights, y_i, y_j):
        values = traits.as_declared(coupling, theta["coupling"])
        y_j = jnp.where(_HIDDEN[hidden](weights)[:, None, :, None], 0.0, y_j)
        return trace(coupling, type(coupling).__call__, values, 0, _History(weights, y_i, y_j))[0]

    return pairs


def make(sim, with_model=True):
    """Coupling of a configured simulator, tried with its model or by itself, and the reasons why there is none.

    Returns
    -------
    translated : Translated or None
    reasons : list of str
    """
    name = type(sim.coupling).__name__
    try:
        samples, theirs = _trial(sim, with_model)
    except _Failure as error:
        return None, [f"Simulator.coupling: {error}"]
    worst = np.inf
    try:
        for translated in translate(sim):
            many = [name for name in sorted(translated.single) if np.size(getattr(sim.coupling, name)) > 1]
            if many:
                return None, [f"Simulator.coupling.{which}: {_ONE_VALUE.format(name)}" for which in many]
            ours = in_double_of(sim, translated, samples)
            worst = max_row_error(ours, theirs)
            if worst <= _TOLERANCE:
                return translated, []
    except (Untranslatable, ValueError, TypeError) as error:
        return None, [f"Simulator.coupling: {name} is not translated: {error}."]
    return None, [f"Simulator.coupling: the translated {name} differs from TVB's by {worst:.1e} of its maximum."]


class _Failure(Exception):
    """TVB's own coupling fails."""


def _trial(sim, with_model, seed=0):
    """A random past, in order of time, and what TVB's own coupling makes of it."""
    coupling, past, name = sim.coupling, sim.history, type(sim.coupling).__name__
    random = np.random.RandomState(seed)
    model = sim.model
    ranges = np.array([model.state_variable_range[model.state_variables[i]] for i in model.cvar])
    shape = (past.n_time, past.n_cvar, past.n_node, past.n_mode)
    samples = random.uniform(ranges[:, :1, None], ranges[:, 1:, None], size=shape)
    history = history_with_weights(past, sim.connectivity.weights)
    history.buffer = samples
    own = clone(coupling)
    for cached in ("_cached_lri", "_cached_nzr"):
        vars(own).pop(cached, None)
    try:
        with np.errstate(all="ignore"):
            theirs = np.array(own(1, history), dtype=float)
    except Exception as error:
        raise _Failure(
            f"TVB's own {name} fails with {type(model).__name__}, which has {len(model.cvar)} coupling variables: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}."
        ) from error
    x = sim.current_state[model.state_variable_mask]
    failure = trials.dfun_failure(model, x, theirs) if with_model else None
    if failure is not None:
        raise _Failure(f"TVB's own {name} fails with {type(model).__name__}, whose dfun fails: {failure}.")
    # The newest sample lies at index 0, the one before it at the end.
    return np.roll(samples, -1, axis=0), theirs


def in_double_of(sim, translated, ordered):
    """Translated coupling of a simulator's own parameters and weights, in double precision.

    Parameters
    ----------
    sim : Simulator
    translated : Translated
    ordered : ndarray, shape (horizon, n_cvar, n_node, n_mode)
        Coupling variables in order of time.
    """
    n_node = sim.connectivity.weights.shape[0]
    cvar, parts = tuple(range(ordered.shape[1])), translated
    step = Step(None, cvar, parts.post, parts.channels, parts.pairs, delays(sim))

    def coupled(values, weights, past):
        theta = {"coupling": constants(sim.coupling, n_node)(State(**values))}
        network, ring = start_network(step, theta, weights, past)
        s, _ = coupling_input(step, theta, weights, network, ring, past[-1], 0)
        return step.post(theta, s, step.coupling_variables(past[-1]))

    values = {p.name: np.ravel(np.asarray(p.read(sim.coupling), float)) for p in traits.parameters(sim.coupling)}
    return in_double(coupled, values, np.asarray(sim.connectivity.weights, float), ordered)


def delays(sim):
    """Delays of a configured simulator [steps], or None where there are none."""
    steps = np.asarray(sim.connectivity.idelays, dtype=int)
    return steps if steps.any() else None
