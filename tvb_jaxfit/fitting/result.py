"""Result of a fit."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np

from ..certificate.result import Certificate
from ..checks import options as allowed
from ..checks.options import check
from ..dynamics.noise import resample
from ..dynamics.simulate import Simulate
from ..evaluation.diagnosis import fc_or_explanation
from ..evaluation.evaluate import evaluate
from ..evaluation.scores import Evaluation
from ..loss import fc_corr
from ..parameters import parameters_of, strip_parameters
from ..reporting.notebook import fit_html
from ..reporting.parameter_table import coefficients_of
from ..reporting.report import refuse_existing, refuse_unusable_path, write_report
from ..reporting.summary import certify_fit, summarise
from ..runtime.processes import PicklableMixin
from ..state import State
from ..translate.clone import PackedSimulator, clone
from ..uncertainty.standard_errors import StandardErrors
from ..writeback import WriteBackReport, write_back
from .costs import format_costs
from .fresh import FreshNoise
from .history import History
from .method import Method
from .options import FitSettings
from .problem import FitRequest
from .saved import SavableMixin, StoredSimulator
from .spread import Spread, spread
from .uncertainty import UncertaintyMixin

if TYPE_CHECKING:
    from tvb.simulator.simulator import Simulator


@dataclass
class FitResult(UncertaintyMixin, SavableMixin, PicklableMixin):
    """Result of a fit, with all that is needed to evaluate, repeat and report it.

    Attributes
    ----------
    fitted, best : State
        State after the last finite step, and state of the smallest loss (see `History.best`); the fitted values are
        `Parameter` objects in them.
    initial : State
        Start of the fit; of several starts, that of the best end.
    history : History
        Loss and, as ``history.aux["r"]``, correlation with the target after each step; of a loss of more than FC also
        each term without its weight, by its name; stop reason; wall time.
    target : ndarray, shape (n_node, n_node)
        Target in the order of the regions, with a zero diagonal; NaN for pairs without data.
    simulate : Simulate or StoredSimulator
        Translated simulation; the latter for a result that was loaded without its simulator.
    skip_t : int
        Number of samples left out before FC is computed.
    monitor : int
        Index of the monitor that FC is computed from.
    simulator : Simulator or None
        Copy of the TVB simulator, as it was before the fit; None for a result that was loaded without it.
    evaluation : Evaluation or None
        Result of the last `evaluate` of the best state.
    linear_stage : FitResult or None
        Fit by the linear response from which the simulation continued.
    settings : FitSettings
        Options of `fit`.
    data : dict of str to str
        Sources of empirical FC and connectome: files, shapes and SHA-256 hashes.
    way : Method or None
        Way that the fit has taken; for ``method="auto"``, the one that was chosen.
    why : str
        Reason for that way.
    costs : dict of str to float
        Seconds of each stage.
    fresh : FreshNoise or None
        r of the best state on noise that the fit never saw. None for a simulator without noise, and after an interrupt.
    mean_rates : dict of str to MeanRates
        Of the best state under noise, by the path of each `Balanced` parameter: its text names the regions that leave a
        tenth around the target.
    candidates : list of Candidate
        Ends of the fits from each start; the best one is the result.
    request : FitRequest or None
        Arguments of the fit, without the simulator; see `spread`.
    refit : callable or None
        `FitRequest` to `FitResult`.
    standard_errors : StandardErrors or None
        Standard errors of the last `identifiability`.
    """

    fitted: State
    best: State
    initial: State
    history: History
    target: np.ndarray
    simulate: Simulate
    skip_t: int
    monitor: int = field(default=0)
    simulator: "Simulator | None" = field(default=None, repr=False)
    evaluation: Evaluation | None = field(default=None, repr=False)
    linear_stage: "FitResult | None" = field(default=None, repr=False)
    settings: FitSettings | None = field(default=None, repr=False)
    data: dict = field(default_factory=dict, repr=False)
    way: Method | None = None
    why: str = ""
    costs: dict = field(default_factory=dict, repr=False)
    fresh: FreshNoise | None = None
    mean_rates: dict = field(default_factory=dict, repr=False)
    candidates: list = field(default_factory=list, repr=False)
    request: FitRequest | None = field(default=None, repr=False)
    refit: Callable | None = field(default=None, repr=False)
    standard_errors: StandardErrors | None = field(default=None, repr=False)

    @property
    def diverged(self) -> str:
        """Explanation of values that were not finite, if they ended the fit or leave no result; empty otherwise."""
        return self.history.diverged

    @property
    def coefficients(self) -> dict[str, dict[str, float]]:
        """Fitted coefficients of each `MapParameter`: by path, and by name ("intercept", and the maps')."""
        return {path: found for path, each in parameters_of(self.best).items() if (found := coefficients_of(each))}

    @property
    def targets(self) -> dict:
        """Targets besides FC, by name, as they were given to `fit`."""
        given = self.request.target if self.request is not None else None
        return {name: each for name, each in given.items() if name != "fc"} if isinstance(given, dict) else {}

    @property
    def is_linear(self) -> bool:
        """True if the fit was made by the linear response."""
        return self.history.is_linear

    @property
    def loss(self) -> np.ndarray:
        """Loss after each step."""
        return self.history.loss

    @property
    def r(self) -> np.ndarray:
        """Correlation (off-diagonal) with the target after each step."""
        return self.history.aux.get("r", np.array([]))

    def __getstate__(self):
        packed = None if self.simulator is None else PackedSimulator(self.simulator)
        return super().__getstate__() | {"simulator": packed, "request": self.request and self.request.picklable()}

    def __setstate__(self, state):
        super().__setstate__(state | {"simulator": state["simulator"] and state["simulator"].unpack()})

    def __deepcopy__(self, memo):
        # TVB's own deepcopy loses what configure() has computed.
        memo.setdefault(id(self.simulator), clone(self.simulator))
        new = copy.copy(self)
        vars(new).update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return new

    def fc(self, state: State | None = None, key: jax.Array | None = None) -> jax.Array:
        """FC of a simulation of a state.

        Parameters
        ----------
        state : State, optional
            Default: the best state.
        key : jax.Array, optional
            JAX key of new noise. Default: the noise of the state.

        Returns
        -------
        Array, shape (n_node, n_node)
        """
        state = strip_parameters(self.best if state is None else state)
        state = state if key is None else resample(state, key)
        return fc_or_explanation(self.simulator, self.simulate, state, self.monitor, self.skip_t)

    def score(self, state: State | None = None, key: jax.Array | None = None) -> float:
        """Correlation (off-diagonal) of a state's FC with the target; parameters as for `fc`."""
        return float(fc_corr(self.fc(state, key), self.target, missing="ignore"))

    def evaluate(self, target=None, **options) -> Evaluation:
        """Evaluate the fit on noise that it has not used; see `tvb_jaxfit.evaluate`.

        Parameters
        ----------
        target : array_like, optional
            Default: the target of the fit.
        **options
            Options of `tvb_jaxfit.evaluate`.

        Returns
        -------
        Evaluation
            That of the best state is kept as attribute ``evaluation``, too.
        """
        evaluation = evaluate(self, target, **options)
        if options.get("state") is None and (target is None or evaluation.targets.sessions):
            self.evaluation = evaluation
        return evaluation

    def spread(self, n_seeds: int = 3, progress: bool = True, **options) -> Spread:
        """Spread of the fitted values over seeds and starts: what the data determine, and what the start does.

        Parameters
        ----------
        n_seeds : int, optional
            Number of fits, with consecutive seeds; this one is the first, and the others are made now.
        progress : bool, optional
            Show progress bars.
        **options
            Functions of the fit that were lost when the result was saved, or that cloudpickle did not pickle: ``loss``,
            ``penalty``, ``optimizer``, ``callback``; and targets by their names.

        Returns
        -------
        Spread
            Printable. After an interrupt (Ctrl-C) it has the fits that were completed.

        Raises
        ------
        ValueError
            An option of another kind; a result of `OptaxOptimizer`, or one whose functions were lost.
        """
        check("spread", n_seeds=(n_seeds, allowed.integer(1)), progress=(progress, allowed.boolean))
        self._refuse_missing("spread")
        request = replace(self.request.with_functions(options), sim=self.simulator)
        return spread(self, self.refit, request, int(n_seeds), bool(progress))

    def _refuse_missing(self, what):
        """Raise ValueError if the result does not hold what a repetition of its fit needs."""
        missing = "arguments" if self.request is None else "simulator" if self.simulator is None else ""
        if missing:
            raise ValueError(
                f"{what}: this FitResult does not hold the {missing} of its fit. Use the result of tj.fit(), or load a "
                "saved one with its simulator, FitResult.load(path, sim)."
            )

    def write_back(self, sim: "Simulator", state: State | None = None) -> WriteBackReport:
        """Write the values of the best state, or of another one, into a simulator; see `tvb_jaxfit.write_back`."""
        return write_back(self.best if state is None else state, sim)

    def report(self, path, certificate: Certificate | bool | None = None, force: bool = False) -> Path:
        """Write a report of the fit: one page with figures, values, and how the fit was made.

        Parameters
        ----------
        path : path-like
            HTML file, which refers to no other file. A missing folder is created. For a PDF, print the page from a
            browser. Call `evaluate` first to have r on new noise as headline.
        certificate : Certificate or bool, optional
            Result of `certify` to include; True: certify the fitted simulator, over 10 s or a few samples.
        force : bool, optional
            Replace an existing file.

        Returns
        -------
        Path

        Raises
        ------
        FileExistsError
            The file exists, and ``force`` is not set.
        ValueError
            A path that is no HTML file; a result without a simulator.
        RuntimeError
            As of `certify`, if a certificate is to be made.
        OSError
            The file cannot be written; an existing file is left as it was.
        """
        check(
            "report",
            path=(path, allowed.path),
            certificate=(
                certificate,
                allowed.optional(allowed.either(allowed.boolean, allowed.instance(Certificate))),
            ),
            force=(force, allowed.boolean),
        )
        refuse_unusable_path(path)
        refuse_existing("report", path, force)
        # A certificate that failed is false, and is shown.
        if isinstance(certificate, bool) or certificate is None:
            certificate = certify_fit(self) if certificate else None
        if isinstance(self.simulate, StoredSimulator):
            return write_report(path, replace(self.simulate.summary, certificate=certificate), force)
        return write_report(path, summarise(self, certificate), force)

    def __repr__(self):
        h = self.history
        lines = [f"FitResult: {self.simulate.description}"]
        if h.loss.size:
            lines.append(
                f"  loss {h.loss[0]:.5f} -> {h.loss[h.best_step]:.5f}, r {self.r[0]:.4f} -> {self.r[h.best_step]:.4f}"
            )
        for name, each in self.targets.items():
            course = h.aux[name]
            lines.append(f"  {name}: {course[0]:.5f} -> {course[h.best_step]:.5f} ({each})")
        if self.diverged:
            lines.append(f"  DIVERGED: {self.diverged}")
        if self.fresh is not None:
            training = f"r {self.r[h.best_step]:.4f} in training, " if self.r.size else ""
            lines.append(f"  {training}{str(self.fresh).removeprefix('r ')}")
        lines += [f"  {path}: {rates}" for path, rates in self.mean_rates.items()]
        if self.evaluation is not None:
            lines.append(f"  {self.evaluation.summary()}")
        if self.standard_errors is not None:
            lines.append(f"  identifiability: {self.standard_errors.summary()}")
        lines.append(f"  {max(0, h.loss.size - 1)} steps, best at {h.best_step}, {h.wall_time:.1f} s; {h.stop_reason}")
        if self.way is not None:
            lines.append(f"  way: {self.way}; {self.why}")
            lines.append(f"  cost: {format_costs(self.costs)}")
        initial = parameters_of(self.initial)
        for path, parameter in parameters_of(self.best).items():
            lines.append(f"  {path}: {initial[path]} -> {parameter}")
        return "\n".join(lines)

    def _repr_html_(self):
        return fit_html(self)
