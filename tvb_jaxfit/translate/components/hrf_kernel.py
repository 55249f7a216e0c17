"""Kernel of a hemodynamic response: TVB's own by hand, a user's traced."""

import jax
import jax.numpy as jnp
import numpy as np
from tvb.datatypes import equations

from ...dynamics import hrf
from ..clone import clone
from ..double_precision import in_double
from ..mapped_parameter import MappedParameter
from ..subclasses import supported_base
from ..tracing.untranslatable import Untranslatable
from . import equation

# TVB's Bold._stock_sample_rate [ms].
INTERIM_PERIOD = 4.0

# Kernels with the parameters of their formulas. What TVB derives from these and keeps among them is no parameter.
_KERNELS = {
    equations.FirstOrderVolterra: (hrf.first_order_volterra, ("tau_s", "tau_f", "k_1", "V_0")),
    equations.Gamma: (hrf.gamma, ("tau", "n", "a")),
    equations.DoubleExponential: (
        hrf.double_exponential,
        ("tau_1", "f_1", "amp_1", "tau_2", "f_2", "amp_2", "a", "pi"),
    ),
    equations.MixtureOfGammas: (hrf.mixture_of_gammas, ("a_1", "a_2", "l", "c")),
}
_DERIVED = {equations.Gamma: {"factorial"}, equations.MixtureOfGammas: {"gamma_a_1", "gamma_a_2"}}


def refusals(monitor, path):
    """Reasons against translation of a Bold monitor's response that show before configure()."""
    kernel = monitor.hrf_kernel
    names = set(parameter_names(kernel))
    found = set(kernel.parameters) - _DERIVED.get(_tvb_class(kernel), set())
    if _tvb_class(kernel) is not None and found != names:
        yield (
            f"{path}.hrf_kernel.parameters: found {sorted(found)}, where {type(kernel).__name__} takes {sorted(names)}."
        )
        return
    time, n_lag = _kernel_time(monitor.hrf_length)
    if not np.isfinite(monitor.hrf_length) or n_lag < 1 or time.size != n_lag:
        yield (
            f"{path}.hrf_length: {monitor.hrf_length} ms makes TVB sample a kernel of {time.size} values for a stock "
            f"of {n_lag}, and fail. Take a multiple of {INTERIM_PERIOD:g} ms near it."
        )
        return
    try:
        sampled = _sampled(kernel, time)
    except Exception as error:
        # TVB evaluates a user's own equation, which may raise anything.
        reason = error if isinstance(error, Untranslatable) else f"{type(error).__name__}: {error}"
        yield f"{path}.hrf_kernel: {type(kernel).__name__} is not translated: {reason}."
        return
    if not np.all(np.isfinite(sampled)):
        yield f"{path}.hrf_kernel.parameters: the kernel is not finite with {_values(kernel)}. Give others."


def warn(kernel, path):
    """Warn if parameters of a kernel are constants of the translation."""
    if _tvb_class(kernel) is not None:
        return
    error = _tracing_error(kernel)
    if error:
        equation.warn_untraceable(path, kernel, error)
        return
    for name in equation.hidden_parameters(kernel):
        equation.warn_hidden(path, name)


def translate(kernel, time):
    """Function (time, **parameters) to the kernel.

    Parameters
    ----------
    kernel : Equation
    time : ndarray
        [s]. A kernel that cannot be traced is sampled by TVB at these times, and constant.
    """
    if _tvb_class(kernel) is not None:
        return _KERNELS[_tvb_class(kernel)][0]
    if _tracing_error(kernel):
        # On a copy: an equation may write to its own parameters.
        sampled = np.array(clone(kernel).evaluate(time), dtype=float)
        return lambda *_, **__: sampled
    evaluate = equation.translate(kernel)
    return lambda time, **parameters: evaluate(equation.in_tvb_shapes(kernel, parameters), time)


def parameters(monitor, index):
    """Parameters of the response of the Bold monitor with an index."""
    return [
        MappedParameter(
            f"monitors[{index}].hrf_kernel.{name}",
            lambda sim: sim.monitors[index].hrf_kernel,
            name,
            in_equation_dict=True,
        )
        for name in parameter_names(monitor.hrf_kernel)
    ]


def parameter_names(kernel):
    """Parameters of a kernel that the state shows."""
    cls = _tvb_class(kernel)
    if cls is not None:
        return _KERNELS[cls][1]
    return () if _tracing_error(kernel) else equation.parameter_names(kernel)


def _tvb_class(kernel):
    """Class of TVB's own whose formula a kernel has; None for a user's formula."""
    own = supported_base(kernel, _KERNELS)
    return own if own is not None and kernel.equation == own.equation.default else None


def _tracing_error(kernel):
    """Error of tracing a user's kernel, whose samples are constants then; None if it is traced, or refused."""
    if _tvb_class(kernel) is not None or isinstance(kernel, equations.FirstOrderVolterra):
        return None
    error = equation.tracing_error(kernel, np.linspace(0.0, 1.0, 5))
    # A branch on a parameter is refused: the user can write it with numpy.where.
    return None if isinstance(getattr(error, "__cause__", None), jax.errors.ConcretizationTypeError) else error


def _kernel_time(hrf_length):
    """Sample times of the kernel [s], and the number of samples that TVB keeps."""
    n_lag = int(np.ceil(hrf_length / INTERIM_PERIOD)) if np.isfinite(hrf_length) else 0
    longest = hrf_length / 1000.0
    return np.arange(0.0, longest, longest / n_lag) if n_lag > 0 else np.zeros(0), n_lag


def _values(kernel):
    return {name: float(np.reshape(kernel.parameters[name], ())) for name in parameter_names(kernel)}


def _sampled(kernel, time):
    """The translated kernel at times [s], in double precision."""
    translated = translate(kernel, time)
    return in_double(lambda parameters: jnp.asarray(translated(time, **parameters)), _values(kernel))
