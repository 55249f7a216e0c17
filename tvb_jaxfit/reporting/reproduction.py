"""How to do a fit once more, and how to have its values without it: as code, to be read and pasted."""

import inspect
import os

import jax
import jax.numpy as jnp
import numpy as np

from ..constraints import MaskedParameter, ScaledParameter
from ..parameters import BoundedParameter, parameters_of
from ..state import get_path
from ..translate.parameter_map import parameter_map

# What of a call belongs to its own time and place.
_PASSING = ("progress", "callback", "checkpoint", "resume")
# Values of more numbers than this are not written out.
_LONGEST = 2000


def options_as_code(arguments):
    """Arguments of a call as code, by name.

    Parameters
    ----------
    arguments : dict of str to object

    Returns
    -------
    dict of str to str
        Of what only a script has, such as an optimiser, its name; of what has none, the argument's.

    Examples
    --------
    >>> import optax
    >>> from tvb_jaxfit import rmse
    >>> from tvb_jaxfit.reporting.reproduction import options_as_code
    >>> options_as_code({"loss": rmse, "optimizer": optax.adam(0.1), "max_steps": 20})
    {'loss': 'tj.rmse', 'optimizer': 'optimizer', 'max_steps': '20'}
    """
    return {name: _code(value, name) for name, value in arguments.items()}


def _code(value, name):
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"jax.random.wrap_key_data({_array(jax.random.key_data(value))})"
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _array(value)
    called = getattr(value, "__name__", name)
    if getattr(value, "__module__", "").startswith("tvb_jaxfit."):
        return f"tj.{called}"
    return called if called.isidentifier() else name


def _array(value):
    value = np.asarray(value)
    if value.ndim == 0:
        return repr(value.item())
    kind = "" if value.dtype.kind == "f" else f", np.{value.dtype}"
    return f"np.array({value.tolist()}{kind})"


def fit_call(options, initial, sim):
    """Code that does a fit again.

    Parameters
    ----------
    options : dict of str to str
        As `options_as_code` of the arguments of `fit`.
    initial : State
        Where it began.
    sim : Simulator

    Returns
    -------
    str
    """
    from ..fitting.fit import fit

    own = {leaf.path: np.asarray(leaf.state_value(sim)) for leaf in parameter_map(sim)}
    free = [f"    {path!r}: {_parameter(p, own.get(path))}," for path, p in parameters_of(initial).items()]
    defaults = {name: repr(each.default) for name, each in inspect.signature(fit).parameters.items()}
    given = {name: text for name, text in options.items() if text != defaults.get(name) and name not in _PASSING}
    names = [name for name, text in given.items() if text.isidentifier() and text not in ("True", "False", "None")]
    yours = ", ".join(["sim", "fc_target", *names])
    call = ", ".join(["sim, fc_target, free", *(f"{name}={text}" for name, text in given.items())])
    lines = ["import jax, numpy as np, tvb_jaxfit as tj", "", f"# {yours}: as in your script"]
    return "\n".join([*lines, "free = {", *free, "}", f"result = tj.fit({call})", "result.write_back(sim)"])


def _parameter(parameter, own):
    """Code that makes a parameter; without its value where that is the simulator's own."""
    facts, value = {}, np.asarray(parameter.value)
    if isinstance(parameter, BoundedParameter):
        bounds = {"lower_bound": parameter.lower_bound, "upper_bound": parameter.upper_bound}
        facts |= {name: repr(float(bound)).removesuffix(".0") for name, bound in bounds.items() if np.isfinite(bound)}
    if isinstance(parameter, ScaledParameter):
        facts["scale"] = repr(parameter.scale)
    if isinstance(parameter, MaskedParameter) and not np.array_equal(parameter.mask, value != 0.0):
        facts["mask"] = "mask"
    if parameter.regional:
        facts["regional"] = "True"
    if own is None or own.size not in (1, value.size) or not np.array_equal(np.broadcast_to(own, value.shape), value):
        same = bool(np.all(value == value.flat[0])) and value.size > 1
        facts["value"] = repr(value.flat[0].item()) if same else _array(value) if value.size <= _LONGEST else "start"
    return f"tj.{type(parameter).__name__}({', '.join(f'{name}={text}' for name, text in facts.items())})"


def tvb_values(best, sim):
    """Code that puts fitted values into a simulator without tvb_jaxfit, all of their digits, in TVB's own shapes.

    Parameters
    ----------
    best : State
    sim : Simulator

    Returns
    -------
    str
    """
    places = {leaf.path: leaf for leaf in parameter_map(sim)}
    lines = ["import numpy as np", "", "# sim: before sim.configure()"]
    for path in parameters_of(best):
        leaf = places[path]
        native = leaf.tvb_value(get_path(best, path).value, sim)
        above, _, name = path.rpartition(".")
        place = f"sim.{above}.parameters[{name!r}]" if leaf.in_equation_dict else f"sim.{path}"
        long = np.size(native) > _LONGEST
        lines.append(f"# {place}: {np.size(native)} values" if long else f"{place} = {_array(native)}")
    return "\n".join(lines)
