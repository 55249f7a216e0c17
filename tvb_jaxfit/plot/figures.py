"""Figures of a fit: each function draws into the Axes that it is given, or into new ones, and returns them."""

import numpy as np

from ..checks.arrays import real_array
from ..checks.options import check
from ..loss import fc_corr, rmse
from ..parameters import strip_parameters
from ..state import get_path

_MAP = "cividis"
# Red and green are told apart by their place and their words, too.
_COLOURS = {"agrees": "tab:green", "differs": "tab:red", "training": "tab:blue", "held out": "tab:orange"}


def structural_connectivity(connectivity, lengths=None, axes=None, hemispheres=None):
    """Weights and tract lengths, side by side; weights on a logarithmic scale, three decades of them.

    Parameters
    ----------
    connectivity : tvb.datatypes.connectivity.Connectivity or array_like, shape (n_node, n_node)
        Or the weights[target, source].
    lengths : array_like, shape (n_node, n_node), optional
        Tract lengths [mm]; a connectivity has its own.
    axes : sequence of matplotlib.axes.Axes, optional
        One for each matrix.
    hemispheres : array_like of bool, shape (n_node,), optional
        True for right, as a connectivity has it: regions are drawn by hemisphere, that of the first region first, with
        a line between both.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Where there is not one of ``axes`` for each matrix, or not one hemisphere for each region.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> axes = plot.structural_connectivity(np.array([[0.0, 1.0], [0.5, 0.0]]), lengths=np.full((2, 2), 30.0))
    >>> [ax.get_title() for ax in axes]
    ['Weights', 'Tract lengths']
    """
    from matplotlib.colors import LogNorm, Normalize

    weights = _numbers(getattr(connectivity, "weights", connectivity), "structural_connectivity: weights")
    lengths = getattr(connectivity, "tract_lengths", lengths)
    hemispheres = getattr(connectivity, "hemispheres", None) if hemispheres is None else hemispheres
    lengths = None if lengths is None else _numbers(lengths, "structural_connectivity: lengths")
    connected = np.where(weights == 0.0, np.nan, weights)
    highest = np.nanmax(connected)
    scale = Normalize() if np.any(weights < 0.0) else LogNorm(highest / 1000.0, highest, clip=True)
    matrices = {"Weights": ("connection strength", connected, scale)}
    if lengths is not None:
        matrices["Tract lengths"] = ("[mm]", np.where(weights == 0.0, np.nan, lengths), Normalize(0.0))
    axes = _axes(axes, len(matrices), (4.2, 3.6))
    for ax, (title, (unit, matrix, scale)) in zip(axes, matrices.items(), strict=True):
        image = _matrix(ax, matrix, scale, title, hemispheres)
        ax.set(xlabel="source", ylabel="target")
        ax.figure.colorbar(image, ax=ax, label=unit, shrink=0.85)
    return axes


def time_series(time, data, window=None, ylabel="", ax=None):
    """One line a region, coloured by its mean.

    Parameters
    ----------
    time : array_like, shape (n_time,)
        [ms]
    data : array_like, shape (n_time, n_node) or (n_time, n_voi, n_node, n_mode)
        As a monitor returns it; of several variables or modes the first.
    window : (float, float), optional
        First and last time to show [ms].
    ylabel : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Where there is no sample in the window.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> ax = plot.time_series(np.arange(4.0), np.ones((4, 2)), ylabel="S")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('time [ms]', 'S')
    """
    from matplotlib.collections import LineCollection

    time, data = _numbers(time, "time_series: time"), _numbers(data, "time_series: data")
    data = data[:, 0, :, 0] if data.ndim == 4 else data
    low, high = (time[0], time[-1]) if window is None else window
    shown = (time >= low) & (time <= high)
    if not shown.any():
        raise ValueError(
            f"time_series: no sample between {low:g} and {high:g} ms; times are {time[0]:g} to {time[-1]:g}."
        )
    time, data = time[shown], data[shown]
    ax = _axes(ax, 1, (5.4, 3.2))[0]
    seconds = np.ptp(time) > 5000.0
    x = time / 1000.0 if seconds else time
    lines = LineCollection([np.column_stack([x, y]) for y in data.T], cmap=_MAP, linewidths=0.8, alpha=0.8)
    lines.set_array(data.mean(axis=0))
    ax.add_collection(lines)
    ax.autoscale()
    ax.margins(x=0.0)
    ax.set(xlabel="time [s]" if seconds else "time [ms]", ylabel=ylabel)
    ax.figure.colorbar(lines, ax=ax, label="mean of the region")
    return ax


