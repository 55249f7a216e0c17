"""Noise of an integrator or a monitor: dispersion, diffusion function, correlation time, random stream."""

import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from tvb.simulator import integrators
from tvb.simulator import noise as tvb_noise

from ...dynamics.noise import NumpyStream, coloured_noise, noise_amplitude
from ...state import State
from .. import traits
from ..double_precision import in_double, max_row_error
from ..mapped_parameter import MappedParameter
from ..subclasses import nearest_base, overridden_attributes, supported_base, unsupported_reason
from ..tracing.method import trace
from ..tracing.untranslatable import Untranslatable
from . import equation

POSITION = r"noise\.(draws|eta)"

_PATH = "Simulator.integrator.noise"
_KINDS = (tvb_noise.Additive, tvb_noise.Multiplicative, tvb_noise.Noise)
# Methods that a subclass may override: gfun is traced, the others are run by TVB's configure().
_TRACED = ("gfun", "configure", "validate")
_TOLERANCE = 1e-12


def refusals(sim):
    """Reasons against translation of the integrator's noise that show before configure()."""
    noise = sim.integrator.noise
    base = nearest_base(noise, _KINDS)
    if base is None or overridden_attributes(type(noise), base, _TRACED):
        yield f"{_PATH}: {unsupported_reason(noise, _KINDS, _TRACED)}. Use Additive or Multiplicative."
        return
    if not hasattr(noise, "nsig"):
        yield f"{_PATH}: {type(noise).__name__} has no nsig, which is not supported. Use Additive or Multiplicative."
        return
    if not (np.isfinite(noise.ntau) and noise.ntau >= 0.0):
        yield f"{_PATH}.ntau: {noise.ntau} ms; give 0 (white noise) or a positive correlation time."
    nsig = np.asarray(noise.nsig)
    if not np.all(np.isfinite(nsig)) or np.any(nsig < 0.0):
        yield f"{_PATH}.nsig: holds values that are negative or not finite; give dispersions of at least 0."
    yield from _shape_refusals(sim, nsig.shape)
    if _has_equation(noise):
        yield from equation.refusals(noise.b, f"{_PATH}.b")


def refusals_configured(sim):
    """Reasons against translation of the integrator's noise that show in a configured copy only."""
    noise, dt = sim.integrator.noise, sim.integrator.dt
    if _configured_shape(noise.nsig.shape, sim) != noise.nsig.shape:
        yield (
            f"{_PATH}.nsig: shape {noise.nsig.shape}, set since configure(), which TVB would "
            "broadcast wrongly. Call sim.configure() again."
        )
        return
    x = np.random.RandomState(0).uniform(-1.0, 1.0, size=sim.current_state[sim.model.state_variable_mask].shape)
    if _has_equation(noise):
        yield from equation.mismatches(noise.b, x, f"{_PATH}.b")
    values = {p.name: np.asarray(p.to_state(np.atleast_1d(p.read(sim)))) for p in _attribute_parameters(sim)}
    equation_values = equation.parameter_values(noise.b) if _has_equation(noise) else {}
    equation_values = {name: np.full(1, value) for name, value in equation_values.items()}

    def scaled_gfun(values, equation_values, x):
        node = State(**values, **({"b": State(**equation_values)} if equation_values else {}))
        return diffusion(sim)({"noise": constants(sim)(node)}, x)

    try:
        ours = in_double(scaled_gfun, values, equation_values, x)
    except (Untranslatable, TypeError, ValueError) as error:
        yield f"{_PATH}: {type(noise).__name__}.gfun is not translated: {error}."
        return
    scale = 1.0 if is_coloured(noise) else np.sqrt(dt)
    theirs = np.broadcast_to(scale * noise.gfun(x), x.shape)
    if not max_row_error(np.broadcast_to(ours, x.shape), theirs) <= _TOLERANCE:
        yield f"{_PATH}: the translated gfun of {type(noise).__name__} differs from TVB's."


def _shape_refusals(sim, shape):
    """Reasons against dispersions of a shape with which TVB does not run."""
    n_integrated, n_node, _ = _shape_of_draws(sim)
    if _is_runnable(shape, sim):
        return
    candidates = dict.fromkeys([(1,), (n_integrated,), (n_node,), (n_integrated, n_node)])
    allowed = ", ".join(str(candidate) for candidate in candidates if _is_runnable(candidate, sim))
    if shape == (n_node,):
        yield (
            f"{_PATH}.nsig: one value for each region, with which TVB's HeunStochastic fails for "
            f"{n_integrated} state variables. Give shape ({n_integrated}, {n_node}), or use EulerStochastic."
        )
    else:
        integrator = type(sim.integrator).__name__
        yield f"{_PATH}.nsig: shape {shape}; TVB takes {allowed} with {integrator}. Give one of these."


