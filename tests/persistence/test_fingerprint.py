"""Equal digests for what computes the same, in every process; different ones for what may compute something else."""

import builtins
import collections
import functools
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numba
import numpy as np
import optax
import pandas as pd
import pytest
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator.lab import coupling, models, monitors

import tvb_jaxfit as tj
from tvb_jaxfit import BoundedParameter, MultiCallback, Parameter, SavingCallback, State, StopOnPlateau
from tvb_jaxfit.persistence.fingerprint import installed
from tvb_jaxfit.persistence.fingerprint.hasher import digest, environment
from tvb_jaxfit.persistence.fingerprint.objects import NotHashable

BASE = """
import math
import numpy as np

factor = 2.0
table = {"a": np.arange(3.0)}

class Model:
    gain = 1.0

    def __init__(self, x):
        self.x = x

    def value(self):
        return self.gain * self.x

def helper(x):
    return factor * x

def function(x, power=2):
    def inner(y):
        return helper(y) ** power
    return inner(x) + table["a"][1] + Model(x).value() + math.pi

unused = 1
"""


def _function(source, name="written"):
    module = types.ModuleType(name)
    exec(compile(source, f"{name}.py", "exec"), vars(module))
    return module.function


@pytest.mark.parametrize(
    "old,new",
    [
        ("factor = 2.0", "factor = 2.5"),
        ("factor = 2.0", "factor = 2"),
        ("np.arange(3.0)", "np.arange(3.0) + 1e-16 + 1"),
        ('{"a": np', '{"b": np.ones(3), "a": np'),
        ("factor * x", "x * factor"),
        ("power=2", "power=3"),
        ("helper(y) ** power", "helper(y) ** power + 1"),
        ("gain = 1.0", "gain = 1.1"),
        ("self.gain * self.x", "self.gain + self.x"),
        ("math.pi", "math.tau"),
        ("[1]", "[2]"),
    ],
)
def test_code_and_all_that_it_uses_are_content(old, new):
    assert old in BASE
    assert digest(_function(BASE)) != digest(_function(BASE.replace(old, new)))


@pytest.mark.parametrize(
    "old,new",
    [
        ("unused = 1", "unused = open(__import__('os').devnull)"),
        ("def helper", "# a comment\n\n\ndef helper"),
        ("factor * x", "(factor\n        * x)"),
        ("import math", "import sys, math"),
    ],
)
def test_what_is_not_used_is_not(old, new):
    assert old in BASE
    assert digest(_function(BASE)) == digest(_function(BASE.replace(old, new)))


def test_what_is_used_of_a_module_of_the_users_is_content_and_the_rest_of_it_is_not():
    module = types.ModuleType("users_module")
    module.scale, module.other = 2.0, (i for i in "abc")
    function = _function("def function(x):\n    return mine.scale * x\n")
    function.__globals__["mine"] = module
    before = digest(function)
    module.other = None
    assert digest(function) == before
    module.scale = 3.0
    assert digest(function) != before


def test_what_a_function_imports_when_it_is_called_is_content(monkeypatch):
    module = types.ModuleType("users_module")
    monkeypatch.setitem(sys.modules, "users_module", module)
    function = _function("def function(x):\n    from users_module import scale\n    return scale * x\n")
    module.scale = 2.0
    before = digest(function)
    module.scale = 3.0
    assert digest(function) != before


def test_what_a_function_imports_and_does_not_use_is_not(monkeypatch):
    module = types.ModuleType("users_module")
    monkeypatch.setitem(sys.modules, "users_module", module)
    module.scale, module.other = 2.0, (i for i in "abc")
    function = _function("def function(x):\n    from users_module import scale\n    import absent\n    return scale\n")
    before = digest(function)
    module.other = None
    assert digest(function) == before


def _users_substitute(monkeypatch, scale):
    class Substitute:
        computed = property(lambda self: scale * 2.0)

    module = Substitute()
    # As in `tvb.simulator.models`: the namespace of a module, with Python's own names in it.
    module.__dict__ = vars(types.ModuleType("users_module")) | {"__builtins__": vars(builtins), "scale": scale}
    monkeypatch.setitem(sys.modules, "users_module", module)
    return module


@pytest.mark.parametrize("attribute", ["scale", "computed"])
def test_what_is_used_of_an_object_in_the_place_of_a_users_module_is_content(attribute, monkeypatch):
    function = _function(f"def function(x):\n    return mine.{attribute} * x\n")
    function.__globals__["mine"] = _users_substitute(monkeypatch, 2.0)
    before = digest(function)
    vars(function.__globals__["mine"])["other"] = (i for i in "abc")
    assert digest(function) == before
    function.__globals__["mine"] = _users_substitute(monkeypatch, 3.0)
    assert digest(function) != before


