"""Figures of fits: their course, their regional values, and the loss around them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..parameters import strip_parameters
from ..state import State, get_path
from .axes import COLOUR_MAP, COLOURS, FAINT, drawable, is_right, make_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def history(fit, fresh_noise=None, axes: "Sequence[Axes] | None" = None) -> np.ndarray:
    """Loss over the steps of a fit, and r if it was recorded: in training, and on noise that the fit did not use.

    Parameters
    ----------
    fit : History
        With its validation. r is ``fit.aux["r"]`` in training and ``fit.validation.aux["r"]`` in validation; terms of a
        loss of more than FC are drawn, too.
    fresh_noise : (array_like, array_like), optional
        Steps, and r on fresh noise at these steps, in place of the validation's.
    axes : sequence of matplotlib.axes.Axes, optional
        One for the loss; if there is r, one for it; if there are terms, one for these.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the number of ``axes`` differs from the number of curves.

    Examples
    --------
    >>> import optax
    >>> from tvb_jaxfit import OptaxOptimizer, Parameter, State, plot
    >>> optimizer = OptaxOptimizer(lambda state: state.x**2, optax.sgd(0.1), progress=False)
    >>> fitted, history = optimizer.run(State(x=Parameter(1.0)), max_steps=5)
    >>> (ax,) = plot.history(history)
    >>> ax.get_ylabel()
    'loss'
    """
    unused, label = fresh_noise, "fresh noise"
    if unused is None and "r" in fit.validation.aux:
        unused, label = (fit.validation.steps, fit.validation.aux["r"]), "validation"
    has_r = "r" in fit.aux or unused is not None
    terms = terms_of(fit)
    axes = make_axes(axes, 1 + has_r + bool(terms), (4.6, 3.2))
    _draw_course(axes[0], "loss", fit.loss, fit.validation, "validation", fit.best_step)
    if has_r:
        unused = ((), ()) if unused is None else unused
        _draw_course(axes[1], "r (off-diagonal)", fit.aux.get("r", ()), unused, label, fit.best_step)
    if terms:
        _draw_terms(axes[1 + has_r], {name: fit.aux[name] for name in terms}, fit.best_step)
    return axes


def terms_of(fit) -> list[str]:
    """Names of the terms that a history recorded: those of a loss of more than FC."""
    return [name for name in fit.aux if name not in ("r", "nonlinearity")] if "fc" in fit.aux else []


def _draw_terms(ax, terms, best_step):
    """Terms of a loss over the steps, on a logarithmic axis where they are positive: their sizes differ."""
    for name, values in terms.items():
        ax.plot(np.arange(np.size(values)), values, label=name)
    if all(np.all(np.asarray(values) > 0.0) for values in terms.values()):
        ax.set_yscale("log")
    ax.axvline(best_step, color="0.6", linestyle=":")
    ax.set(xlabel="step", ylabel="terms of the loss")
    ax.legend(fontsize="small")


def _draw_course(ax, name, training, unused, label, best_step):
    """Values at each step in training, and (steps, values) on noise that the fit did not use."""
    training, (steps, values) = np.asarray(training), unused
    if training.size:
        ax.plot(np.arange(training.size), training, color=COLOURS["training"], label="training")
    if len(steps):
        ax.plot(steps, values, "o-", markersize=4, color=COLOURS["held out"], label=label)
    ax.axvline(best_step, color="0.6", linestyle=":", label=f"best (step {best_step})")
    ax.set(xlabel="step", ylabel=name)
    ax.legend(fontsize="small")


def regional(
    values,
    strength,
    reference: float | None = None,
    name: str = "",
    ax: "Axes | None" = None,
    hemispheres=None,
    errors=None,
    determined=None,
) -> "Axes":
    """Fitted values of the regions against the strength of their incoming connections.

    Parameters
    ----------
    values : array_like or Parameter, shape (n_node,)
    strength : tvb.datatypes.connectivity.Connectivity, or array_like
        Of shape (n_node,), or weights[target, source] of shape (n_node, n_node), whose rows are summed.
    reference : float, optional
        A value that all regions share, drawn as a dashed line.
    name : str, optional
        Name of the parameter.
    ax : matplotlib.axes.Axes, optional
    hemispheres : array_like of bool, shape (n_node,), optional
        True for right; a connectivity has its own. The regions of each hemisphere have their own marker.
    errors : array_like, shape (n_node,), optional
        Standard errors; NaN draws none.
    determined : array_like of bool, shape (n_node,), optional
        Values that are not determined are drawn faint.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is not one value, hemisphere or standard error for each region.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> ax = plot.regional([0.2, 0.4], np.array([[0.0, 1.0], [0.5, 0.0]]), reference=0.3, name="w")
    >>> ax.collections[0].get_offsets().tolist()
    [[1.0, 0.2], [0.5, 0.4]]
    """
    values = drawable(getattr(values, "value", values), "regional: values")
    hemispheres = getattr(strength, "hemispheres", None) if hemispheres is None else hemispheres
    strength = drawable(getattr(strength, "weights", strength), "regional: strength")
    strength = strength.sum(axis=1) if strength.ndim == 2 else strength
    errors = np.full(values.shape, np.nan) if errors is None else drawable(errors, "regional: errors")
    determined = np.ones(values.shape, bool) if determined is None else np.asarray(determined, bool)
    for what, each in (("values", values), ("errors", errors), ("determined", determined)):
        if each.shape != strength.shape:
            raise ValueError(f"regional: {what} of shape {each.shape} for {strength.size} regions; give one for each.")
    ax = make_axes(ax, 1, (4.6, 3.6))[0]
    if reference is not None:
        ax.axhline(float(np.ravel(reference)[0]), color=COLOURS["held out"], linestyle="--", label="one for all")
    right = is_right(hemispheres, len(values))
    groups = {"left": (~right, "o", "training"), "right": (right, "^", "agrees")}
    groups = groups if np.ptp(right.astype(int)) else {"regional": (~right | right, "o", "training")}
    for label, (members, marker, colour) in groups.items():
        for drawn, opacity in ((members & determined, 1.0), (members & ~determined, FAINT)):
            if opacity < 1.0 and not drawn.any():
                continue
            style = {"color": COLOURS[colour], "alpha": opacity}
            text = label if opacity == 1.0 else None
            ax.scatter(strength[drawn], values[drawn], s=18, marker=marker, label=text, **style)
            if np.isfinite(errors[drawn]).any():
                ax.errorbar(strength[drawn], values[drawn], errors[drawn], fmt="none", elinewidth=0.8, **style)
    ax.set(xlabel="strength of incoming connections", ylabel=name)
    if np.ptp(values) > 0.0 and np.ptp(strength) > 0.0:
        ax.set_title(f"correlation with strength: {np.corrcoef(strength, values)[0, 1]:.2f}", fontsize="medium")
    ax.legend(fontsize="small")
    return ax


def exploration(result, path: Sequence[State] = (), ax: "Axes | None" = None) -> "Axes":
    """Loss over one or two explored parameters, its minimum marked, with the path of a fit.

    Parameters
    ----------
    result : Exploration
        Of one axis (drawn as a line), or of two axes in mode ``"product"`` (drawn as a map: the first of
        ``result.axes`` to the right, the second upwards).
    path : sequence of State, optional
        States of a fit in order, as ``history["state"].save`` has them (see `SavingCallback`).
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the space has more axes, an axis is regional, or the loss does not give one number per point.

    Examples
    --------
    >>> from tvb_jaxfit import GridAxis, SequentialExecution, Space, State, plot
    >>> space = Space(State(w=GridAxis(0.0, 1.0, 3), a=GridAxis(0.0, 2.0, 5)))
    >>> ax = plot.exploration(SequentialExecution(lambda state: state.w * state.a, space, progress=False).run())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('a', 'w')
    """
    names, coordinates, values = _grid_of(result)
    route = np.array(
        [[np.mean(np.asarray(get_path(strip_parameters(state), name))) for name in names] for state in path]
    )
    route = route.reshape(-1, len(names))
    ax = make_axes(ax, 1, (5.4, 4.0))[0]
    draw = _draw_line if len(names) == 1 else _draw_map
    draw(ax, names, coordinates, values, result.best_index, route)
    return ax


def _grid_of(result):
    """Paths of the axes, their values, and the loss at the points of an exploration."""
    import jax

    space, values = result.space, np.asarray(jax.tree.leaves(result.values)[0])
    names, coordinates = list(space.axes), [axis.values(name) for name, axis in space.axes.items()]
    if values.shape != space.shape or len(space.shape) not in (1, 2) or len(space.shape) != len(names):
        raise ValueError(
            f"exploration: values of shape {values.shape} over {', '.join(names)}; what can be drawn is one number a "
            "point over one axis, or over two of mode 'product'. For others, see result.to_pandas()."
        )
    if any(axis_values.size != len(axis_values) for axis_values in coordinates):
        raise ValueError("exploration: an axis of regional values has no place on a line; see result.to_pandas().")
    return names, [axis_values.reshape(-1) for axis_values in coordinates], values


def _draw_line(ax, names, coordinates, values, best, route):
    """Loss over one parameter, with the first and the last value of a fit."""
    (x,) = coordinates
    order = np.argsort(x)
    ax.plot(x[order], values[order], ".-", color="0.3")
    ax.plot(x[best[0]], values[best], "*", color="tab:red", markersize=14, label="smallest")
    for value in route[[0, -1], 0] if len(route) else ():
        ax.axvline(value, color="k", linestyle=":")
    ax.set(xlabel=names[0], ylabel="loss")


def _draw_map(ax, names, coordinates, values, best, route):
    """Loss over two parameters, with the path of a fit."""
    x, y = coordinates
    order_x, order_y = np.argsort(x), np.argsort(y)
    ax.set_facecolor("0.85")
    sorted_values = values[np.ix_(order_x, order_y)].T
    mesh = ax.pcolormesh(x[order_x], y[order_y], sorted_values, cmap=f"{COLOUR_MAP}_r", shading="nearest")
    ax.plot(x[best[0]], y[best[1]], "*", color="tab:red", markeredgecolor="w", markersize=15, label="smallest")
    if len(route):
        ax.plot(route[:, 0], route[:, 1], "o-", color="w", markeredgecolor="k", markersize=4, linewidth=1, label="fit")
        ends = {"initial": (route[0], "s"), "fitted": (route[-1], "D")}
        for label, (end, marker) in ends.items():
            ax.plot(end[0], end[1], marker, color="w", markeredgecolor="k", markersize=9, linestyle="none", label=label)
    ax.legend(fontsize="small", facecolor="0.75", ncols=4, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    ax.figure.colorbar(mesh, ax=ax, label="loss" + (", grey: failed" if not np.isfinite(values).all() else ""))
    ax.set(xlabel=names[0], ylabel=names[1])
