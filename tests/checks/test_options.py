"""Every public function refuses an argument of a wrong kind, with its name, what was found and what to give."""

import copy
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator.lab import monitors

import tvb_jaxfit as tj
from tvb_jaxfit.checks import options
from tvb_jaxfit.command.outcome import is_refusal
from tvb_jaxfit.evaluation import baselines
from tvb_jaxfit.fitting.options import GROUPS, with_single_options


class Odd:
    """Object of no kind that any option accepts."""

    def __repr__(self):
        return "Odd()"


WRONG = {
    "text": "x",
    "whole": 7,
    "negative": -1,
    "zero": 0,
    "half": 1.5,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "None": None,
    "list": [1, 2],
    "empty": [],
    "dict": {},
    "object": Odd(),
    "class": Odd,
    "complex": 1j,
    "true": True,
    "masked": np.ma.masked_array([1.0, 2.0], mask=[0, 1]),
    "array": np.ones((2, 3)),
}
FC = np.array([[0.0, 0.4, 0.5], [0.4, 0.0, 0.6], [0.5, 0.6, 0.0]])
WEIGHTS = np.array([[0.0, 1.0], [0.5, 0.0]])
BOLD = np.random.default_rng(0).normal(size=(40, 3))
X, Y = BOLD[:, 0], BOLD[:, 1]


def _loss(state):
    return jnp.mean(state.x**2)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in a temporary folder: any text is a path, and files may be written there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def shared():
    return {}


@pytest.fixture
def made(build_small, shared):
    """Simulator, its state, a space and others, by their names in the table."""
    if not shared:
        sim = build_small(steps=20, monitors=[monitors.TemporalAverage(period=8.0)])
        _, state = tj.prepare(sim)
        swept = copy.deepcopy(state)
        swept.model.w = tj.GridAxis(0.0, 1.0, 2)
        free = {"coupling.a": tj.Parameter()}
        small = tj.State(x=tj.Parameter(1.0))
        shared.update(sim=sim, state=state, swept=swept, space=tj.Space(swept), free=free, small=small)
    return shared


def _mean_signal(signals, period):
    return jnp.mean(signals)


def _run(state, max_steps=1, resume=False):
    return tj.OptaxOptimizer(_loss, optax.sgd(0.1), progress=False).run(state, max_steps, resume)


