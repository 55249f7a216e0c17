"""Code that repeats a fit, and code that writes its values into TVB alone: to be read and pasted."""

import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..balance.balanced import Balanced
from ..constraints import MaskedParameter, ScaledParameter
from ..maps import MapParameter
from ..parameters import BoundedParameter, parameters_of
from ..translate.parameter_map import parameter_map

# Arrays with more numbers than this are not written out.
_MAX_NUMBERS = 2000


def options_as_code(options: dict) -> dict[str, str]:
    """Options of a call as code, by name.

    Parameters
    ----------
    options : dict of str to object

    Returns
    -------
    dict of str to str
        An object of the user's script, such as an optimizer, is represented by its name, or by the name of the option
        if it has none.

    Examples
    --------
    >>> import optax
    >>> from tvb_jaxfit import rmse
    >>> from tvb_jaxfit.reporting.reproduction import options_as_code
    >>> options_as_code({"loss": rmse, "optimizer": optax.adam(0.1), "max_steps": 20})
    {'loss': 'tj.rmse', 'optimizer': 'optimizer', 'max_steps': '20'}
    """
    return {name: _value_as_code(value, name) for name, value in options.items()}


def _value_as_code(value, name):
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value)
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"jax.random.wrap_key_data({_array_as_code(jax.random.key_data(value))})"
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _array_as_code(value)
    own_name = getattr(value, "__name__", "")
    if own_name and getattr(value, "__module__", "").startswith("tvb_jaxfit."):
        return f"tj.{own_name}"
    return own_name if own_name.isidentifier() else name


def _array_as_code(value):
    value = np.asarray(value)
    if value.ndim == 0:
        return repr(value.item())
    dtype = "" if value.dtype.kind == "f" else f", np.{value.dtype}"
    return f"np.array({value.tolist()}{dtype})"


def fit_call(call: list[tuple[str, str]], initial, sim, others: Sequence[str] = ()) -> str:
    """Code that repeats a fit.

    Parameters
    ----------
    call : list of (str, str)
        Arguments of `fit` and their code, those that differ from the defaults; see `FitSettings.call`.
    initial : State
        Start of the fit.
    sim : tvb.simulator.simulator.Simulator
    others : sequence of str, optional
        Names of the targets besides FC.

    Returns
    -------
    str
    """
    sim_values = {mapped.path: np.asarray(mapped.state_value(sim)) for mapped in parameter_map(sim)}
    free = [
        f"    {path!r}: {_parameter_as_code(parameter, sim_values.get(path))},"
        for path, parameter in parameters_of(initial).items()
    ]
    uses_maps = any(isinstance(parameter, MapParameter) for parameter in parameters_of(initial).values())
    script_names = ["maps"] * uses_maps + [
        argument for argument, code in call if code.isidentifier() and code not in ("True", "False", "None")
    ]
    names = ", ".join(["sim", "fc_target", *(["targets"] if others else []), *script_names])
    of_targets = "".join(f', "{name}": targets["{name}"]' for name in others)
    target = f'{{"fc": fc_target{of_targets}}}' if others else "fc_target"
    arguments = ", ".join([f"sim, {target}, free", *(f"{argument}={code}" for argument, code in call)])
    lines = ["import jax, numpy as np, tvb_jaxfit as tj", "", f"# {names}: as in your script"]
    return "\n".join([*lines, "free = {", *free, "}", f"result = tj.fit({arguments})", "result.write_back(sim)"])


def _parameter_as_code(parameter, sim_value):
    """Code that makes a parameter; without its value if that is the simulator's own."""
    if isinstance(parameter, MapParameter):
        return _map_as_code(parameter)
    if isinstance(parameter, Balanced):
        target = parameter.target[0] if len(parameter.target) == 1 else list(parameter.target)
        return f"tj.Balanced({target!r}, {parameter.rate!r})"
    arguments, value = {}, np.asarray(parameter.value)
    if isinstance(parameter, BoundedParameter):
        bounds = {"lower_bound": parameter.lower_bound, "upper_bound": parameter.upper_bound}
        finite = {name: bound for name, bound in bounds.items() if np.isfinite(bound)}
        arguments |= {name: repr(float(bound)).removesuffix(".0") for name, bound in finite.items()}
    if isinstance(parameter, ScaledParameter):
        arguments["scale"] = repr(parameter.scale)
    if isinstance(parameter, MaskedParameter) and not np.array_equal(parameter.mask, value != 0.0):
        arguments["mask"] = "mask"
    if parameter.regional:
        arguments["regional"] = "True"
    if not _is_sim_value(value, sim_value):
        is_constant = bool(np.all(value == value.flat[0])) and value.size > 1
        written_out = _array_as_code(value) if value.size <= _MAX_NUMBERS else "start"
        arguments["value"] = repr(value.flat[0].item()) if is_constant else written_out
    return f"tj.{type(parameter).__name__}({', '.join(f'{name}={code}' for name, code in arguments.items())})"


def _map_as_code(parameter):
    """Code that makes a parameter of maps; the maps are those of the script."""
    arguments = {"transform": repr(parameter.transform), "coefficients": str(parameter.coefficients.tolist())}
    if parameter.transform == "sigmoid":
        arguments |= {"lower_bound": repr(parameter.lower_bound), "upper_bound": repr(parameter.upper_bound)}
    return f"tj.MapParameter(maps, {', '.join(f'{name}={code}' for name, code in arguments.items())})"


def _is_sim_value(value, sim_value):
    """True if a value is the simulator's own, which may be one number for all entries."""
    if sim_value is None or sim_value.size not in (1, value.size):
        return False
    return np.array_equal(np.broadcast_to(sim_value, value.shape), value)


def tvb_values(best, sim) -> str:
    """Code that writes fitted values into a simulator without tvb_jaxfit: all digits, in TVB's own shapes.

    Parameters
    ----------
    best : State
    sim : tvb.simulator.simulator.Simulator

    Returns
    -------
    str
    """
    mapped_parameters = {mapped.path: mapped for mapped in parameter_map(sim)}
    lines = ["import numpy as np", "", "# sim: before sim.configure()"]
    parameters = parameters_of(best)
    for path in parameters:
        mapped = mapped_parameters[path]
        value = mapped.tvb_value(parameters[path].value, sim)
        component, _, name = path.rpartition(".")
        place = f"sim.{component}.parameters[{name!r}]" if mapped.in_equation_dict else f"sim.{path}"
        too_many = np.size(value) > _MAX_NUMBERS
        lines.append(f"# {place}: {np.size(value)} values" if too_many else f"{place} = {_array_as_code(value)}")
    return "\n".join(lines)