def functional_connectivity(matrices, target=None, axes=None, hemispheres=None):
    """FC matrices side by side on one scale, with their correlation with a target.

    Parameters
    ----------
    matrices : dict of str to array_like, shape (n_node, n_node)
        By title, in order. Entries without data (NaN, or masked) are blank; where the target has none, r leaves them
        out.
    target : str, optional
        Title of the empirical one; by default the first. The others are titled with r (off-diagonal).
    axes : sequence of matplotlib.axes.Axes, optional
        One for each matrix.
    hemispheres : array_like of bool, shape (n_node,), optional
        As for `structural_connectivity`.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Where no matrix has the target's title, there is not one of ``axes`` for each matrix, or not one hemisphere for
        each region.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> axes = plot.functional_connectivity({"Empirical": fc, "Fitted": 0.5 * fc})
    >>> print(axes[1].get_title())
    Fitted
    r = 1.000
    """
    check("functional_connectivity", matrices=(matrices, _titled))
    matrices = {title: _numbers(matrix, f"functional_connectivity: {title}") for title, matrix in matrices.items()}
    target = next(iter(matrices)) if target is None else target
    if target not in matrices:
        raise ValueError(f"functional_connectivity: no {target!r}; there is: {', '.join(matrices)}.")
    from matplotlib.colors import Normalize

    axes = _axes(axes, len(matrices), (3.0, 3.3))
    pairs = [matrix[~np.eye(len(matrix), dtype=bool)] for matrix in matrices.values()]
    known = np.concatenate([of[~np.isnan(of)] for of in pairs])
    scale = Normalize(min(0.0, known.min()), known.max()) if known.size else Normalize(0.0, 1.0)
    for ax, (title, matrix) in zip(axes, matrices.items(), strict=True):
        r = "" if title == target else f"\nr = {float(fc_corr(matrix, matrices[target], missing='ignore')):.3f}"
        shown = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
        image = _matrix(ax, shown, scale, title + r, hemispheres)
    axes[0].figure.colorbar(image, ax=list(axes), label="FC", shrink=0.8)
    return axes


def fc_scatter(fc, target, title="", ax=None):
    """Fitted against empirical FC, one point a pair of regions, with the line where both are equal.

    Parameters
    ----------
    fc, target : array_like, shape (n_node, n_node)
        Pairs of which the target has no data (NaN, or masked) are left out.
    title : str, optional
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> fc = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
    >>> plot.fc_scatter(fc, fc).get_title()
    'r = 1.000, RMSE = 0.000'
    """
    fc, target = _numbers(fc, "fc_scatter: fc"), _numbers(target, "fc_scatter: target")
    upper = np.triu(~np.isnan(target), 1)
    x, y = target[upper], fc[upper]
    ax = _axes(ax, 1, (4.0, 4.0))[0]
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    low, high = low - 0.03 * (high - low), high + 0.03 * (high - low)
    ax.plot([low, high], [low, high], "k--", linewidth=1.0)
    # Few points are to be seen, and many to be told apart.
    few = x.size < 500
    ax.scatter(x, y, s=18 if few else 6, alpha=0.8 if few else 0.3, color=_COLOURS["training"], edgecolors="none")
    r, difference = (float(of(fc, target, missing="ignore")) for of in (fc_corr, rmse))
    figures = f"r = {r:.3f}, RMSE = {difference:.3f}"
    ax.set(title=f"{title}\n{figures}".strip(), xlabel="empirical FC", ylabel="simulated FC")
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    return ax


