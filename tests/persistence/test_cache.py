"""Results come back unchanged, and never for another call."""

import errno
import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit import BoundedParameter, Parameter, State, cache, set_cache_path
from tvb_jaxfit.persistence import serialise as store
from tvb_jaxfit.persistence.fingerprint.objects import NotHashable


class Counter(tj.SavingCallback):
    """Counter of calls. What a callback has recorded is no content, so that a count changes no key."""

    def __init__(self):
        super().__init__("calls")

    def __call__(self):
        self.saved_values.step.append(len(self.saved_values))
        self.saved_values.save.append(None)

    @property
    def n(self):
        return len(self.saved_values)


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """Directory of the cache."""
    monkeypatch.setattr(sys.modules["tvb_jaxfit.persistence.cache"], "_folder", None)
    set_cache_path(tmp_path / "kept")
    return tmp_path / "kept"


@pytest.fixture
def counted():
    """Function: (cached function that returns a value for any arguments, counter of its computations)."""

    def make(value=1.0, name="it", **options):
        count = Counter()

        @cache(name, **options)
        def function(*arguments):
            count()
            return value

        return function, count

    return make


def _files(kept):
    return sorted(path.name for path in kept.iterdir())


def test_what_has_been_computed_is_not_computed_again(counted, kept):
    function, count = counted()
    assert function() == function() == 1.0 and count.n == 1
    (name,) = _files(kept)
    assert name == function.path().name and name.startswith("it-") and name.endswith(".npz")


def test_redo_computes_in_any_case(counted):
    function, count = counted(redo=True)
    assert function() == function() == 1.0 and count.n == 2


def test_redo_replaces_the_stored_result():
    count = Counter()

    def function():
        count()
        return count.n

    assert cache("it")(function)() == 1
    assert cache("it", redo=True)(function)() == 2 == cache("it")(function)()


def test_where_no_place_is_named_it_is_a_folder_in_the_current_directory(tmp_path, monkeypatch):
    spec = importlib.util.find_spec("tvb_jaxfit.persistence.cache")
    untold = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(untold)
    monkeypatch.chdir(tmp_path)
    assert untold.cache("it")(lambda: 1.0)() == 1.0
    assert [path.parent for path in tmp_path.rglob("*.npz")] == [tmp_path / ".tvb_jaxfit"]


def test_each_arguments_result_is_its_own():
    count = Counter()

    @cache("power")
    def power(x, exponent=2):
        count()
        return x**exponent

    assert [power(3), power(3, 3), power(3, exponent=2), power(x=3), power(2)] == [9, 27, 9, 9, 4] and count.n == 3


def test_names_keep_functions_apart(counted):
    (one, of_one), (other, of_other) = counted(name="one"), counted(name="other")
    one(), other()
    assert of_one.n == of_other.n == 1


def _explorer(scale, count):
    def loss(x):
        return scale * jnp.sum(x**2)

    @cache("explore")
    def explore():
        count()
        return loss(jnp.arange(3.0))

    return explore


def test_a_changed_loss_is_never_answered_with_a_former_result():
    count, scale = Counter(), np.ones(1)
    explore = _explorer(scale, count)
    assert explore() == 5.0 and _explorer(np.ones(1), count)() == 5.0 and count.n == 1
    scale[0] = 2.0
    assert explore() == 10.0 and count.n == 2
    assert _explorer(np.full(1, 3.0), count)() == 15.0 and count.n == 3


def test_another_precision_is_another_result(counted):
    function, count = counted()
    function()
    with jax.enable_x64(False):
        function()
    assert count.n == 2


def _history():
    state = State(x=Parameter(3.0), y=BoundedParameter([0.5, 0.6], 0.0, 1.0), z=jnp.ones(4))
    callback = tj.SavingCallback("state")
    return tj.OptaxOptimizer(
        lambda s: s.x**2 + jnp.sum(s.y), optax.sgd(0.1), callback=callback, progress=False, validate=lambda s: s.x
    ).run(state, max_steps=3)


def _exploration():
    space = tj.Space(State(x=tj.GridAxis(-1.0, 1.0, 3), y=jnp.ones(2)))
    return tj.ParallelExecution(lambda state: (1.0 / state.x, state.x * state.y), space, progress=False).run()


