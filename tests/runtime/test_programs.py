"""The store of compiled programs: equal programs are compiled once, different ones separately."""

import gc
import logging
import subprocess
import sys
import textwrap
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tvb.simulator import coupling, monitors

import tvb_jaxfit as tj
from tvb_jaxfit.fitting.linear import confirmation
from tvb_jaxfit.fitting.linear import fit as linear_fit
from tvb_jaxfit.parameters import strip_parameters
from tvb_jaxfit.runtime import programs
from tvb_jaxfit.runtime.programs import Program


class CompilationLog(logging.Handler):
    """Names of the programs that XLA has compiled since the last call."""

    def __init__(self):
        super().__init__()
        self._names = []

    def emit(self, record):
        words = record.getMessage().split()
        if words[:3] == ["Finished", "XLA", "compilation"]:
            self._names.append(words[4])

    def __call__(self):
        names, self._names = self._names, []
        return names


@pytest.fixture
def compiled(monkeypatch):
    """Function that returns the names of the programs compiled since its last call; the store is empty at first."""
    monkeypatch.setattr(programs, "_store", type(programs._store)())
    handler, logger = CompilationLog(), logging.getLogger("jax._src.dispatch")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(handler)
    with jax.log_compiles(True):
        yield handler
    logger.removeHandler(handler)


# Names of the functions that programs are compiled from: simulations, losses and gradients; updates.
SIMULATIONS = (
    "_evaluation",
    "_validation",
    "_simulate_state",
    "evaluate_by_way",
    "scores",
    "batch",
    "_response",
    "advance",
)
UPDATES = ("_following", "updated")


def number_of(functions, names):
    return sum(name.removeprefix("jit(").removesuffix(")") in functions for name in names)


def number_of_programs(names):
    return number_of(SIMULATIONS, names)


def target(seed=0):
    return np.corrcoef(np.random.RandomState(seed).randn(6, 40))


def fit(sim, seed=0, a=None, monitor=None, **options):
    defaults = {"method": "simulate", "progress": False}
    defaults |= {} if options.get("method") == "linear" else {"max_steps": 2}
    return tj.fit(sim, target(seed), {"coupling.a": tj.Parameter(a), "model.w": tj.Parameter()}, **(defaults | options))


@pytest.fixture
def sim_of(build_small):
    def build(**options):
        return build_small(**({"steps": 60, "monitors": [monitors.TemporalAverage(period=8.0)]} | options))

    return build


def test_a_second_fit_and_evaluation_compile_nothing(sim_of, compiled):
    first = fit(sim_of())
    first.evaluate(n_seeds=1, progress=False)
    assert number_of_programs(compiled()) == 4
    fit(sim_of())
    again = fit(sim_of(seed=7), seed=1, a=0.1, max_steps=3)
    assert number_of((*SIMULATIONS, *UPDATES), compiled()) == 0
    assert not np.array_equal(again.loss[:3], first.loss)
    for seed in (1, 2):
        again.evaluate(n_seeds=1, seed=seed, progress=False)
    assert number_of_programs(compiled()) == 0
    faster = fit(sim_of(), optimizer=optax.adam(0.02))
    names = compiled()
    assert number_of_programs(names) == 0 < number_of(UPDATES, names)
    assert faster.loss[0] == first.loss[0] and faster.loss[2] != first.loss[2]


def other_loss(fc, target):
    return 0.5 * tj.rmse(fc, target)


def on_the_same_noise(sim, **options):
    return fit(sim, resample=False, **options)