def test_an_object_in_the_place_of_a_module_is_compared_by_its_names_and_its_class(monkeypatch):
    digests = {digest(_users_substitute(monkeypatch, scale)) for scale in (2.0, 3.0, 2.0)}
    assert len(digests) == 2
    module = _users_substitute(monkeypatch, 2.0)
    del vars(module)["scale"]
    without = digest(module)
    module = _users_substitute(monkeypatch, 3.0)
    del vars(module)["scale"]
    assert digest(module) != without


def test_which_models_of_tvb_are_loaded_is_not_content(monkeypatch):
    """``tvb.simulator.models`` loads each model when it is first read, and then holds its module."""

    def function():
        return models.ReducedWongWang().dfun(1.0, 2.0)

    before = digest(function), digest(models)
    monkeypatch.setitem(vars(models), "of_a_test", types.ModuleType("tvb.simulator.models.of_a_test"))
    assert (digest(function), digest(models)) == before


def test_pythons_own_names_are_compared_by_version_whatever_libraries_put_among_them(monkeypatch):
    """Old pybind11 puts an object without content there."""
    namespace = _function(BASE).__globals__
    before = digest(namespace)
    monkeypatch.setattr(builtins, "__of_a_test__", (i for i in "abc"), raising=False)
    assert namespace["__builtins__"]["__of_a_test__"] is not None
    assert digest(namespace) == before


PACKAGE = """
def function(x):
    from . import scales
    from .scales import one
    return scales.two * one * x
"""