RESULTS = {
    "numbers": lambda: [1, 1.5, True, None, "text", 2**70, 1 + 2j, float("inf"), float("-0.0")],
    "containers": lambda: ({"a": [1, (2,)], 3: {"b": set()}, (4, "c"): frozenset({5})}, [], (), {}),
    "arrays": lambda: [
        np.arange(6.0).reshape(2, 3)[:, ::2],
        np.float32(2.5),
        np.array(["a", "bcd"]),
        np.zeros((0, 3), np.int8),
        jnp.ones(3, jnp.float32),
        jnp.asarray(2),
        np.array([True, False]),
    ],
    "not finite": lambda: np.array([np.nan, np.inf, -np.inf]),
    "state": lambda: State({"current_step": 4}.items(), a=State(b=jnp.ones(2)), c=[State(d=Parameter(2.0, True))]),
    "fit": _history,
    "exploration": _exploration,
}


def _assert_equal(one, other, held=()):
    """Assert that types, values and attributes are equal, to the last bit."""
    assert type(one) is type(other)
    if isinstance(one, (np.ndarray, np.generic, jax.Array)):
        assert one.dtype == other.dtype and one.shape == other.shape
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            _assert_equal(*pair)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        _assert_equal(list(one.values()), list(other.values()))
    elif hasattr(one, "__dict__"):
        _assert_equal(vars(one), vars(other))
    else:
        assert repr(one) == repr(other)


@pytest.mark.parametrize("what", RESULTS)
def test_results_come_back_as_they_went(counted, what):
    value = RESULTS[what]()
    function, count = counted(value)
    _assert_equal(function(), value)
    back = function()
    assert count.n == 1
    _assert_equal(back, value)
    if what in ("fit", "state"):
        assert jax.tree.structure(back) == jax.tree.structure(value)


def test_what_is_used_of_a_result_gives_the_same_key_whether_it_was_computed_or_read(counted):
    first, _ = counted((_history(), _exploration()))
    assert len({counted(first())[0].path() for _ in range(2)}) == 1


def test_a_simulators_state_comes_back_and_runs_on(build_small):
    sim = build_small(steps=50)
    simulate, state = tj.prepare(sim)
    count = Counter()

    @cache("run")
    def run():
        count()
        result = simulate(state)
        return result.data[0], result.final_state

    (data, final), (data_read, final_read) = run(), run()
    assert count.n == 1
    np.testing.assert_array_equal(data, data_read)
    assert jax.tree.structure(final_read) == jax.tree.structure(final)
    np.testing.assert_array_equal(simulate(final_read).data[0], simulate(final).data[0])
    np.testing.assert_array_equal(
        simulate(final_read).final_state.integrator.noise.draws, simulate(final).final_state.integrator.noise.draws
    )
    sim.model.w = sim.model.w + 0.01
    simulate, state = tj.prepare(sim)
    assert np.any(run()[0] != data) and count.n == 2


@pytest.mark.parametrize("spoil", ["cut", "bit", "empty", "text", "pickle", "other"])
def test_what_is_damaged_or_foreign_is_computed_anew_with_a_warning(counted, spoil):
    value = np.arange(100.0)
    function, count = counted(value)
    function()
    path = function.path()
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(value.tobytes()[8:16]) + 3] ^= 1
    if spoil == "pickle":
        np.savez(path, json=np.array([{"format": 1}], dtype=object))
    elif spoil == "other":
        store.write(path, value, "cache of another")
    else:
        path.write_bytes({"cut": whole[:-50], "bit": bytes(flipped), "empty": b"", "text": b"a,b\n1,2\n"}[spoil])
    with pytest.warns(UserWarning, match="cache: .* is damaged, or no cache of .*; it is computed anew") as caught:
        np.testing.assert_array_equal(function(), value)
    assert caught[0].filename == __file__ and count.n == 2
    np.testing.assert_array_equal(function(), value)
    assert count.n == 2


def test_reading_a_file_runs_nothing_of_what_is_in_it(counted, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    function, count = counted()
    function()
    np.savez(function.path(), json=np.array([Trap()], dtype=object))
    with pytest.warns(UserWarning, match="is damaged, or no cache of"):
        assert function() == 1.0
    assert count.n == 2 and not (tmp_path / "sprung").exists()


def test_what_cannot_be_stored_is_returned_with_a_warning(counted, kept):
    function, count = counted({"a": [optax.adam(0.1)]})
    with pytest.warns(UserWarning, match=r"'it' was not stored \(result\['a'\]\[0\]: optax.*cannot be stored"):
        function()
    assert _files(kept) == []


def test_what_cannot_be_compared_is_refused_by_name(counted):
    function, count = counted()
    with pytest.raises(NotHashable, match=r"cache: it.*\['arguments'\]\[0\]: a builtins.generator"):
        function(i for i in "abc")
    assert count.n == 0


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b"])
def test_a_name_is_one_of_a_file(name):
    with pytest.raises(ValueError, match="as in a file's name"):
        cache(name)


def test_a_full_disk_costs_no_result(counted, kept, monkeypatch):
    def full(file, **arrays):
        file.write(b"PK")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    function, count = counted()
    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", full)
        with pytest.warns(UserWarning, match="'it' was not stored .*No space left"):
            assert function() == 1.0
    assert _files(kept) == []
    assert function() == 1.0 and function() == 1.0 and count.n == 2


def test_a_place_where_nothing_can_be_written_costs_no_result(counted, tmp_path):
    (tmp_path / "file").write_text("")
    set_cache_path(tmp_path / "file")
    function, _ = counted()
    with pytest.warns(UserWarning, match="was not stored"):
        assert function() == 1.0


def test_errors_of_the_function_are_raised_and_nothing_is_stored(kept):
    @cache("fails")
    def fails():
        raise RuntimeError("mine")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="mine"):
            fails()
    assert _files(kept) == []