def exploration(result, path=(), ax=None):
    """Loss over one or two explored parameters, the smallest marked, with the way that a fit took.

    Parameters
    ----------
    result : Exploration
        Of one axis (a line), or two of mode ``"product"`` (a map: the first of ``result.axes`` to the right, the second
        upwards).
    path : sequence of State, optional
        States of a fit in order, as ``history["state"].save`` has them (see `SavingCallback`).
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Where the space has more axes, an axis is regional, or the loss does not give one number a point.

    Examples
    --------
    >>> from tvb_jaxfit import GridAxis, SequentialExecution, Space, State, plot
    >>> space = Space(State(w=GridAxis(0.0, 1.0, 3), a=GridAxis(0.0, 2.0, 5)))
    >>> ax = plot.exploration(SequentialExecution(lambda state: state.w * state.a, space, progress=False).run())
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('a', 'w')
    """
    import jax

    space, values = result.space, np.asarray(jax.tree.leaves(result.values)[0])
    names, axes = list(space.axes), [axis.values(name) for name, axis in space.axes.items()]
    if values.shape != space.shape or len(space.shape) not in (1, 2) or len(space.shape) != len(names):
        raise ValueError(
            f"exploration: values of shape {values.shape} over {', '.join(names)}; what can be drawn is one number a "
            "point over one axis, or over two of mode 'product'. For others, see result.to_pandas()."
        )
    if any(values_of.size != len(values_of) for values_of in axes):
        raise ValueError("exploration: an axis of regional values has no place on a line; see result.to_pandas().")
    axes = [values_of.reshape(-1) for values_of in axes]
    order = [np.argsort(values_of) for values_of in axes]
    route = np.array(
        [[np.mean(np.asarray(get_path(strip_parameters(state), name))) for name in names] for state in path]
    )
    route = route.reshape(-1, len(names))
    ax = _axes(ax, 1, (5.4, 4.0))[0]
    best = result.best_index
    if len(names) == 1:
        ax.plot(axes[0][order[0]], values[order[0]], ".-", color="0.3")
        ax.plot(axes[0][best[0]], values[best], "*", color="tab:red", markersize=14, label="smallest")
        for value in route[[0, -1], 0] if len(route) else ():
            ax.axvline(value, color="k", linestyle=":")
        ax.set(xlabel=names[0], ylabel="loss")
        return ax
    ax.set_facecolor("0.85")
    drawn = values[np.ix_(*order)].T
    mesh = ax.pcolormesh(axes[0][order[0]], axes[1][order[1]], drawn, cmap=f"{_MAP}_r", shading="nearest")
    ax.plot(
        axes[0][best[0]], axes[1][best[1]], "*", color="tab:red", markeredgecolor="w", markersize=15, label="smallest"
    )
    if len(route):
        ax.plot(route[:, 0], route[:, 1], "o-", color="w", markeredgecolor="k", markersize=4, linewidth=1, label="fit")
        ends = {"initial": (route[0], "s"), "fitted": (route[-1], "D")}
        for label, (end, marker) in ends.items():
            ax.plot(end[0], end[1], marker, color="w", markeredgecolor="k", markersize=9, linestyle="none", label=label)
    ax.legend(fontsize="small", facecolor="0.75", ncols=4, loc="lower left", bbox_to_anchor=(0.0, 1.0))
    ax.figure.colorbar(mesh, ax=ax, label="loss" + (", grey: failed" if not np.isfinite(values).all() else ""))
    ax.set(xlabel=names[0], ylabel=names[1])
    return ax