def test_what_a_function_imports_from_its_own_package_is_content(tmp_path, monkeypatch):
    folder = tmp_path / "users_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "scales.py").write_text("one, two = 1.0, 2.0")
    (folder / "work.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    from users_package import scales
    from users_package.work import function

    digests = [digest(function)]
    for name in ("one", "two"):
        setattr(scales, name, 7.0)
        digests.append(digest(function))
    assert len(set(digests)) == 3


def test_a_users_module_with_the_name_of_a_standard_one_is_the_users(tmp_path, monkeypatch):
    (tmp_path / "this.py").write_text("scale = 2.0\ndef function(x):\n    return scale * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    installed.is_library.cache_clear()
    import this

    before = digest(this.function)
    this.scale = 3.0
    assert digest(this.function) != before
    monkeypatch.delitem(sys.modules, "this")
    installed.is_library.cache_clear()


def _of_closure(value):
    return lambda x: value


VALUES = {
    "array": lambda x=1.0: np.array([x, 2.0]),
    "shape": lambda x=2: np.zeros((x, 6 // x)),
    "dtype": lambda x=np.float64: np.zeros(3, x),
    "jax": lambda x=1.0: jnp.array([x, 2.0]),
    "key": lambda x=0: jax.random.key(x),
    "objects": lambda x="a": np.array([x, None], dtype=object),
    "closure": lambda x=1.0: _of_closure(x),
    "partial": lambda x=1: functools.partial(pow, x),
    "jitted": lambda x=1.0: jax.jit(_of_closure(x)),
    "grad": lambda x=1.0: jax.value_and_grad(_of_closure(x)),
    "custom derivative": lambda x=1.0: jax.custom_vjp(_of_closure(x)),
    "memoised": lambda x=1.0: functools.lru_cache(_of_closure(x)),
    "adam": lambda x=0.1: optax.adam(x),
    "schedule": lambda x=5: optax.lbfgs(optax.cosine_decay_schedule(0.1, x)),
    "state": lambda x=1.0: State(a=State(b=jnp.full(2, x))),
    "fact": lambda x=1: State({"n": x}.items(), a=jnp.ones(1)),
    "parameter": lambda x=1.0: Parameter(x),
    "bounds": lambda x=1.0: BoundedParameter(0.5, 0.0, x),
    "set": lambda x="z": {"a", "b", "c", x},
    "dict": lambda x=1: {"a": {"b": [x]}},
    "table": lambda x=1.0: pd.DataFrame({"a": [x, 2.0]}),
    "generator": lambda x=1: np.random.default_rng(x),
    "random state": lambda x=1: np.random.RandomState(x),
    "path": lambda x="a": Path("b") / x,
    "type": lambda x=int: x,
    "ufunc": lambda x=np.add: x,
    "compiled by numba": lambda x=1.0: numba.njit(_of_closure(x)),
    "method": lambda x=1.0: np.array([x]).sum,
    "callback": lambda x=3: MultiCallback([SavingCallback("state", every=x)]),
    "space": lambda x=3: tj.Space(State(a=tj.GridAxis(0.0, 1.0, x))),
    "slots": lambda x=1: types.SimpleNamespace(a=slice(0, x)),
    "model": lambda x=0.1: models.ReducedWongWang(w=np.array([x])),
}
OTHERS = {
    "callback": 4,
    "space": 4,
    "dtype": np.float32,
    "objects": "b",
    "set": "d",
    "path": "c",
    "type": float,
    "ufunc": np.multiply,
}


@pytest.mark.parametrize("name", VALUES)
def test_equal_content_is_the_same_and_other_content_is_not(name):
    make = VALUES[name]
    (default,) = make.__defaults__
    assert digest(make()) == digest(make(default))
    assert digest(make()) != digest(make(OTHERS.get(name, 3)))


def test_numbers_that_are_equal_in_python_may_compute_something_else():
    same = [1, 1.0, True, np.float64(1.0), np.float32(1.0), "1", jnp.asarray(1.0), np.asarray(1.0), [1], (1,)]
    assert len({digest(value) for value in same}) == len(same)
    assert digest(0.0) != digest(-0.0)
    assert digest(np.zeros((2, 3), order="F")) == digest(np.zeros((2, 3)))


def test_a_regular_expression_is_its_pattern_and_its_flags():
    assert digest(re.compile("a+")) == digest(re.compile("a+"))
    assert len({digest(re.compile(*arguments)) for arguments in (("a+",), ("a*",), ("a+", re.IGNORECASE))}) == 3


def test_what_holds_itself_has_a_digest():
    holder, other = [1, 2], [1, 2]
    holder.append({"of": holder})
    other.append({"of": other})
    assert digest(holder) == digest(other)
    other[0] = 3
    assert digest(holder) != digest(other)


class _Scaled:
    """Decorator with an attribute beside the function that it wraps."""

    def __init__(self, function, scale):
        functools.update_wrapper(self, function)
        self.function, self.scale = function, scale

    def __call__(self, x):
        return self.scale * self.function(x)


class _Titled:
    def __init__(self, title):
        self.title = title


class _Dict(dict):
    factor = 1


class _Float(float):
    factor = 1


def _with(value, factor):
    value.factor = factor
    return value


def _custom(factor):
    function = jax.custom_vjp(abs)
    function.defvjp(lambda x: (x, x), lambda x, g: (factor * g,))
    return function


@pytest.mark.parametrize(
    "make",
    [
        lambda factor: _Scaled(len, factor),
        lambda factor: _Titled(factor),
        lambda factor: _with(_Dict(a=1), factor),
        lambda factor: _with(_Float(1.0), factor),
        lambda factor: collections.defaultdict(functools.partial(int, factor)),
        lambda factor: np.ma.masked_equal([1, 2, 3], factor),
        lambda factor: _custom(factor),
        lambda factor: jax.vmap(_custom(factor)),
    ],
)
def test_what_is_held_beside_the_obvious_is_content(make):
    assert digest(make(2)) == digest(make(2)) != digest(make(3))


def test_functions_that_a_library_makes_in_one_place_are_not_each_other():
    source = "def pair(x):\n    return lambda y: x + y, lambda y: x * y\n"
    namespace = {"__name__": "tvb_jaxfit.made"}
    exec(compile(source, "made.py", "exec"), namespace)
    one, other = namespace["pair"](1.0)
    assert digest(one) == digest(namespace["pair"](1.0)[0]) != digest(other)


def test_transformations_of_one_function_are_not_each_other():
    transformed = [
        make(_of_closure(1.0)) for make in (jax.grad, jax.value_and_grad, jax.vmap, jax.checkpoint, jax.jacfwd)
    ]
    assert len({digest(function) for function in transformed}) == len(transformed)


class _Lazy:
    @functools.cached_property
    def double(self):
        return object()

    def __init__(self):
        self.x = 1


def test_what_is_worked_out_when_it_is_first_asked_for_is_not_content():
    lazy = _Lazy()
    before = digest(lazy)
    assert lazy.double
    assert digest(lazy) == before


def test_what_a_callback_remembers_of_a_fit_is_not_content():
    callback = MultiCallback([SavingCallback("state"), StopOnPlateau(3)])
    before = digest(callback)
    for step in range(3):
        callback(step, State(a=jnp.ones(1)), 1.0 / (1 + step), {})
    assert callback.saved["state"].step == [0, 1, 2] and digest(callback) == before


@pytest.mark.parametrize(
    "value,said",
    [
        (lambda: {"a": [1, (i for i in "abc")]}, r"explore\['a'\]\[1\]: a builtins.generator cannot be compared"),
        (lambda: _of_closure(open("/dev/null")), "explore -> value: a _io.TextIOWrapper cannot be compared"),
    ],
)
def test_what_has_no_content_is_refused_by_name(value, said):
    with pytest.raises(NotHashable, match=said):
        digest(value(), "explore")


def test_what_is_being_traced_is_refused():
    with pytest.raises(NotHashable, match="being traced by JAX"):
        jax.jit(lambda x: digest(x) and x)(1.0)


def test_the_environment_holds_the_precision():
    with jax.enable_x64(True):
        double = digest(environment())
    with jax.enable_x64(False):
        assert digest(environment()) != double


@pytest.fixture
def changed(build_small):
    """Function: digests of a simulator made of some parts, and of its simulate."""
    recorder = {"monitors": [monitors.TemporalAverage(period=8.0)]}

    def made(**parts):
        sim = build_small(steps=20, **(recorder | parts))
        of_sim = digest(sim)
        return of_sim, digest(tj.prepare(sim)[0])

    return made


class _Own(models.Linear):
    def dfun(self, state, coupling, local_coupling=0.0):
        return self.gamma * state + coupling


class _Other(models.Linear):
    def dfun(self, state, coupling, local_coupling=0.0):
        return self.gamma * state + 2.0 * coupling


def test_simulators_and_simulate_have_the_content_of_all_their_parts(changed, weights_6):
    def white_matter(speed):
        return Connectivity(
            weights=weights_6.copy(),
            tract_lengths=np.full((6, 6), 30.0),
            centres=np.zeros((6, 3)),
            region_labels=np.array(list("abcdef")),
            speed=np.array([speed]),
        )

    parts = [
        {},
        {"dt": 2.0},
        {"scheme": "EulerStochastic"},
        {"coupling": coupling.Sigmoidal()},
        {"coupling": coupling.Linear(a=np.array([0.07]), b=np.array([0.5]))},
        {"monitors": [monitors.TemporalAverage(period=16.0)]},
        {"monitors": [monitors.Raw()]},
        {"connectivity": white_matter(3.0)},
        {"connectivity": white_matter(1.0)},
        {"simulation_length": 100.0},
    ]
    digests = [changed(**part) for part in parts]
    assert len({of_sim for of_sim, _ in digests}) == len({of_simulate for _, of_simulate in digests}) == len(parts)
    assert changed() == digests[0]


def test_a_users_own_model_is_content(build_small):
    def of(model):
        sim = build_small(steps=20)
        sim.model = model()
        return digest(sim), digest(tj.prepare(sim)[0])

    _Other.__name__, _Other.__qualname__ = _Own.__name__, _Own.__qualname__
    assert all(own != other for own, other in zip(of(_Own), of(_Other), strict=True))


def test_a_run_changes_a_simulator_and_no_simulate(build_small):
    sim = build_small(steps=20)
    sim.configure()
    simulate, state = tj.prepare(sim)
    before = digest(sim), digest(simulate), digest(state)
    simulate(state).final_state.integrator.noise.draws.block_until_ready()
    assert (digest(sim), digest(simulate), digest(state)) == before
    sim.run()
    assert digest(sim) != before[0]


SCRIPT = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np, optax, tvb_jaxfit as tj
import conftest
from tvb_jaxfit.persistence.fingerprint.hasher import digest, environment
sim = conftest.simulator(np.ones((4, 4)), steps=20)
simulate, state = tj.prepare(sim)
names = {{"b", "a", "c"}}
def loss(state):
    (time, data), = simulate(state)
    return data.mean() + len(names)
print(digest([sim, state, loss, optax.adam(0.1), environment()]))
"""


@pytest.mark.slow
def test_another_process_gives_the_same():
    out = [
        subprocess.run([sys.executable, "-c", SCRIPT], cwd=Path(__file__).parents[2], capture_output=True, text=True)
        for _ in range(2)
    ]
    digests = [run.stdout.splitlines()[-1] for run in out]
    assert digests[0] == digests[1] and len(digests[0]) == 32
