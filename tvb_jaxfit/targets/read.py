"""Targets of a fit from what a user gives: a matrix, or a dict of observables by name."""

from typing import Any

from ..checks.suggestions import did_you_mean
from .fcd import FCDTarget
from .mean_rate import MeanRateTarget
from .of_signals import LaggedCovarianceTarget, PowerTarget, VarianceTarget
from .target import Target

# Names under which plain values are understood, and the code that makes a target of them.
_KINDS = {
    "power": PowerTarget,
    "lagged_covariance": LaggedCovarianceTarget,
    "variance": VarianceTarget,
    "mean_rate": MeanRateTarget,
    "fcd": FCDTarget,
}
# Names of other records of a fit.
_RESERVED = ("r", "nonlinearity", "loss", "step", "validation")


def split_targets(target: Any) -> tuple[Any, dict[str, Target]]:
    """(empirical FC, other targets by name).

    Parameters
    ----------
    target : object
        FC as for `fit`, or a dict with ``"fc"`` and others: `Target` objects, or plain values under the names
        ``"power"``, ``"lagged_covariance"``, ``"variance"`` and ``"mean_rate"``.

    Returns
    -------
    fc : object
    others : dict of str to Target

    Raises
    ------
    ValueError
        A dict without ``"fc"``, unknown names, values that are not allowed: all in one message.
    """
    if not isinstance(target, dict):
        return target, {}
    problems, others = [], {}
    if "fc" not in target:
        problems.append(
            '"fc" is missing. Give the empirical FC, too; loss=lambda fc, target: 0.0 * jnp.sum(fc) ignores it'
        )
    for name, value in target.items():
        if name == "fc":
            if isinstance(value, Target):
                problems.append(f'"fc": a {type(value).__name__}; give the matrix, and its loss as loss=')
            continue
        try:
            others[name] = _as_target(name, value)
        except (ValueError, TypeError) as error:
            problems.append(f"{name!r}: {str(error).removesuffix('.')}")
    if problems:
        raise ValueError(f"target: {'; '.join(problems)}.")
    return target["fc"], others


def _as_target(name, value):
    if not isinstance(name, str) or not name.isidentifier() or name in _RESERVED:
        raise ValueError("no name for a target; give another one, such as 'fcd'")
    if isinstance(value, Target):
        return value
    if name not in _KINDS:
        raise ValueError(
            f"a {type(value).__name__}; give a target, such as tj.SignalTarget(value, observable)."
            f"{did_you_mean(name, ['fc', *_KINDS])}"
        )
    return _KINDS[name](value)