def regional(values, strength, reference=None, name="", ax=None, hemispheres=None):
    """Fitted values of the regions against the strength of their connections.

    Parameters
    ----------
    values : array_like or Parameter, shape (n_node,)
    strength : tvb.datatypes.connectivity.Connectivity, or array_like
        Of shape (n_node,), or weights[target, source] of shape (n_node, n_node), whose rows are summed.
    reference : float, optional
        The one value of all regions, as a dashed line.
    name : str, optional
        Of the parameter.
    ax : matplotlib.axes.Axes, optional
    hemispheres : array_like of bool, shape (n_node,), optional
        True for right, as a connectivity has it: the regions of each have a marker of their own.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Where there is not one value, or not one hemisphere, for each region.

    Examples
    --------
    >>> import numpy as np
    >>> from tvb_jaxfit import plot
    >>> ax = plot.regional([0.2, 0.4], np.array([[0.0, 1.0], [0.5, 0.0]]), reference=0.3, name="w")
    >>> ax.collections[0].get_offsets().tolist()
    [[1.0, 0.2], [0.5, 0.4]]
    """
    values = _numbers(getattr(values, "value", values), "regional: values")
    hemispheres = getattr(strength, "hemispheres", None) if hemispheres is None else hemispheres
    strength = _numbers(getattr(strength, "weights", strength), "regional: strength")
    strength = strength.sum(axis=1) if strength.ndim == 2 else strength
    if values.shape != strength.shape:
        raise ValueError(f"regional: values of shape {values.shape} for {strength.size} regions; give one for each.")
    ax = _axes(ax, 1, (4.6, 3.6))[0]
    if reference is not None:
        ax.axhline(float(np.ravel(reference)[0]), color=_COLOURS["held out"], linestyle="--", label="one for all")
    right = _sides(hemispheres, len(values))
    sides = {"left": (~right, "o", "training"), "right": (right, "^", "agrees")}
    sides = sides if np.ptp(right.astype(int)) else {"regional": (..., "o", "training")}
    for label, (of, marker, colour) in sides.items():
        ax.scatter(strength[of], values[of], s=18, marker=marker, color=_COLOURS[colour], label=label)
    ax.set(xlabel="strength of incoming connections", ylabel=name)
    if np.ptp(values) > 0.0 and np.ptp(strength) > 0.0:
        ax.set_title(f"correlation with strength: {np.corrcoef(strength, values)[0, 1]:.2f}", fontsize="medium")
    ax.legend(fontsize="small")
    return ax