def _is_runnable(shape, sim):
    """True if TVB runs with dispersions of a shape."""
    n_integrated, n_node, n_mode = _shape_of_draws(sim)
    configured = _configured_shape(shape, sim)
    if not _broadcasts(configured, (n_integrated, n_node, n_mode)):
        return False
    if not isinstance(sim.integrator, integrators.HeunStochastic):
        return True
    # TVB's HeunStochastic with Additive noise needs the state variables on the first axis.
    is_additive = supported_base(sim.integrator.noise, _KINDS) is tvb_noise.Additive
    return not is_additive or configured == (1,) or configured[:1] == (n_integrated,)


def _shape_of_draws(sim):
    """(n_integrated, n_node, n_mode) of a step's draws."""
    model = sim.model
    n_integrated = len(model.state_variables) - len(model.non_integrated_variables or ())
    return n_integrated, np.shape(sim.connectivity.weights)[0], model.number_of_modes


def _configured_shape(shape, sim):
    """Shape that TVB's configure() gives to dispersions; a shape that it does not know stays as it is."""
    n_integrated, n_node, _ = _shape_of_draws(sim)
    counts = (len(sim.model.state_variables), n_integrated)
    if shape == (1,):
        return shape
    if shape in [(n,) for n in counts]:
        return (n_integrated, 1, 1)
    if shape == (n_node,):
        return (1, n_node, 1)
    return (n_integrated, n_node, 1) if shape in [(n, n_node) for n in counts] else shape


def _broadcasts(shape, to):
    """True if an array of a shape broadcasts to another shape without making it larger."""
    padded = (1,) * (len(to) - len(shape)) + tuple(shape)
    return len(padded) == len(to) and all(n in (1, most) for n, most in zip(padded, to, strict=True))


def _has_equation(noise):
    return isinstance(noise, tvb_noise.Multiplicative)


def _has_tvb_gfun(noise):
    """True if the diffusion function is TVB's own, written by hand here: its derivative at nsig = 0 is infinite."""
    return type(noise).gfun in (tvb_noise.Additive.gfun, tvb_noise.Multiplicative.gfun)


def _user_parameters(noise):
    """Names of the parameters that a user's subclass adds."""
    return [p.name for p in traits.parameters(noise) if p.name not in ("nsig", "ntau")]


def is_coloured(noise):
    """True if the noise has a correlation time."""
    return noise.ntau > 0.0


def parameters(sim):
    """Parameters of the integrator's noise, those of its equation included."""
    own = _attribute_parameters(sim)
    if not _has_equation(sim.integrator.noise):
        return own
    return own + equation.mapped_parameters("integrator.noise.b", lambda sim: sim.integrator.noise.b, sim)


def _attribute_parameters(sim):
    """Parameters of the integrator's noise that are attributes of the noise itself."""

    def to_tvb(value, sim):
        n_node, own_shape = np.shape(sim.connectivity.weights)[0], np.shape(sim.integrator.noise.nsig)
        if value.size == np.prod(own_shape, dtype=int) and value.ndim <= len(own_shape):
            return value.reshape(own_shape)
        if value.size == 1:
            return value.reshape(1)
        return value.reshape((1, n_node, 1)) if value.shape == (n_node,) else value

    def to_state(value):
        return value.ravel() if value.ndim == 3 and value.shape[0] == value.shape[2] == 1 else value

    def shapes(sim):
        n_integrated, n_node, n_mode = _shape_of_draws(sim)
        full = itertools.product((n_integrated, 1), (n_node, 1), (n_mode, 1))
        return [shape for shape in dict.fromkeys([(1,), (n_node,), *full]) if _is_runnable(shape, sim)]

    def owner(sim):
        return sim.integrator.noise

    table = [MappedParameter("integrator.noise.nsig", owner, "nsig", to_tvb, to_state, shapes=shapes, positive=True)]
    if is_coloured(sim.integrator.noise):
        table.append(MappedParameter("integrator.noise.ntau", owner, "ntau", is_scalar=True, positive=True))
    scalars = {p.name for p in traits.parameters(sim.integrator.noise) if p.is_scalar}
    for name in _user_parameters(sim.integrator.noise):
        table.append(MappedParameter(f"integrator.noise.{name}", owner, name, is_scalar=name in scalars))
    return table