CHANGES = {
    "coupling": lambda sim_of: on_the_same_noise(sim_of(coupling=coupling.HyperbolicTangent())),
    "loss": lambda sim_of: on_the_same_noise(sim_of(), loss=other_loss),
    "period": lambda sim_of: on_the_same_noise(sim_of(monitors=[monitors.TemporalAverage(period=12.0)])),
    "dt": lambda sim_of: on_the_same_noise(sim_of(dt=2.0, steps=120)),
    "scheme": lambda sim_of: on_the_same_noise(sim_of(scheme="EulerStochastic")),
    "constant": lambda sim_of: on_the_same_noise(sim_of(model={"gamma": np.array([0.6])})),
    "penalty": lambda sim_of: on_the_same_noise(sim_of(), penalty=lambda state: 0.1 * jnp.sum(state.model.w**2)),
    "bounds": lambda sim_of: tj.fit(
        sim_of(),
        target(),
        {"model.w": tj.BoundedParameter(None, 0.0, 0.6)},
        method="simulate",
        max_steps=2,
        noise=tj.NoiseOptions(resample=False),
        run=tj.RunOptions(progress=False),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_compiled_separately_and_gives_the_numbers_of_an_empty_store(sim_of, compiled, change):
    base = on_the_same_noise(sim_of())
    after = CHANGES[change](sim_of)
    assert not np.array_equal(after.loss, base.loss)
    programs._store.clear()
    compiled()
    alone = CHANGES[change](sim_of)
    # The step, the simulations on fresh noise, and their scores.
    assert number_of_programs(compiled()) == 3
    for ours, expected in ((after.loss, alone.loss), (after.r, alone.r)):
        np.testing.assert_array_equal(ours, expected)
    jax.tree.map(np.testing.assert_array_equal, strip_parameters(after.fitted), strip_parameters(alone.fitted))


@pytest.mark.slow
def test_a_fit_with_a_filled_store_has_the_numbers_of_a_new_process(tmp_path):
    """Fits of different targets, the second with a filled store, against the second alone in a process."""
    code = textwrap.dedent(
        """
        import sys, numpy as np, jax
        jax.config.update("jax_enable_x64", True)
        import tvb_jaxfit as tj
        from tvb.simulator.lab import *

        def fit(seed):
            draw = np.random.RandomState(3)
            white_matter = connectivity.Connectivity(
                weights=draw.rand(5, 5), tract_lengths=np.zeros((5, 5)), centres=np.zeros((5, 3)),
                region_labels=np.array(list("abcde")), speed=np.array([np.inf]))
            sim = simulator.Simulator(
                connectivity=white_matter, model=models.ReducedWongWang(), coupling=coupling.Linear(a=np.array([0.05])),
                integrator=integrators.HeunStochastic(dt=1.0, noise=noise.Additive(nsig=np.array([1e-6]))),
                monitors=[monitors.TemporalAverage(period=2.0)], simulation_length=60.0)
            target = np.corrcoef(np.random.RandomState(seed).randn(5, 40))
            return tj.fit(sim, target, {"coupling.a": tj.Parameter()}, method="simulate", max_steps=2,
                          run=tj.RunOptions(progress=False))

        for seed in sys.argv[2:]:
            result = fit(int(seed))
        np.save(sys.argv[1], np.concatenate([result.loss, result.r, [result.fitted.coupling.a.value.item()]]))
        """
    )
    for name, seeds in (("alone", "2"), ("second", "1 2")):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name), *seeds.split()], check=True)
    alone, second = (np.load(tmp_path / f"{name}.npy") for name in ("alone", "second"))
    np.testing.assert_array_equal(alone, second)


@pytest.mark.slow
def test_a_second_linear_fit_compiles_nothing(sim_of, compiled, monkeypatch):
    monkeypatch.setattr(linear_fit, "_POINTS", 4)
    monkeypatch.setattr(linear_fit, "_STARTS", 1)
    monkeypatch.setattr(confirmation, "LONGEST", 500.0)
    options = {"method": "linear", "max_evaluations": 2}
    first = fit(sim_of(), **options)
    assert number_of_programs(compiled()) == 2
    again = fit(sim_of(), seed=1, a=0.06, **options)
    assert number_of_programs(compiled()) == 0 and again.loss[0] != first.loss[0]


@pytest.mark.slow
def test_a_second_certificate_and_a_second_sweep_compile_nothing(sim_of, compiled):
    def swept(seed):
        simulate, state = tj.prepare(sim_of(seed=seed))
        state.coupling.a = tj.GridAxis(0.05, 0.08, 3)
        empirical = target(seed)
        loss = lambda s: tj.rmse(tj.compute_fc(simulate(s).data[0]), empirical)  # noqa: E731
        return tj.ParallelExecution(loss, tj.Space(state), progress=False).run()

    assert tj.certify(sim_of())
    first = swept(1)
    assert number_of_programs(compiled()) > 2
    assert tj.certify(sim_of())
    assert not np.array_equal(swept(2).values, first.values)
    assert number_of_programs(compiled()) == 0


def outputs(function, *arguments):
    return jax.tree.map(np.asarray, Program(function)(*arguments))


def test_functions_that_differ_in_one_entry_of_a_constant_are_two_programs(compiled):
    """One entry of a million. Shared constants are inputs: both functions are then one program."""
    table = np.zeros((1000, 1000))
    other = table.copy()
    other[500, 499] = 1.0
    for shares, n in ((False, 2), (True, 1)):
        compiled()
        sums = [
            float(Program(lambda x, c=c: jnp.sum(x * c), shares)(np.ones((1000, 1000)))) for c in (table, other, table)
        ]
        assert sums == [0.0, 1.0, 0.0]
        assert number_of(["<lambda>"], compiled()) == n


