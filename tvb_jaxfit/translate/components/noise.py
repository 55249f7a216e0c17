"""Noise: amplitude, diffusion function, colour."""

import itertools

import jax.numpy as jnp
import numpy as np
from tvb.simulator import integrators
from tvb.simulator import noise as tvb_noise

from ...dynamics.noise import NumpyStream, noise_amplitude
from ...state import State
from .. import traits
from ..double_precision import in_double, max_row_error
from ..mapped_parameter import MappedParameter
from ..subclasses import nearest_base, overridden_attributes, supported_base, unsupported_reason
from ..tracing.method import Untranslatable, trace
from . import equation

_PATH = "Simulator.integrator.noise"
_KINDS = (tvb_noise.Additive, tvb_noise.Multiplicative, tvb_noise.Noise)
# What a subclass may define otherwise: its diffusion function is followed, its configure() is TVB's to run.
_OWN = ("gfun", "configure", "validate")
_TOLERANCE = 1e-12


def refusals(sim):
    """Reasons why the noise of a simulator is not translated, as far as they show before configure()."""
    noise = sim.integrator.noise
    base = nearest_base(noise, _KINDS)
    if base is None or overridden_attributes(type(noise), base, _OWN):
        yield f"{_PATH}: {unsupported_reason(noise, _KINDS, _OWN)}. Use Additive or Multiplicative."
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


def later_refusals(sim):
    """Reasons that show in a configured simulator only."""
    noise, dt = sim.integrator.noise, sim.integrator.dt
    if _laid_out(noise.nsig.shape, sim) != noise.nsig.shape:
        yield (
            f"{_PATH}.nsig: shape {noise.nsig.shape}, set since configure(), which TVB would "
            "broadcast wrongly. Call sim.configure() again."
        )
        return
    x = np.random.RandomState(0).uniform(-1.0, 1.0, size=sim.current_state[sim.model.state_variable_mask].shape)
    if _has_equation(noise):
        yield from equation.mismatches(noise.b, x, f"{_PATH}.b")
    table = {leaf.name: leaf for leaf in own_leaves(sim)}
    values = {name: np.asarray(leaf.shaped(np.atleast_1d(leaf.read(sim)))) for name, leaf in table.items()}
    of_b = (
        {name: np.full(1, value) for name, value in equation.parameter_values(noise.b).items()}
        if _has_equation(noise)
        else {}
    )

    def of_draws(values, of_b, x):
        node = State(**values, **({"b": State(**of_b)} if of_b else {}))
        return diffusion(sim)({"noise": constants(sim)(node)}, x)

    try:
        ours = in_double(of_draws, values, of_b, x)
    except (Untranslatable, TypeError, ValueError) as error:
        yield f"{_PATH}: {type(noise).__name__}.gfun is not translated: {error}."
        return
    scale = 1.0 if is_coloured(noise) else np.sqrt(dt)
    theirs = np.broadcast_to(scale * noise.gfun(x), x.shape)
    if not max_row_error(np.broadcast_to(ours, x.shape), theirs) <= _TOLERANCE:
        yield f"{_PATH}: the translated gfun of {type(noise).__name__} differs from TVB's."


def _shape_refusals(sim, given):
    """Reasons why TVB does not run with dispersions of this shape."""
    n_integrated, n_node, _ = _shape_of_draws(sim)
    if not _fails(given, sim):
        return
    good = [shape for shape in ((1,), (n_integrated,), (n_node,), (n_integrated, n_node)) if not _fails(shape, sim)]
    taken = ", ".join(map(str, dict.fromkeys(good)))
    if given == (n_node,):
        yield (
            f"{_PATH}.nsig: one value for each region, with which TVB's HeunStochastic fails where there are "
            f"{n_integrated} state variables. Give shape ({n_integrated}, {n_node}), or use EulerStochastic."
        )
    else:
        yield f"{_PATH}.nsig: shape {given}; TVB takes {taken} with {type(sim.integrator).__name__}. Give one of these."


def _fails(shape, sim):
    """Whether TVB does not run with dispersions of a shape."""
    n_integrated, n_node, n_mode = _shape_of_draws(sim)
    heun, noise = isinstance(sim.integrator, integrators.HeunStochastic), sim.integrator.noise
    strict = heun and supported_base(noise, _KINDS) is tvb_noise.Additive
    # TVB's HeunStochastic wants the first axis to be that of the variables.
    laid_out = _laid_out(shape, sim)
    of_variables = laid_out == (1,) or laid_out[:1] == (n_integrated,)
    return not _broadcasts(laid_out, (n_integrated, n_node, n_mode)) or (strict and not of_variables)


def _shape_of_draws(sim):
    """(n_integrated, n_node, n_mode) of a step's draws."""
    model = sim.model
    n_integrated = len(model.state_variables) - len(model.non_integrated_variables or ())
    return n_integrated, np.shape(sim.connectivity.weights)[0], model.number_of_modes


def _laid_out(shape, sim):
    """Shape that TVB's configure() gives to dispersions; those that it does not know it leaves as they are."""
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
    """Whether an array of this shape broadcasts to another without making it larger."""
    padded = (1,) * (len(to) - len(shape)) + tuple(shape)
    return len(padded) == len(to) and all(n in (1, most) for n, most in zip(padded, to, strict=True))


def _has_equation(noise):
    return isinstance(noise, tvb_noise.Multiplicative)


