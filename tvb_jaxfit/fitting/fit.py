"""fit: a simulator, a target and the parameters to fit, in one call.

A call is checked (`FitRequest`), translated (`FitProblem`), fitted in the way of its method (`fit_problem`), and
becomes a `FitResult`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optax

from ..parameters import Parameter
from ..persistence import serialisable
from ..runtime.processes import refuse_forked
from ..targets.read import split_targets
from .options import FCOptions, NoiseOptions, RunOptions, SearchOptions, with_single_options
from .problem import FitRequest, prepare_problem
from .result import FitResult
from .ways import fit_problem

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator


def fit(
    sim: "Simulator",
    target: Any,
    free: dict[str, Parameter],
    *,
    method: str = "auto",
    loss: Callable | str | None = None,
    penalty: Callable | None = None,
    optimizer: optax.GradientTransformation | None = None,
    max_steps: int | None = None,
    fc: FCOptions = FCOptions(),  # noqa: B008
    noise: NoiseOptions = NoiseOptions(),  # noqa: B008
    search: SearchOptions = SearchOptions(),  # noqa: B008
    run: RunOptions = RunOptions(),  # noqa: B008
    **single_options,
) -> FitResult:
    """Fit parameters of a TVB simulator to an empirical FC, by gradients.

    Parameters
    ----------
    sim : tvb.simulator.simulator.Simulator
        Not modified; `FitResult.write_back` writes fitted values into a simulator.
    target : array_like, pandas.DataFrame, path-like or dict
        Empirical FC, of shape (n_node, n_node). A labelled one is matched to ``connectivity.region_labels``; of a path,
        the FC in that file is used (see `load_fc`).

        Or a dict of several observables by name: ``{"fc": fc, "fcd": FCDTarget(...)}``. FC is one of them; the others
        are `FCDTarget`, `PowerTarget`, `LaggedCovarianceTarget`, `VarianceTarget`, `MeanRateTarget` and `SignalTarget`,
        each with a weight and a distance, or plain values under the names ``"power"`` (a `Spectrum`),
        ``"lagged_covariance"``, ``"variance"`` and ``"mean_rate"``.
    free : dict of str to Parameter
        Parameters to fit, by attribute path: ``{"coupling.a": Parameter(), "model.w": BoundedParameter(lower_bound=0,
        upper_bound=1, regional=True)}``. Without a value (None), a parameter starts from the simulator's value.
    method : {"auto", "simulate", "linear", "linear+simulate"}, optional
        "auto": the linear response where it applies, confirmed by simulations, and refined by the simulation where that
        is better on noise that neither has used; else the simulation, from several starts. "simulate": gradients
        through the simulation. "linear": gradients through the linear response, without noise and about a hundred times
        faster; simulations confirm the result (see `prepare_linear`). "linear+simulate": the linear response first,
        then the simulation from its result. ``FitResult.way`` and ``why`` say which way was taken, and why.
    loss : callable or "pfic", optional
        (fc, target) to a scalar: the loss of FC, to which the weighted distances of other observables are added.
        Default: `rmse_corr`; of "simulate" `rmse`; of a simulation that continues from the linear response
        1 - `fc_corr`. "pfic": the cost `pfic_cost` of FC and FCD.
    penalty : callable, optional
        State (plain arrays) to a scalar that is added to the loss.
    optimizer : optax.GradientTransformation, optional
        Optimizer of the fit through the simulation. Default of "simulate": Adam with a learning rate of 0.01; else Adam
        in steps of up to 0.02 of each parameter's range (0.005 after a linear fit), which decrease to a tenth of that.
    max_steps : int, optional
        Number of optimizer steps of a fit through the simulation, from each start. Default: 100.
    fc : FCOptions, optional
        Computation of FC: monitor, samples left out, length, missing data.
    noise : NoiseOptions, optional
        Source of the noise; resampling, realisations per step, validation.
    search : SearchOptions, optional
        Seed, number of starts, evaluations of the linear response.
    run : RunOptions, optional
        Callback, progress bar, checkpoint.
    **single_options
        Options of these four groups by their own names: ``progress=False`` stands for
        ``run=RunOptions(progress=False)``.

    Returns
    -------
    FitResult

    Raises
    ------
    ValueError
        An unknown method; options that exclude each other, all in one message; a target that does not match the
        regions; a path that the simulator does not have; bounds that exclude the start; a dispersion or correlation
        time that is not positive; a first step of many times a parameter's size; a monitor whose samples have no FC.
    NoStableFixedPoint, NoEffect
        Of "linear" and "linear+simulate": no stable fixed point, or an FC that depends on no free parameter.
    FitFailed
        Loss or gradient are not finite at the start: the message names the sample, state variable, region and time. Its
        attribute ``linear_stage`` holds the linear fit that the simulation continued from, if any.
    UnsupportedComponent
        As of `prepare`.
    TypeError
        Unknown keyword arguments.

    Notes
    -----
    "auto" takes the simulation if an option is given that only the simulation has: ``optimizer``, ``source``,
    ``resample``, ``n_realisations``, ``patience``, ``checkpoint``, ``resume``. The linear response does not apply to a
    simulator without noise, with a stimulus, or without a stable fixed point at any point of the sweep.

    The best state is simulated on noise that the fit never saw (``FitResult.fresh``); its r is the one to report. All
    that is drawn is decided by ``seed``.

    Of several observables, the linear response has the stationary ones exactly (FC, power, variance, lagged covariance;
    mean rates to second order), and yields the others, such as FCD, by samples that are drawn from it, always on the
    same normal draws (`LinearResponse.sample`). "auto" refines its result through the simulation if simulations do not
    reach its terms. Each term is in ``history.aux``, ``FitResult.fresh.terms``, and the report.

    The linear response yields the loss that is expected of a simulation of the given length (at least 100 samples),
    without running it. A short recording determines slow fluctuations badly, so that the fit relies on them less. For
    "auto" and "linear+simulate", the expected loss is that of the simulator's own length, so that
    ``FCOptions(simulation_length=...)`` may be longer: ten minutes have half the sampling error of two and a half.

    Connectome weights are fitted near their measured values by ``{"connectivity.weights": MaskedParameter(
    lower_bound=0.0)}`` and ``penalty=lambda state: jnp.mean((state.connectivity.weights - measured) ** 2)``.
    """
    refuse_forked("fit")
    groups = with_single_options({"fc": fc, "noise": noise, "search": search, "run": run}, single_options)
    return fit_request(FitRequest(sim, target, free, method, loss, penalty, optimizer, max_steps, **groups))


@serialisable
def fit_request(request: FitRequest) -> FitResult:
    """Fit what a request asks for.

    Parameters
    ----------
    request : FitRequest

    Returns
    -------
    FitResult
        It holds the request, so that the fit can be repeated.
    """
    problem = prepare_problem(request, fit.__kwdefaults__)
    result = fit_problem(problem)
    # The simulator as it was, and the target as it was read: both may change after the fit.
    target = {"fc": problem.target, **split_targets(request.target)[1]}
    result.request = replace(request, sim=None, target=target if len(target) > 1 else problem.target)
    result.refit = fit_request
    return result