def test_programs_with_equal_text_and_different_arguments_or_results_are_separate():
    a, b = (jnp.asarray(value, float) for value in (1.0, 2.0))
    assert (outputs(lambda a, b: a + 1.0, a, b), outputs(lambda a, b: b + 1.0, a, b)) == (2.0, 3.0)
    assert outputs(lambda a, b: {"a": a, "b": b}, a, b) == {"a": 1.0, "b": 2.0}
    assert outputs(lambda a, b: (a, b), a, b) == (1.0, 2.0)
    assert [Program(lambda x: x * 1)(x).weak_type for x in (1.0, a)] == [True, False]
    key = jax.random.key(3)
    assert Program(lambda k: k)(key) == key
    np.testing.assert_array_equal(Program(lambda k: k)(jax.random.key_data(key)), jax.random.key_data(key))


@pytest.mark.slow
def test_constants_that_a_setting_of_jax_turns_into_inputs_are_not_confused():
    code = """
        import jax, jax.numpy as jnp
        from tvb_jaxfit.runtime.programs import Program
        jax.config.update("jax_use_simplified_jaxpr_constants", True)
        for shares in (False, True):
            for value in (1.0, 2.0):
                table = jnp.full(1000, value)
                print(float(Program(lambda x: jnp.sum(x * table), shares)(jnp.ones(1000))))
        """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1000.0", "2000.0"] * 2


def test_callbacks_are_not_confused():
    def times(factor):
        shape = jax.ShapeDtypeStruct((), jnp.result_type(float))
        return lambda x: jax.pure_callback(lambda x: factor * np.asarray(x), shape, x)

    assert [outputs(times(factor), jnp.asarray(1.0)) for factor in (2.0, 3.0, 2.0)] == [2.0, 3.0, 2.0]


def test_settings_of_jax_are_part_of_the_key(compiled):
    matrix = np.full((8, 8), 1.0 / 3.0, "f")
    product = Program(lambda m: m @ m)
    expected = product(matrix)
    with jax.default_matmul_precision("bfloat16"):
        product(matrix)
    assert len(product) == 2 and number_of(["<lambda>"], compiled()) == 2
    assert product(np.full((8, 8), 1.0 / 3.0)).dtype == np.float64
    with jax.enable_x64(False):
        assert product(np.full((8, 8), 1.0 / 3.0)).dtype == np.float32
    np.testing.assert_array_equal(product(matrix), expected)
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        Program(jnp.log)(jnp.asarray(-1.0))
    values = []
    with jax.disable_jit():
        Program(lambda x: values.append(float(x)) or x)(jnp.asarray(2.0))
    assert values == [2.0]


def test_jax_transforms_a_program_like_any_function():
    cube, x = Program(lambda x: x**3), jnp.asarray([1.0, 2.0])
    np.testing.assert_array_equal(jax.vmap(jax.grad(cube))(x), 3.0 * x**2)
    np.testing.assert_array_equal(jax.jit(lambda y: cube(y) + cube(jnp.asarray(2.0)))(x), x**3 + 8.0)


def test_the_store_is_bounded_and_keeps_no_function(monkeypatch):
    monkeypatch.setattr(programs, "_store", type(programs._store)())
    monkeypatch.setattr(programs, "_MAX_PROGRAMS", 3)
    table = jnp.ones(3)

    def function(x):
        return jnp.sum(x * table)

    reference = weakref.ref(function)
    assert Program(function)(np.ones(3)) == 3.0
    del function
    gc.collect()
    assert reference() is None and len(programs._store) == 1
    for factor in range(2, 8):
        assert outputs(lambda x, factor=factor: factor * x, 1.0) == factor
    assert len(programs._store) == 3


@pytest.mark.parametrize(("batch", "n_together"), [((3,), 1), ((), 2)])
def test_programs_with_batches_of_lapack_run_one_at_a_time(monkeypatch, batch, n_together):
    """Two of them at once may wait for each other for ever."""
    program, running, most = Program(lambda matrix: jnp.linalg.inv(matrix)), [], []
    matrix = jnp.broadcast_to(2.0 * jnp.eye(4), (*batch, 4, 4))
    np.testing.assert_allclose(program(matrix), matrix / 4.0)

    def slowly(result):
        running.append(None)
        time.sleep(0.1)
        most.append(len(running))
        running.pop()
        return result

    monkeypatch.setattr(programs.jax, "block_until_ready", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(program, [matrix] * 2))
    assert max(most) == n_together
