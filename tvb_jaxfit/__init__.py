"""Fit TVB simulators by gradients: the same numbers as TVB, differentiable, and back in your own TVB objects.

TVB Simulator ──prepare──▶ (simulate, state) ──simulate──▶ monitor samples ──compute_fc──▶ FC
FC ──loss──▶ fit ──write_back──▶ TVB Simulator
"""

import importlib

_HOMES = {
    "prepare": "translate.prepare",
    "prepare_linear": "translate.prepare_linear",
    "LinearResponse": "linear_response.response",
    "certify": "certificate.certify",
    "Certificate": "certificate.result",
    "compute_fc": "observation",
    "balloon_windkessel": "dynamics.hemodynamics",
    "balloon_parameters": "dynamics.balloon_parameters",
    "BalloonBold": "translate.balloon_bold",
    "compute_fcd": "observation.fcd",
    "compute_phase_fcd": "observation.fcd",
    "FCD": "observation.fcd",
    "global_brain_connectivity": "observation.moments",
    "signal_mean": "observation.moments",
    "signal_variance": "observation.moments",
    "lagged_covariance": "observation.moments",
    "power_spectrum": "observation.spectra",
    "cross_spectrum": "observation.spectra",
    "Spectrum": "observation.spectra",
    "band_pass": "observation.filters",
    "ks_distance": "observation.distances",
    "soft_ks_distance": "observation.distances",
    "wasserstein_distance": "observation.distances",
    "fc_corr": "loss",
    "rmse": "loss",
    "rmse_corr": "loss",
    "mean_fc_difference": "loss",
    "pfic_cost": "targets.composite",
    "FCDTarget": "targets.fcd",
    "PowerTarget": "targets.of_signals",
    "LaggedCovarianceTarget": "targets.of_signals",
    "VarianceTarget": "targets.of_signals",
    "SignalTarget": "targets.of_signals",
    "MeanRateTarget": "targets.mean_rate",
    "Parameter": "parameters",
    "BoundedParameter": "parameters",
    "PositiveParameter": "constraints",
    "ScaledParameter": "constraints",
    "MaskedParameter": "constraints",
    "MapParameter": "maps",
    "Balanced": "balance.balanced",
    "balance_by_iteration": "balance.iteration",
    "mean_rates": "balance.rates",
    "show_parameters": "reporting.parameter_table",
    "State": "state",
    "OptaxOptimizer": "fitting.optimizer",
    "History": "fitting.history",
    "MultiCallback": "fitting.callbacks",
    "DefaultPrintCallback": "fitting.callbacks",
    "SavingCallback": "fitting.callbacks",
    "StopOnLoss": "fitting.callbacks",
    "StopOnPlateau": "fitting.callbacks",
    "fit": "fitting.fit",
    "FitResult": "fitting.result",
    "Identifiability": "uncertainty.identifiability",
    "StandardErrors": "uncertainty.standard_errors",
    "Posterior": "posterior.result",
    "Recordings": "posterior.recordings",
    "compare_models": "posterior.comparison",
    "ModelComparison": "posterior.comparison",
    "PredictiveCheck": "fitting.predictive",
    "fit_cohort": "cohort.run",
    "Cohort": "cohort.result",
    "FCOptions": "evaluation.options",
    "NoiseOptions": "fitting.options",
    "SearchOptions": "fitting.options",
    "RunOptions": "fitting.options",
    "effective_connectivity": "effective.estimate",
    "EffectiveConnectivity": "effective.result",
    "evaluate": "evaluation.evaluate",
    "Evaluation": "evaluation.scores",
    "resample": "dynamics.noise",
    "cache": "persistence.cache",
    "set_cache_path": "persistence.cache",
    "GridAxis": "exploration.axes",
    "UniformAxis": "exploration.axes",
    "LatinHypercubeAxis": "exploration.axes",
    "DataAxis": "exploration.axes",
    "Space": "exploration.space",
    "ParallelExecution": "exploration.execution",
    "SequentialExecution": "exploration.execution",
    "Exploration": "exploration.results",
    "ProcessWorkers": "runtime.workers",
    "write_back": "writeback",
    "JaxBackend": "backend",
    "load_connectivity": "data",
    "load_fc": "data",
    "load_functional_connectivity": "data",
    "load_structural_connectivity": "data",
    "UnsupportedComponent": "errors",
    "FitFailed": "errors",
    "NoStableFixedPoint": "errors",
    "NoEffect": "errors",
    "WorkerDied": "errors",
    "PeriodWarning": "errors",
    "DomainWarning": "errors",
    "BalanceWarning": "errors",
    "HistoryWarning": "errors",
    "FrozenWarning": "errors",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name):
    # Names are imported when they are first used: importing JAX and TVB takes seconds.
    if name == "plot":
        return importlib.import_module(f"{__name__}.plot")
    if name not in _HOMES:
        hint = ""
        if not name.startswith("_"):
            from .checks.suggestions import did_you_mean

            hint = did_you_mean(name, __all__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}.{hint}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__, "plot"])
