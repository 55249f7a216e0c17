"""Settings of a fit, as a report reads them."""

import inspect
from types import SimpleNamespace

_PASSING = ("progress", "callback", "checkpoint", "resume")


def is_linear(result):
    """True for a fit by the linear response."""
    return getattr(result, "is_linear", "nonlinearity" in result.history.aux)


def settings_of(result):
    """Settings of a fit."""
    if getattr(result, "settings", None) is not None:
        return result.settings
    from ..fitting.fit import TRAINING_KEY, VALIDATION_KEY, fit
    from ..fitting.linear import refinement

    defaults = {name: repr(each.default) for name, each in inspect.signature(fit).parameters.items()}
    items = [(name, text, text != defaults.get(name)) for name, text in result.options.items()]
    linear, method = is_linear(result), result.options.get("method")
    resolved = {
        "loss": {"'linear'": "rmse_corr", "'linear+simulate'": "rmse_corr, then 1 - fc_corr"}.get(method, "rmse"),
        "optimizer": "none: L-BFGS on the linear response"
        if linear
        else {"'linear+simulate'": refinement.TOLD}.get(method, "optax.adam(0.01)"),
        "skip_t": str(result.skip_t),
        "monitor": str(result.monitor),
        "simulation_length": "the simulator's own",
        "fresh": f"noise of its own for each step, jax.random.fold_in(jax.random.key({TRAINING_KEY}), step); held out: "
        f"jax.random.key({VALIDATION_KEY})"
        if "noise" in result.initial.integrator
        else "no: there is no noise",
    }
    call = [(name, text) for name, text, differs in items if differs and name not in _PASSING]
    return SimpleNamespace(items=lambda: items, resolved=resolved, call=lambda: call)