def _by_hand(noise):
    """Whether the diffusion function is TVB's own, which is written by hand: its slope at nsig = 0 is infinite."""
    return type(noise).gfun in (tvb_noise.Additive.gfun, tvb_noise.Multiplicative.gfun)


def _further(noise):
    """Names of a user's own parameters."""
    return [p.name for p in traits.parameters(noise) if p.name not in ("nsig", "ntau")]


def is_coloured(noise):
    """Whether the noise has a memory."""
    return noise.ntau > 0.0


def leaves(sim):
    """Table of the noise's parameters, those of its equation included."""
    if not _has_equation(sim.integrator.noise):
        return own_leaves(sim)
    return own_leaves(sim) + equation.mapped_parameters("integrator.noise.b", lambda sim: sim.integrator.noise.b, sim)


def own_leaves(sim):
    """Table of the parameters that are the noise's attributes."""

    def native(value, sim):
        n_node, held = np.shape(sim.connectivity.weights)[0], np.shape(sim.integrator.noise.nsig)
        if value.size == np.prod(held, dtype=int) and value.ndim <= len(held):
            return value.reshape(held)
        if value.size == 1:
            return value.reshape(1)
        return value.reshape((1, n_node, 1)) if value.shape == (n_node,) else value

    def shaped(value):
        return value.ravel() if value.ndim == 3 and value.shape[0] == value.shape[2] == 1 else value

    def shapes(sim):
        n_node, model = np.shape(sim.connectivity.weights)[0], sim.model
        n_integrated = len(model.state_variables) - len(model.non_integrated_variables or ())
        full = itertools.product((n_integrated, 1), (n_node, 1), (model.number_of_modes, 1))
        return [shape for shape in dict.fromkeys([(1,), (n_node,), *full]) if not _fails(shape, sim)]

    def owner(sim):
        return sim.integrator.noise

    table = [MappedParameter("integrator.noise.nsig", owner, "nsig", native, shaped, shapes=shapes, positive=True)]
    if is_coloured(sim.integrator.noise):
        table.append(MappedParameter("integrator.noise.ntau", owner, "ntau", is_scalar=True, positive=True))
    scalars = {p.name for p in traits.parameters(sim.integrator.noise) if p.is_scalar}
    for name in _further(sim.integrator.noise):
        table.append(MappedParameter(f"integrator.noise.{name}", owner, name, is_scalar=name in scalars))
    return table


def constants(sim):
    """Function from the noise's node of the state to what the step needs of it."""
    n_var, n_node, n_mode = _shape_of_draws(sim)
    white = not is_coloured(sim.integrator.noise)
    dt = float(sim.integrator.dt) if white else 1.0
    noise = sim.integrator.noise
    names = equation.parameter_names(noise.b) if _has_equation(noise) else ()

    def gather(node):
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
        if not _by_hand(noise):
            theta = {"nsig": nsig, "scale": jnp.full((1, 1, 1), dt**0.5)}
            for name in _further(noise):
                value = getattr(node, name)
                if value.size > 1:
                    raise ValueError(f"State.integrator.noise.{name}: shape {value.shape}; give one value.")
                theta[name] = jnp.reshape(value, (1, 1, 1))
        if names:
            theta["b"] = {name: jnp.reshape(getattr(node.b, name), (1, 1, 1)) for name in names}
        return theta

    return gather


def node(noise, stream, start, stop, shape):
    """Noise's part of the state: its draws of a run, its memory, and the stream that they come from.

    Parameters
    ----------
    noise : tvb.simulator.noise.Noise
        Configured.
    stream : KeyStream or None
        None for TVB's own.
    start, stop : int
        Steps between which the run lies.
    shape : tuple of int
        (n_time, ...) of the draws.
    """
    dtype = jnp.result_type(float)
    stream = stream or NumpyStream(noise.random_stream, start)
    children = {"draws": jnp.asarray(stream.draws(start, stop, shape), dtype)}
    if is_coloured(noise):
        children["eta"] = jnp.asarray(np.broadcast_to(noise._eta, shape[1:]), dtype)
        children["ntau"] = None
    return State({"stream": stream}.items(), **children)


def put_stream(noise, node, step):
    """Put the stream and the memory of a state into a configured TVB noise: `node` backwards."""
    if is_coloured(noise):
        noise._eta = np.array(node.eta, dtype=float)
    if isinstance(node.stream, NumpyStream):
        noise.random_stream.set_state(node.stream.state_at(step))


def diffusion(sim):
    """(theta, x) to what multiplies the draws of a step."""
    noise = sim.integrator.noise
    if not _by_hand(noise):
        return _followed_gfun(noise)
    if not _has_equation(noise):
        return lambda theta, x: theta["noise"]["amplitude"]
    b = equation.translate(noise.b)
    return lambda theta, x: theta["noise"]["amplitude"] * b(theta["noise"].get("b", {}), x)


def _followed_gfun(noise):
    def gfun(theta, x):
        theta = dict(theta["noise"])
        scale, of_b = theta.pop("scale"), theta.pop("b", {})
        values = traits.as_declared(noise, theta)
        if of_b:
            values["b"] = {"parameters": of_b}
        g, _ = trace(noise, "gfun", values, x)
        return jnp.reshape(g, (1, 1, 1)) * scale if jnp.size(g) == 1 else jnp.broadcast_to(g, x.shape) * scale

    return gfun