def history(fit, fresh=None, axes=None):
    """Loss over the steps of a fit, and r where it was recorded: in training, and on what the fit did not see.

    Parameters
    ----------
    fit : History
        With its validation; r is ``fit.aux["r"]``, and ``fit.validation.aux["r"]`` on what the fit did not see.
    fresh : (array_like, array_like), optional
        Steps, and r on fresh noise there, in place of the validation's.
    axes : sequence of matplotlib.axes.Axes, optional
        One for the loss and, where there is r, one for it.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Where there is not one of ``axes`` for each curve.

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
    label = "fresh noise"
    if fresh is None and "r" in fit.validation.aux:
        fresh, label = (fit.validation.steps, fit.validation.aux["r"]), "validation"
    has_r = "r" in fit.aux or fresh is not None
    axes = _axes(axes, 1 + has_r, (4.6, 3.2))
    _curve(axes[0], "loss", fit.loss, fit.validation, "validation", fit.best_step)
    if has_r:
        fresh = ((), ()) if fresh is None else fresh
        _curve(axes[1], "r (off-diagonal)", fit.aux.get("r", ()), fresh, label, fit.best_step)
    return axes


def certificate(of, ax=None):
    """How far a translation is from TVB: each monitor, and the controls that must be noticed.

    Parameters
    ----------
    of : Certificate
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    rows = [(f"{c.monitor}\nTVB, history in float64", c.relative, c.agrees(of.tolerance)) for c in of.float64_history]
    rows += [(f"{c.monitor}\nTVB as it is", c.relative, c.agrees(of.float32_tolerance)) for c in of.float32_history]
    controls = {name: d for name, d in of.negative_controls.items() if not isinstance(d, str)}
    rows += [(f"control: {name}", d, not d <= of.tolerance) for name, d in controls.items()]
    ax = _axes(ax, 1, (7.2, 1.2 + 0.45 * len(rows)))[0]
    # What is equal to the last bit has no logarithm.
    smallest = 1e-17
    for place, (_, difference, good) in enumerate(rows):
        colour = _COLOURS["agrees" if good else "differs"]
        drawn = np.clip(np.nan_to_num(difference, nan=np.inf), smallest, 10.0)
        ax.plot(drawn, place, "o", color=colour)
        told = "0" if difference == 0.0 else f"{difference:.0e}"
        ax.annotate(
            told + ("" if good else "  !"),
            (drawn, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize="small",
        )
    n_compared = len(rows) - len(controls)
    for tolerance, begin, end in (
        (of.tolerance, 0, len(of.float64_history)),
        (of.float32_tolerance, len(of.float64_history), n_compared),
        (of.tolerance, n_compared, len(rows)),
    ):
        ax.plot([tolerance] * 2, [begin - 0.5, end - 0.5], color="k", linestyle="--", linewidth=1.0)
    ax.axhspan(n_compared - 0.5, len(rows) - 0.5, color="0.93", zorder=0)
    ax.set(xscale="log", xlim=(smallest / 10.0, 1e2), ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(range(len(rows)), [label for label, *_ in rows], fontsize="small")
    ax.set(
        xlabel="largest relative difference (dashed: tolerance)",
        title=f"Certificate: {'PASSED' if of.passed else 'FAILED'}, {of.n_steps} steps",
    )
    return ax


def _titled(value):
    """Rule of matrices with titles."""
    return None if isinstance(value, dict) and value else 'a dict of titles and matrices, e.g. {"Empirical": fc}'


def _numbers(value, name):
    """Array to draw; what is masked is blank."""
    return np.asarray(real_array(value, name, masked=np.nan), float)


def _curve(ax, name, training, held_out, label, best_step):
    training, (steps, values) = np.asarray(training), held_out
    if training.size:
        ax.plot(np.arange(training.size), training, color=_COLOURS["training"], label="training")
    if len(steps):
        ax.plot(steps, values, "o-", markersize=4, color=_COLOURS["held out"], label=label)
    ax.axvline(best_step, color="0.6", linestyle=":", label=f"best (step {best_step})")
    ax.set(xlabel="step", ylabel=name)
    ax.legend(fontsize="small")


def _matrix(ax, matrix, scale, title, hemispheres=None):
    right = _sides(hemispheres, len(matrix))
    order = np.argsort(right != right[0], kind="stable")
    image = ax.imshow(matrix[np.ix_(order, order)], cmap=_MAP, norm=scale, interpolation="none")
    ax.set_title(title, fontsize="medium")
    ax.set(xticks=[], yticks=[])
    first = int(np.sum(right == right[0]))
    if first < len(matrix):
        names = ["right", "left"] if right[0] else ["left", "right"]
        middles = [(first - 1) / 2.0, (first + len(matrix) - 1) / 2.0]
        ax.set_xticks(middles, names, fontsize="small")
        ax.set_yticks(middles, names, fontsize="small", rotation="vertical", va="center")
        ax.tick_params(length=0)
        for line in (ax.axhline, ax.axvline):
            line(first - 0.5, color=_COLOURS["differs"], linewidth=1.0)
    return image


def _sides(hemispheres, n_node):
    """Hemisphere of each region, True for right; the same for all where it is not known."""
    is_known = hemispheres is not None and np.size(hemispheres) > 0
    right = np.asarray(hemispheres if is_known else np.zeros(n_node), dtype=bool)
    if right.shape != (n_node,):
        raise ValueError(f"hemispheres: shape {right.shape} for {n_node} regions; give one for each, True for right.")
    return right


def _axes(axes, n, size):
    """Axes as they are given, or new ones side by side, each of a size [inch]."""
    if axes is None:
        import matplotlib.pyplot as plt

        return plt.subplots(1, n, figsize=(n * size[0], size[1]), layout="constrained", squeeze=False)[1][0]
    axes = np.atleast_1d(np.asarray(axes, dtype=object)).ravel()
    if len(axes) != n:
        raise ValueError(f"axes: {len(axes)}, where {n} are needed. Give as many, or none.")
    return axes