NUMBERS, WHOLE, FLAG = {"whole", "zero", "half", "negative"}, {"whole", "zero"}, {"true"}
BOUND = {"whole", "zero", "half", "negative", "infinite", "true"}
SHAPED = NUMBERS | FLAG | {"list", "array"}
# Options that all targets share, and the kinds that they accept.
TARGET, OF_TARGET = dict(weight=1.0, distance=None), dict(weight=NUMBERS - {"negative"}, distance={"None"})
# By function: valid arguments, and the kinds of `WRONG` that an argument accepts. A string that begins with @ is a name
# of `made`.
TABLE = {
    "prepare": (dict(sim="@sim", simulation_length=None, noise="tvb"), dict(simulation_length=NUMBERS | {"None"})),
    "prepare_linear": (dict(sim="@sim"), {}),
    "certify": (
        dict(sim="@sim", simulation_length=None, tolerance=1e-9, float32_tolerance=1e-6),
        dict(simulation_length=NUMBERS | {"None"}, tolerance=NUMBERS, float32_tolerance=NUMBERS),
    ),
    "compute_fc": (dict(bold=np.random.default_rng(0).normal(size=(20, 3)), skip_t=0), dict(skip_t=WHOLE | FLAG)),
    "compute_fcd": (
        dict(bold=BOLD, window=10, step=5, definition=None, period=None, overlapping=True, skip_t=0),
        dict(window={"whole"}, step={"whole"}, definition={"None"}, period={"whole", "half", "None"}, overlapping=FLAG)
        | dict(skip_t=WHOLE | FLAG),
    ),
    "compute_phase_fcd": (
        dict(bold=BOLD, edge=2, n_average=2, overlapping=True, skip_t=0),
        dict(edge=WHOLE, n_average={"whole"}, overlapping=FLAG, skip_t=WHOLE | FLAG),
    ),
    "global_brain_connectivity": (dict(fc=FC), {}),
    "signal_mean": (dict(bold=BOLD, skip_t=0), dict(bold={"array"}, skip_t=WHOLE | FLAG)),
    "signal_variance": (dict(bold=BOLD, skip_t=0), dict(bold={"array"}, skip_t=WHOLE | FLAG)),
    "lagged_covariance": (dict(bold=BOLD, lag=1, skip_t=0), dict(lag=WHOLE, skip_t=WHOLE | FLAG)),
    "power_spectrum": (
        dict(bold=BOLD, period=720.0, segment=16, skip_t=0),
        dict(period={"whole", "half"}, segment={"whole", "None"}, skip_t=WHOLE | FLAG),
    ),
    "cross_spectrum": (
        dict(bold=BOLD, period=720.0, segment=16, skip_t=0),
        dict(period={"whole", "half"}, segment={"whole", "None"}, skip_t=WHOLE | FLAG),
    ),
    "band_pass": (
        dict(bold=BOLD, low=0.05, high=0.3, period=720.0, clip=None, skip_t=0),
        dict(period={"whole", "half"}, clip={"whole", "half", "None"}, skip_t=WHOLE | FLAG),
    ),
    "ks_distance": (dict(x=X, y=Y, definition=None), dict(definition={"None"})),
    "soft_ks_distance": (dict(x=X, y=Y, width=0.1), dict(width={"whole", "half"})),
    "wasserstein_distance": (dict(x=X, y=Y, order=1), {}),
    "fc_corr": (dict(fc=FC, target=FC, include_diagonal=False, missing="refuse"), dict(include_diagonal=FLAG)),
    "rmse": (dict(fc=FC, target=FC, missing="refuse"), {}),
    "rmse_corr": (dict(fc=FC, target=FC, missing="refuse"), {}),
    "mean_fc_difference": (dict(fc=FC, target=FC, missing="refuse"), {}),
    "pfic_cost": (dict(fc=FC, target=FC, fcd=X, fcd_target=Y), dict(fcd={"list"}, fcd_target={"list"})),
    "FCDTarget": (
        dict(value=[0.1, 0.2], window=10, step=5, definition=None, overlapping=True, n_samples_of_recording=None)
        | TARGET,
        dict(window={"whole"}, step={"whole"}, definition={"None"})
        | dict(overlapping=FLAG, n_samples_of_recording={"whole", "None"})
        | OF_TARGET,
    ),
    "PowerTarget": (
        dict(value=[2.0, 1.0], frequencies=[0.1, 0.2], normalised=True) | TARGET,
        dict(value={"list", "array"}, frequencies={"list"}, normalised=FLAG) | OF_TARGET,
    ),
    "LaggedCovarianceTarget": (
        dict(value=FC, lag=1, normalised=False) | TARGET,
        dict(lag=WHOLE, normalised=FLAG) | OF_TARGET,
    ),
    "VarianceTarget": (
        dict(value=[1.0, 2.0], normalised=True) | TARGET,
        dict(value={"list"}, normalised=FLAG) | OF_TARGET,
    ),
    "MeanRateTarget": (
        dict(value=3.0, rate="H_e", skip=1000.0) | TARGET,
        dict(value={"whole", "half", "true", "list"}, rate={"text"}, skip=NUMBERS - {"negative"}) | OF_TARGET,
    ),
    "SignalTarget": (dict(value=1.0, observable=_mean_signal) | TARGET, dict(value=SHAPED) | OF_TARGET),
    "Parameter": (
        dict(value=0.5, regional=False),
        dict(value=NUMBERS | FLAG | {"None", "list", "array"}, regional=FLAG),
    ),
    "BoundedParameter": (
        dict(value=0.5, lower_bound=0.0, upper_bound=1.0, regional=False),
        dict(value={"zero", "None", "true", "array"}, regional=FLAG, lower_bound=BOUND, upper_bound=BOUND),
    ),
    "PositiveParameter": (
        dict(value=0.5, regional=False),
        dict(value={"whole", "half", "None", "list", "true", "array"}, regional=FLAG),
    ),
    "ScaledParameter": (
        dict(value=0.5, regional=False, scale=1.0),
        dict(value=NUMBERS | FLAG | {"None", "list", "array"}, regional=FLAG, scale={"whole", "half", "None", "true"}),
    ),
    "MaskedParameter": (
        dict(value=WEIGHTS, mask=WEIGHTS > 0.0, lower_bound=0.0, upper_bound=2.0),
        dict(value={"None"}, mask={"None"}, lower_bound=BOUND, upper_bound=BOUND),
    ),
    "MapParameter": (
        dict(maps=BOLD[:3, :2], transform="exp", coefficients=[0.0, 0.0, 0.0], lower_bound=None, upper_bound=None)
        | dict(region_labels=None),
        dict(maps={"list", "array"}, coefficients={"None"}, lower_bound={"None"}, upper_bound={"None"})
        | dict(region_labels={"None"}),
    ),
    "Balanced": (
        dict(target=3.0, rate="H_e", simulate=None),
        dict(target=(NUMBERS | FLAG | {"list"}) - {"zero"}, rate={"text"}, simulate={"None"}),
    ),
    "balance_by_iteration": (
        dict(
            sim="@sim", parameter="model.w", quantity="S", target=0.1, tolerance=10.0, start=1.0, length=20.0, skip=0.0
        )
        | dict(max_trials=1, key=None, progress=False),
        dict(
            parameter={"text"},
            quantity={"text"},
            target=NUMBERS,
            tolerance={"whole", "half"},
            start=NUMBERS,
            length={"whole", "half"},
            skip=NUMBERS,
        )
        | dict(max_trials={"whole"}, key={"None"}, progress=FLAG),
    ),
    "mean_rates": (
        dict(sim="@sim", state=None, rate="S", length=20.0, skip=0.0, key=None, accepted=(0.0, 1.0)),
        dict(state={"None"}, rate={"text"}, length={"whole", "half"}, skip=NUMBERS, key={"None"})
        | dict(accepted={"list"}),
    ),
    "balloon_windkessel": (
        dict(neural=BOLD, dt=4.0, parameters="tvb", nonlinear=True, scheme="heun"),
        dict(neural={"array"}, dt={"whole", "half"}, nonlinear=FLAG),
    ),
    "balloon_parameters": (dict(parameter_set="tvb"), {}),
    "show_parameters": (
        dict(state="@small", sim=None, standard_errors=None),
        dict(sim={"None"}, standard_errors={"None"}),
    ),
    "OptaxOptimizer": (
        dict(loss=_loss, optimizer=optax.sgd(0.1), callback=None, has_aux=False, progress=False, refresh=None)
        | dict(validate=_loss, validate_every=1, patience=None, checkpoint=None, checkpoint_every=1),
        dict(callback={"None"}, has_aux=FLAG, progress=FLAG, refresh={"None"}, validate={"None"})
        | dict(validate_every={"whole"}, patience={"whole", "None"}, checkpoint={"text", "None"})
        | dict(checkpoint_every={"whole"}),
    ),
    "MultiCallback": (dict(callbacks=[]), dict(callbacks={"empty"})),
    "DefaultPrintCallback": (dict(every=1), dict(every={"whole"})),
    "SavingCallback": (dict(key="k", save_fun=lambda *_: 1, every=1), dict(key={"text"}, every={"whole"})),
    "StopOnLoss": (dict(threshold=1.0), dict(threshold=NUMBERS)),
    "StopOnPlateau": (
        dict(patience=1, min_change=0.0),
        dict(patience={"whole"}, min_change={"whole", "zero", "half"}),
    ),
    "resample": (dict(state="@state", key=jax.random.key(0)), {}),
    "cache": (dict(name="x", redo=False), dict(name={"text"}, redo=FLAG)),
    "set_cache_path": (dict(path="there"), dict(path={"text"})),
    "GridAxis": (
        dict(low=0.0, high=1.0, n=2),
        dict(low=NUMBERS | FLAG, high=NUMBERS | FLAG, n={"whole"}),
    ),
    "UniformAxis": (
        dict(low=0.0, high=1.0, n=2, seed=0),
        dict(low=NUMBERS | FLAG, high=NUMBERS | FLAG, n={"whole"}, seed=WHOLE),
    ),
    "LatinHypercubeAxis": (
        dict(low=0.0, high=1.0, n=2, seed=0),
        dict(low=NUMBERS | FLAG, high=NUMBERS | FLAG, n={"whole"}, seed=WHOLE),
    ),
    "DataAxis": (dict(values=[1.0, 2.0]), dict(values={"list", "array"})),
    "Space": (dict(state="@swept", mode="product"), {}),
    "ParallelExecution": (
        dict(loss=_loss, space="@space", n_pmap=1, batch_size=1, progress=False, executor=None, folder=None),
        dict(n_pmap={"whole", "None"}, batch_size={"whole", "None"}, progress=FLAG, executor={"None"})
        | dict(folder={"text", "None"}),
    ),
    "ProcessWorkers": (dict(n_workers=1), dict(n_workers={"whole", "None"})),
    "SequentialExecution": (dict(loss=_loss, space="@space", progress=False), dict(progress=FLAG)),
    "load_connectivity": (dict(name="76"), {}),
    "load_fc": (dict(file="dk_average"), {}),
    "load_functional_connectivity": (dict(name="dk_average"), {}),
    "load_structural_connectivity": (dict(name="dk_average"), {}),
    "effective_connectivity": (
        dict(sim="@sim", recordings=[np.tile(BOLD, 2), np.hstack([BOLD, BOLD**2])], lag=1, free=None, penalties=[0.0])
        | dict(max_evaluations=1, monitor=None, skip_t=0, progress=False),
        dict(lag={"whole"}, free={"dict", "None"}, penalties={"list"}, max_evaluations={"whole"})
        | dict(monitor={"zero", "None"}, skip_t={"whole", "zero"}, progress=FLAG),
    ),
    "evaluate": (
        dict(simulator_or_fit="@sim", fc=tj.FCOptions(skip_t=0), n_seeds=1, n_tvb=0, seed=0, state=None, window=None)
        | dict(progress=False),
        dict(
            observables={"None", "dict"},
            n_seeds={"whole"},
            n_tvb=WHOLE,
            seed=WHOLE,
            state={"None"},
            window={"whole", "half", "None"},
        )
        | dict(progress=FLAG),
    ),
    "fit": (
        dict(sim="@sim", free="@free", method="simulate", loss=None, penalty=None, optimizer=None, max_steps=0)
        | dict(fc=tj.FCOptions(), noise=tj.NoiseOptions(), search=tj.SearchOptions(), target=FC)
        | dict(run=tj.RunOptions(progress=False)),
        dict(
            loss={"None"},
            penalty={"None"},
            optimizer={"None"},
            max_steps=WHOLE | {"None"},
            target=set(WRONG),
            free={"dict"},
        ),
    ),
    "fit_cohort": (
        dict(make_simulator=_loss, subjects={"1": {}}, free={}, folder="there", target="fc", held_out="other")
        | dict(seeds=None, evaluation=None, standard_errors=False, executor=None, n_workers=0, progress=False),
        dict(subjects={"text"}, free={"dict"}, folder={"text"}, target={"text"}, held_out={"text"})
        | dict(seeds={"list", "None"}, evaluation={"dict", "None"}, executor={"None"}, n_workers=WHOLE | {"None"})
        | dict(standard_errors=FLAG, progress=FLAG),
    ),
    "FCOptions": (
        dict(skip_t=None, monitor=0, simulation_length=None, missing="refuse"),
        dict(skip_t=WHOLE | {"None"}, monitor=WHOLE | {"None"}, simulation_length={"whole", "half", "None"}),
    ),
    "NoiseOptions": (
        dict(source="tvb", resample=None, n_realisations=1, patience=None),
        dict(resample=FLAG | {"None"}, n_realisations={"whole"}, patience={"whole", "None"}),
    ),
    "SearchOptions": (
        dict(seed=0, n_starts=None, max_evaluations=1),
        dict(seed=WHOLE, n_starts={"whole", "None"}, max_evaluations={"whole"}),
    ),
    "RunOptions": (
        dict(callback=None, progress=False, checkpoint=None, resume=False),
        dict(callback={"None"}, progress=FLAG, checkpoint={"text", "None"}, resume=FLAG),
    ),
    "run_sim": (
        dict(sim="@sim", nstep=5, simulation_length=None),
        dict(nstep={"whole", "None"}, simulation_length={"whole", "half", "None"}),
    ),
    "Recordings": (
        dict(signals=BOLD, period=1000.0, band=(0.01, 0.1), gain="regional", noise=True, max_frequencies=32),
        dict(signals={"array"}, period={"whole", "half"}, noise=FLAG, max_frequencies={"whole"}),
    ),
    "compare_models": (dict(posteriors={}), {}),
    "run": (dict(state="@small", max_steps=1, resume=False), dict(max_steps=WHOLE, resume=FLAG)),
}
# Arguments with tests of their own elsewhere: targets, sessions and groups.
ELSEWHERE = {("evaluate", name) for name in ("target", "training_sessions", "region_groups", "group")} | {
    ("fit", "single_options"),
    ("fit_cohort", "fit_options"),
    ("compare_models", "held_out"),
    ("balloon_parameters", "changes"),
}
# Classes that users do not construct, and names with tests of their own.
NOT_MADE_BY_USERS = {"Certificate", "Evaluation", "Exploration", "FitResult", "History", "LinearResponse"}
NOT_MADE_BY_USERS |= {"FCD", "Spectrum", "Identifiability", "StandardErrors", "EffectiveConnectivity", "Cohort"}
NOT_MADE_BY_USERS |= {"Posterior", "PredictiveCheck", "ModelComparison"}
OTHERS = {
    "State",
    "JaxBackend",
    "write_back",
    "UnsupportedComponent",
    "FitFailed",
    "NoStableFixedPoint",
    "NoEffect",
    "WorkerDied",
    "PeriodWarning",
    "DomainWarning",
    "HistoryWarning",
    "FrozenWarning",
    "BalanceWarning",
    "BalloonBold",
}
CASES = [(name, argument) for name, (arguments, _) in TABLE.items() for argument in arguments]