def test_cached_functions_may_call_each_other(counted):
    inner, count = counted(3)

    @cache("outer")
    def outer():
        return inner() + 1

    assert outer() == outer() == 4 and count.n == 1


def test_of_two_threads_one_computes():
    count = Counter()

    @cache("slow")
    def slow():
        count()
        time.sleep(0.3)
        return count.n

    results = []
    threads = [threading.Thread(target=lambda: results.append(slow())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1, 1, 1]


SCRIPT = """
import os, sys, time
from tvb_jaxfit import cache, set_cache_path

set_cache_path(sys.argv[1])

@cache("slow")
def slow():
    import os, time
    time.sleep(2.0)
    return os.getpid()

slow.path()
open(f"{sys.argv[1]}.{os.getpid()}", "w").close()
# Both processes begin at the same time.
while sum(name.startswith("kept.") for name in os.listdir(os.path.dirname(sys.argv[1]))) < 2:
    time.sleep(0.01)
print(slow())
"""


def test_of_two_processes_one_computes(kept):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SCRIPT, str(kept)]
    running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0].strip() for process in running]
    assert told[0] == told[1] and int(told[0]) in {process.pid for process in running}
    assert len(_files(kept)) == 1


WORKFLOW = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np, optax
import tvb_jaxfit as tj
sys.path[:0] = [sys.argv[2]]
import conftest
from tvb.simulator.lab import monitors

tj.set_cache_path(sys.argv[1])
weights = np.random.RandomState(0).uniform(size=(5, 5)) * ~np.eye(5, dtype=bool)
sim = conftest.simulator(weights, steps=400, monitors=[monitors.TemporalAverage(period=16.0)])
sim.configure()
sim.run()
simulate, state = tj.prepare(sim)
fc_target = np.corrcoef(np.random.RandomState(1).normal(size=(5, 30)))

def observation(state):
    (time, data), = simulate(state)
    return tj.compute_fc(data, skip_t=5)

def loss(state):
    return tj.rmse(observation(state), fc_target)

space = tj.Space(state.replace(model=state.model.replace(w=tj.GridAxis(0.2, 0.6, 3))))
cb = tj.MultiCallback([tj.DefaultPrintCallback(every=2), tj.SavingCallback("state")])

@tj.cache("explore")
def explore():
    print("explored")
    return tj.ParallelExecution(loss, space, progress=False).run()

state = explore().best
state.coupling.a = tj.Parameter(state.coupling.a)

@tj.cache("optimize")
def optimize():
    return tj.OptaxOptimizer(loss, optax.adam(0.01), callback=cb, progress=False).run(state, max_steps=2)

fitted_state, fitting_data = optimize()
fitted_state.model.w = tj.BoundedParameter(fitted_state.model.w, 0.0, 1.0)
fitted_state.model.w.shape = (5,)

@tj.cache("optimize_het")
def optimize_het():
    return tj.OptaxOptimizer(loss, optax.adam(0.01), callback=cb, progress=False).run(fitted_state, max_steps=2)

fitted_state_het, fitting_data_het = optimize_het()
route = [float(kept.coupling.a) for kept in fitting_data_het["state"].save]
print("end", float(loss(fitted_state_het)), route)
"""


@pytest.mark.slow
def test_a_session_that_is_repeated_computes_nothing_and_ends_the_same(kept):
    """Callbacks with records of an earlier fit, and states that were read from files, do not change the next key."""
    command = [sys.executable, "-c", WORKFLOW, str(kept), str(Path(__file__).parents[1])]
    lines = []
    for _ in range(2):
        run = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
        lines.append([line for line in run.stdout.splitlines() if line.startswith(("explored", "step", "end"))])
    first, second = lines
    assert [line.split()[0] for line in first] == ["explored", *["step"] * 4, "end"]
    assert second == first[-1:]
    assert len(_files(kept)) == 3