def constants(sim) -> Callable[[State], dict]:
    """Function from the noise's node of the state to the constants of the step."""
    n_var, n_node, n_mode = _shape_of_draws(sim)
    noise = sim.integrator.noise
    dt = 1.0 if is_coloured(noise) else float(sim.integrator.dt)
    names = equation.parameter_names(noise.b) if _has_equation(noise) else ()

    def constants(node):
        nsig = node.nsig
        if nsig.size == 1:
            nsig = nsig.reshape((1, 1, 1))
        elif nsig.shape == (n_node,):
            nsig = nsig.reshape((1, n_node, 1))
        elif _broadcasts(nsig.shape, (n_var, n_node, n_mode)):
            nsig = nsig.reshape((1,) * (3 - nsig.ndim) + nsig.shape)
        else:
            raise ValueError(
                f"State.integrator.noise.nsig: shape {nsig.shape} is neither global (one value) nor regional "
                f"({n_node},). Give one value, or one for each of the {n_node} regions."
            )
        theta = {"amplitude": noise_amplitude(nsig, dt)}
        if not _has_tvb_gfun(noise):
            theta = {"nsig": nsig, "scale": jnp.full((1, 1, 1), dt**0.5)}
            for name in _user_parameters(noise):
                value = getattr(node, name)
                if value.size > 1:
                    raise ValueError(f"State.integrator.noise.{name}: shape {value.shape}; give one value.")
                theta[name] = jnp.reshape(value, (1, 1, 1))
        if names:
            theta["b"] = {name: jnp.reshape(getattr(node.b, name), (1, 1, 1)) for name in names}
        return theta

    return constants


def series(sim) -> Callable[[State], tuple]:
    """Function from the noise's node of the state to the noise of a run, (n_steps, ...), and the node after it."""
    dt, coloured = float(sim.integrator.dt), is_coloured(sim.integrator.noise)

    def series(node):
        if not coloured:
            return node.draws, node
        noise, eta = coloured_noise(node.eta, jnp.reshape(node.ntau, ()), node.draws, dt)
        return noise, node.replace(eta=eta)

    return series


def diffusion(sim) -> Callable:
    """Function (theta, x) to the factor of a step's draws."""
    noise = sim.integrator.noise
    if not _has_tvb_gfun(noise):
        return _traced_gfun(noise)
    if not _has_equation(noise):
        return lambda theta, x: theta["noise"]["amplitude"]
    b = equation.translate(noise.b)
    return lambda theta, x: theta["noise"]["amplitude"] * b(theta["noise"].get("b", {}), x)


def _traced_gfun(noise):
    def gfun(theta, x):
        theta = dict(theta["noise"])
        scale, equation_values = theta.pop("scale"), theta.pop("b", {})
        values = traits.as_declared(noise, theta)
        if equation_values:
            values["b"] = {"parameters": equation_values}
        g, _ = trace(noise, "gfun", values, x)
        return jnp.reshape(g, (1, 1, 1)) * scale if jnp.size(g) == 1 else jnp.broadcast_to(g, x.shape) * scale

    return gfun


def node(sim, span):
    """Part of the state of the integrator's noise; see `contract.Component`."""
    noise = sim.integrator.noise
    position = draws_node(noise, span.stream(), span, position_shapes(sim, span.n_steps)[f"{_STATE_PATH}.draws"])
    children = dict.fromkeys(parameter.name for parameter in _attribute_parameters(sim))
    if _has_equation(noise):
        children["b"] = State(**dict.fromkeys(equation.parameter_names(noise.b)))
    return State(position.static.items(), **children | dict(position.items()))


_STATE_PATH = "integrator.noise"


def position_shapes(sim, n_steps):
    """Shapes of the draws of a run (None: of any length) and of the memory of coloured noise, by path."""
    integrated = (int(sim.model.nintvar), *np.shape(sim.current_state)[1:])
    shapes = {f"{_STATE_PATH}.draws": (n_steps, *integrated)}
    return shapes | ({f"{_STATE_PATH}.eta": integrated} if is_coloured(sim.integrator.noise) else {})


def draws_node(noise, stream, span, shape):
    """Node of any noise: the draws of a run, the memory of coloured noise, and the random stream.

    Parameters
    ----------
    noise : tvb.simulator.noise.Noise
        Configured.
    stream : KeyStream or None
        None for TVB's own.
    span : RunSpan
    shape : tuple of int
        (n_time, ...) of the draws.
    """
    dtype = jnp.result_type(float)
    stream = stream or NumpyStream(noise.random_stream, span.start)
    children = {"draws": jnp.asarray(stream.draws(span.start, span.stop, shape), dtype)}
    if is_coloured(noise):
        children["eta"] = jnp.asarray(np.broadcast_to(noise._eta, shape[1:]), dtype)
        children["ntau"] = None
    return State({"stream": stream}.items(), **children)


def restore(noise, node, step):
    """Put memory and random stream of a node into a configured TVB noise; the inverse of `draws_node`.

    A stream of a JAX key has no counterpart in TVB, whose stream stays where it is.
    """
    if is_coloured(noise):
        noise._eta = np.array(node.eta, dtype=float)
    if isinstance(node.stream, NumpyStream):
        noise.random_stream.set_state(node.stream.state_at(step))