def _function(name):
    return {"run": _run, "run_sim": tj.JaxBackend().run_sim}.get(name) or getattr(tj, name)


def test_the_table_has_every_argument():
    assert set(tj.__all__) - NOT_MADE_BY_USERS - OTHERS == set(TABLE) - {"run", "run_sim"}
    for name in TABLE:
        there = {(name, argument) for argument in inspect.signature(_function(name)).parameters}
        assert there - ELSEWHERE == {case for case in CASES if case[0] == name}, name


@pytest.mark.parametrize("name,argument", CASES, ids=[f"{name}-{argument}" for name, argument in CASES])
def test_an_argument_of_a_wrong_kind_is_refused_by_name(made, name, argument):
    good, allowed = TABLE[name]
    good = {
        key: made[value[1:]] if isinstance(value, str) and value[:1] == "@" else value for key, value in good.items()
    }
    if name == "evaluate":
        good["target"] = FC
    for kind in set(WRONG) - allowed.get(argument, set()):
        with pytest.raises((ValueError, TypeError)) as caught:
            _function(name)(**(good | {argument: WRONG[kind]}))
        told = str(caught.value)
        assert is_refusal(caught.value), f"{kind}: {caught.value!r}"
        # Some messages name bounds, simulators and others by their meaning, not by the argument.
        known = {
            "sim": "Simulator",
            "simulator_or_fit": "Simulator",
            "low": "range",
            "high": "range",
            "name": "data set",
        }
        known |= {"callbacks": "callback", "region_labels": "regions", "parameters": "parameter_set"}
        named = [argument, argument.replace("_", " "), known.get(argument, argument), "bounds", "mask", "start values"]
        assert any(each in told for each in named), f"{kind}: {told}"


def test_all_options_of_a_wrong_kind_are_in_one_message(made):
    with pytest.raises(ValueError) as caught:
        tj.fit(made["sim"], FC, [], max_steps=-1, optimizer=optax.adam, method="best", run=None)
    for said in (
        "method = 'best'; give one of 'auto', 'simulate', 'linear', 'linear+simulate'.",
        "max_steps = -1; give a whole number of at least 0, or None.",
        "give an optimiser that is made, such as optax.adam(0.01), or None.",
        "run = None; give a RunOptions such as tj.RunOptions(progress=False).",
        'free = []; give a dict of paths and parameters, e.g. {"coupling.a": Parameter()}.',
    ):
        assert said in str(caught.value)
    with pytest.raises(ValueError) as caught:
        tj.NoiseOptions(patience=1.5, n_realisations=0)
    assert str(caught.value) == (
        "NoiseOptions: n_realisations = 0; give a whole number of at least 1. "
        "patience = 1.5; give a whole number of at least 1, or None."
    )
    with pytest.raises(ValueError, match="RunOptions: progress = 'no'; give True or False."):
        tj.RunOptions(progress="no")


def test_names_that_no_group_of_options_has_are_named_with_what_is_meant(made):
    with pytest.raises(TypeError) as caught:
        tj.fit(made["sim"], FC, made["free"], progress=False, fresh=True, skip_t=3, max_step=4)
    assert str(caught.value) == (
        "fit: fresh: give noise=NoiseOptions(resample=True). "
        "max_step: there is no such argument. Did you mean 'max_steps'?"
    )


def test_single_options_of_a_group_replace_those_of_the_object(made):
    with pytest.raises(ValueError, match="RunOptions: progress = 'no'; give True or False."):
        tj.fit(made["sim"], FC, made["free"], progress="no")
    groups = {name: kind() for name, kind in GROUPS.items()} | {"run": tj.RunOptions(resume=False, progress=True)}
    changed = with_single_options(groups, {"progress": False, "skip_t": 3, "n_realisations": 2})
    assert changed["run"] == tj.RunOptions(progress=False) and changed["fc"] == tj.FCOptions(skip_t=3)
    assert changed["noise"] == tj.NoiseOptions(n_realisations=2) and changed["search"] is groups["search"]


def test_numbers_of_numpy_and_jax_are_numbers():
    for one in (np.int32(3), np.int64(3), np.float32(3.0), np.array(3), jnp.asarray(3), 3.0):
        assert tj.StopOnPlateau(one).patience == 3 and tj.GridAxis(0.0, one, one).n == 3
    _, history = _run(tj.State(x=tj.Parameter(1.0)), np.int64(2), np.bool_(False))
    assert history.loss.size == 3
    assert options.boolean(np.True_) is None and options.integer(0)(np.bool_(True)) is not None


@pytest.mark.parametrize(
    "loss,has_aux,said",
    [
        (
            lambda s: s.x * jnp.ones(3),
            False,
            r"loss: it gives an array of shape \(3,\) and float64; let it return one real",
        ),
        (lambda s: jnp.ones(1) * s.x, False, r"loss: it gives an array of shape \(1,\)"),
        (lambda s: s.x.astype(complex), False, "loss: it gives an array of shape .* and complex128"),
        (lambda s: (s.x, {}), False, "loss: it gives a tuple; let it return a scalar"),
        (lambda s: None, False, "loss: it gives a NoneType"),
        (lambda s: s.x, True, r"loss, with has_aux: let it return \(scalar, dict of scalars\)"),
        (lambda s: (s.x, {"r": jnp.ones(2)}), True, r"loss: 'r' is of shape \(2,\); let it be a scalar"),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused(loss, has_aux, said):
    with pytest.raises(ValueError, match=f"OptaxOptimizer: {said}"):
        tj.OptaxOptimizer(loss, optax.sgd(0.1), has_aux=has_aux, progress=False).run(tj.State(x=tj.Parameter(1.0)))


def test_a_validation_that_is_no_scalar_is_refused():
    optimizer = tj.OptaxOptimizer(_loss, optax.sgd(0.1), validate=lambda s: s.x * jnp.ones(2), progress=False)
    with pytest.raises(ValueError, match=r"validate: it gives an array of shape \(2,\)"):
        optimizer.run(tj.State(x=tj.Parameter(1.0)))


def test_a_loss_and_a_penalty_of_fit_that_are_no_scalars_are_refused(made):
    target = np.corrcoef(np.random.default_rng(0).normal(size=(6, 20)))
    fit = {"free": made["free"], "max_steps": 0, "run": tj.RunOptions(progress=False)}
    with pytest.raises(ValueError, match=r"loss: it gives an array of shape \(6, 6\)"):
        tj.fit(made["sim"], target, loss=lambda fc, target: fc - target, **fit)
    with pytest.raises(ValueError, match=r"penalty: it gives an array of shape \(1,\)"):
        tj.fit(made["sim"], target, penalty=lambda state: state.coupling.a.reshape(1), **fit)


def test_two_callbacks_of_one_key_are_refused_however_deep_they_are():
    saving = tj.SavingCallback
    for callbacks in ([saving("a"), saving("a")], [tj.MultiCallback([saving("a"), saving("b")]), saving("a")]):
        with pytest.raises(ValueError, match="MultiCallback: 'a' is the key of more than one callback"):
            tj.MultiCallback(callbacks)
    assert set(tj.MultiCallback([saving("a"), saving("b")]).saved) == {"a", "b"}


@pytest.mark.parametrize("groups", [3, "aabbcc", None])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(ValueError, match="region_groups: .*; give a list with the group of each of the 6 regions"):
        baselines.region_blocks(groups, 6)
