"""A cached function is computed anew if a dependency has changed, or a warning names what is not tracked."""

import abc
import base64
import contextvars
import datetime
import decimal
import enum
import functools
import hashlib
import importlib
import os
import random
import subprocess
import sys
import textwrap
import threading
import types
import warnings
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from tvb.datatypes.connectivity import Connectivity
from tvb.simulator.lab import models

import tvb_jaxfit as tj
from tvb_jaxfit import cache, set_cache_path
from tvb_jaxfit.persistence.fingerprint.hasher import digest, digest_and_untracked
from tvb_jaxfit.persistence.fingerprint.installed import _edits_since_installation
from tvb_jaxfit.persistence.fingerprint.objects import NotHashable


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["tvb_jaxfit.persistence.cache"], "_folder", None)
    set_cache_path(tmp_path / "kept")


class Plain:
    def __init__(self, value=1.0):
        self.value = value


class Dropping(Plain):
    def __getstate__(self):
        return {}


class Rebuilt(Plain):
    def __reduce__(self):
        return Rebuilt, ()


class Named(Plain):
    def __reduce__(self):
        return "single"


class Unpicklable(Plain):
    def __reduce_ex__(self, protocol):
        raise TypeError("mine alone")


class Passing(Plain):
    _transient = ("value",)


class DroppingList(list):
    def __reduce__(self):
        return DroppingList, ()


class DroppingDict(dict):
    def __reduce__(self):
        return DroppingDict, ()


class DroppingArray(np.ndarray):
    def __reduce__(self):
        return DroppingArray, ((0,),)


class Lazy:
    source = 1.0

    @functools.cached_property
    def value(self):
        return np.array([self.source])


class Meta(type):
    value = 1.0

    def of(cls):
        return cls.value


class Made(metaclass=Meta):
    pass


class Colour(enum.Enum):
    RED = 1.0


class Grade(enum.IntEnum):
    LOW = 1


class Descriptor:
    def __init__(self):
        self.values = weakref.WeakKeyDictionary()

    def __get__(self, owner, kind):
        return self.values[owner]


class Described:
    value = Descriptor()


class Registry:
    kinds = {}

    def __init_subclass__(cls, **options):
        Registry.kinds[cls.__name__] = cls


class Abstract(abc.ABC):
    @abc.abstractmethod
    def value(self):
        """Nobody asks for it."""


class KeyedByName:
    held = {"value": 1.0}

    def __getattr__(self, name):
        return KeyedByName.held[name]


class Local(threading.local):
    value = 1.0


def _with(new, **held):
    vars(new).update(held)
    return new


dropping, rebuilt, single, unpicklable, passing = Dropping(), Rebuilt(), Named(), Unpicklable(), Passing()
listed, mapped = DroppingList([1.0]), DroppingDict(a=1.0)
array = np.ones(2).view(DroppingArray)
replaced_lazy, changed_lazy = _with(Lazy(), value=np.ones(1)), Lazy()
changed_lazy.value  # noqa: B018  it is worked out
described, referent = Described(), Plain()
Described.__dict__["value"].values[described] = 1.0
reference = weakref.ref(referent)
context, local = contextvars.ContextVar("context"), Local()
dispatched = functools.singledispatch(lambda x: 1.0)
view_of = bytearray(b"abc")
view, asked = memoryview(view_of), [KeyedByName()]
consumed, counted = iter([1.0, 2.0, 3.0]), [iter(range(5))]
box = [jnp.asarray(2.0)]
partial_of = functools.partial(lambda held: held["a"], {"a": 1.0})


def _follow_attribute(owner, name, value=7.0):
    return lambda: setattr(owner, name, value)


CHANGES = {
    "getstate": (lambda: dropping.value, _follow_attribute(dropping, "value")),
    "reduce": (lambda: rebuilt.value, _follow_attribute(rebuilt, "value")),
    "reduced to a name": (lambda: single.value, _follow_attribute(single, "value")),
    "refuses to be reduced": (lambda: unpicklable.value, _follow_attribute(unpicklable, "value")),
    "passing of the user's": (lambda: passing.value, _follow_attribute(passing, "value")),
    "items of a list": (lambda: listed[0], lambda: listed.__setitem__(0, 7.0)),
    "attribute of a list": (lambda: listed.extra, _follow_attribute(listed, "extra")),
    "items of a dict": (lambda: mapped["a"], lambda: mapped.update(a=7.0)),
    "values of an array": (lambda: array[0], lambda: array.__setitem__(0, 7.0)),
    "cached property assigned": (lambda: replaced_lazy.value, lambda: vars(replaced_lazy).update(value=np.zeros(1))),
    "cached property in place": (lambda: changed_lazy.value, lambda: changed_lazy.value.__setitem__(0, 7.0)),
    "metaclass": (lambda: Made.of(), _follow_attribute(Meta, "value")),
    "enum": (lambda: Colour.RED.value, _follow_attribute(Colour.RED, "_value_")),
    "attribute of an enum": (lambda: Colour.RED.extra, _follow_attribute(Colour.RED, "extra")),
    "attribute of an enum of numbers": (lambda: Grade.LOW.extra, _follow_attribute(Grade.LOW, "extra")),
    "descriptor": (lambda: described.value, lambda: Described.__dict__["value"].values.update({described: 7.0})),
    "weak reference": (lambda: reference().value, _follow_attribute(referent, "value")),
    "registry of classes": (lambda: len(Registry.kinds), lambda: type("New", (Registry,), {})),
    "registered with an abstract class": (lambda: issubclass(int, Abstract), lambda: Abstract.register(int)),
    "name of a class": (lambda: Plain.__name__, _follow_attribute(Plain, "__name__", "Other")),
    "attributes by name": (lambda: asked[0].value, lambda: KeyedByName.held.update(value=7.0)),
    "view of bytes": (lambda: bytes(view), lambda: view_of.__setitem__(0, 90)),
    "recursion limit": (lambda: sys.getrecursionlimit(), lambda: sys.setrecursionlimit(2345)),
    "current directory": (lambda: os.getcwd(), lambda: os.chdir("/")),
    "context variable": (lambda: context.get(1.0), lambda: context.set(7.0)),
    "of a thread": (lambda: local.value, _follow_attribute(local, "value")),
    "single dispatch": (lambda: dispatched(1.0), lambda: dispatched.register(float, lambda x: 7.0)),
    "iterator": (lambda: list(consumed), lambda: next(consumed)),
    "iterator in a list": (lambda: list(counted[0]), lambda: next(counted[0])),
    "weak type": (lambda: box[0].dtype, lambda: box.__setitem__(0, jnp.asarray(2.0, box[0].dtype))),
    "argument of a partial": (lambda: partial_of(), lambda: partial_of.args[0].update(a=7.0)),
    "stream of numpy": (lambda: np.random.rand(), lambda: np.random.rand()),
    "stream of Python": (lambda: random.random(), lambda: random.random()),
    "arguments of the process": (lambda: sys.argv[-1], lambda: sys.argv.append("more")),
    "environment": (lambda: os.environ["OF_A_TEST"], lambda: os.environ.update(OF_A_TEST="7")),
    "environment, two variables": (
        lambda: (os.environ.get("OF_A_TEST"), os.environ.get("HOME"), os.getenv("PATH")),
        lambda: os.environ.update(OF_A_TEST="7"),
    ),
    "environment, in nested functions": (
        lambda: ((lambda: os.environ["OF_A_TEST"])(), (lambda: os.environ["HOME"])()),
        lambda: os.environ.update(OF_A_TEST="7"),
    ),
    "environment, asked for": (lambda: os.environ.get("OF_A_TEST"), lambda: os.environ.update(OF_A_TEST="7")),
    "environment, getenv": (lambda: os.getenv("OF_A_TEST"), lambda: os.environ.update(OF_A_TEST="7")),
    "environment, computed name": (lambda: os.environ["OF_A" + "_TEST"[:5]], lambda: os.environ.update(OF_A_TEST="7")),
    "environment, all": (lambda: len(dict(os.environ)), lambda: os.environ.update(OF_A_TEST="7", B_TEST="1")),
}


@pytest.fixture
def world(monkeypatch):
    """Restore the environment, the arguments and the random streams of the process."""
    monkeypatch.setenv("OF_A_TEST", "1")
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.delenv("B_TEST", raising=False)
    monkeypatch.chdir(os.getcwd())
    streams, limit = (np.random.get_state(), random.getstate()), sys.getrecursionlimit()
    yield
    sys.setrecursionlimit(limit)
    os.environ.pop("B_TEST", None)
    np.random.set_state(streams[0])
    random.setstate(streams[1])


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_another_key_and_none_is_none(name, world):
    function, change = CHANGES[name]
    before = digest(function)
    assert digest(function) == before
    change()
    assert digest(function) != before


def test_another_variable_of_the_process_changes_nothing(world):
    before = digest(CHANGES["environment"][0])
    os.environ["B_TEST"] = "1"
    assert digest(CHANGES["environment"][0]) == before


def _seeds_first():
    np.random.seed(3)
    return np.random.rand()


def _seeds_last():
    drawn = np.random.rand()
    np.random.seed(3)
    return drawn


@pytest.mark.parametrize("function,is_content", [(_seeds_first, False), (_seeds_last, True)])
def test_where_a_stream_stood_is_no_matter_to_who_seeds_it_first(world, function, is_content):
    before = digest(function)
    np.random.rand()
    assert (digest(function) != before) == is_content


def test_an_import_in_the_function_is_followed(world, monkeypatch):
    def function():
        import os as system
        from os import environ

        return system.environ.get("OF_A_TEST"), environ.get("OF_A_TEST")

    before = digest(function)
    monkeypatch.setenv("OF_A_TEST", "7")
    assert digest(function) != before


def _mine(*_):
    return 7.0


@pytest.mark.parametrize(
    "owner,name,function",
    [
        (np, "mean", lambda: np.mean([1.0])),
        (tj, "rmse", lambda: tj.rmse(1.0, 2.0)),
        (np, "mean", lambda: scipy.stats.zscore([1.0, 2.0])),
        (models.ReducedWongWang, "dfun", lambda: models.ReducedWongWang().dfun(1.0, 2.0)),
    ],
    ids=["reached", "of this package", "called by a library", "method of a class of TVB"],
)
def test_a_function_of_a_library_that_was_replaced_is_computed_anew(owner, name, function, monkeypatch):
    before = cache("it")(function).path()
    assert cache("it")(function).path() == before
    monkeypatch.setattr(owner, name, _mine)
    assert cache("it")(function).path() != before


def test_one_function_of_a_library_in_place_of_another_is_computed_anew(monkeypatch):
    def function():
        return np.mean([1.0])

    before = digest(function)
    monkeypatch.setattr(np, "mean", np.median)
    assert digest(function) != before


@pytest.mark.parametrize(
    "function",
    [
        lambda: np.of_a_test,
        lambda: np.of_a_test.sum(),
        lambda: np.of_a_test[0] + np.of_a_test.max(),
        lambda: np.kept_of_a_test.get("value"),
    ],
)
def test_data_of_a_library_and_what_its_methods_give_are_content(function, monkeypatch):
    monkeypatch.setattr(np, "of_a_test", np.ones(3), raising=False)
    monkeypatch.setattr(np, "kept_of_a_test", {"value": 1.0}, raising=False)
    before = digest(function)
    assert digest(function) == before
    np.of_a_test[1], np.kept_of_a_test["value"] = 7.0, 7.0
    assert digest(function) != before


@pytest.mark.parametrize(
    "setting",
    [
        lambda: decimal.localcontext(prec=4),
        lambda: np.errstate(all="raise"),
        lambda: np.printoptions(precision=2),
        lambda: jax.default_matmul_precision("float32"),
    ],
    ids=["decimal", "errors of numpy", "text of numpy", "products in JAX"],
)
def test_settings_of_libraries_are_part_of_the_key(setting):
    function = cache("it")(lambda: 1.0)
    before = function.path()
    with setting():
        assert function.path() != before
    assert function.path() == before


LOOKED_UP = {
    "globals": lambda: globals()["looked_up"],
    "eval": lambda: eval("looked_up"),
    "import_module": lambda: importlib.import_module(__name__).looked_up,
    "modules": lambda: sys.modules[__name__].looked_up,
    "import": lambda: __import__(__name__).looked_up,
    "namespace of a function": lambda: _mine.__globals__["looked_up"],
    "docstring": lambda: looked_up if _mine.__doc__ is None else None,
    "an alias": lambda: _evaluate("looked_up"),
    "a helper": lambda: _look_up(),
}
looked_up, _evaluate = 1.0, eval


def _look_up():
    return globals()["looked_up"]


@pytest.mark.parametrize("name", [name for name in LOOKED_UP if name not in ("import", "import_module", "modules")])
def test_a_dynamic_lookup_is_computed_each_time_with_a_warning(name, monkeypatch):
    function = cache("it")(LOOKED_UP[name])
    for value in (1.0, 2.0):
        monkeypatch.setitem(globals(), "looked_up", value)
        with pytest.warns(
            UserWarning, match="'it' depends on what cannot be tracked: .* computed at each call"
        ) as caught:
            assert function() == value
        assert caught[0].filename == __file__


@pytest.mark.parametrize("name", LOOKED_UP)
def test_a_dynamic_lookup_is_untracked(name):
    assert not all(each.is_cacheable for each in digest_and_untracked(LOOKED_UP[name])[1].values())


OUTSIDE = {
    "clock": lambda: time_of(),
    "date": lambda: datetime.datetime.now(),
    "folder": lambda: os.listdir("."),
    "process": lambda: os.getpid(),
    "home": lambda: os.path.expanduser("~"),
    "simulator": lambda: Connectivity.from_file(),
    "open": lambda: open(os.devnull).read(),
    "numpy": lambda: np.load("x.npy"),
    "path": lambda: Path("x").read_text(),
    "existence": lambda: Path("x").exists(),
    "age": lambda: Path("x").stat().st_mtime,
    "entropy": lambda: np.random.default_rng().random(),
}


def time_of():
    import time

    return time.time()


@pytest.mark.parametrize("name", OUTSIDE)
def test_external_sources_are_named_and_the_result_is_stored(name):
    untracked = digest_and_untracked(OUTSIDE[name])[1]
    assert untracked and all(each.is_cacheable for each in untracked.values())


def test_a_clock_in_a_helper_is_named_once_and_the_first_result_comes_back():
    count = tj.SavingCallback("calls")

    @cache("it")
    def function():
        count(0, None, time_of(), {})
        return len(count.saved_values)

    with pytest.warns(UserWarning, match="cannot be tracked: time.time. The first result is returned") as caught:
        assert function() == function() == 1
    assert caught[0].filename == __file__


def test_without_untracked_dependencies_there_is_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache("it")(lambda: float(np.random.RandomState(1).rand() + np.mean([math_of(2.0)])))()


def math_of(x):
    import math

    print("a line", file=sys.stderr)
    return math.sqrt(x) * np.pi


class Failing:
    @property
    def __dict__(self):
        raise RuntimeError("mine")


def test_an_object_whose_attributes_raise_is_refused_by_name():
    failing = Failing()
    with pytest.raises(NotHashable, match=r"it.* -> failing: a .*Failing cannot be compared by content .*mine"):
        cache("it")(lambda: failing)()


def test_a_cached_property_that_is_only_asked_for_changes_nothing():
    lazy = Lazy()
    before = digest(lazy)
    assert lazy.value[0] == 1.0
    assert digest(lazy) == before
    lazy.value = lazy.value + 1.0
    assert digest(lazy) != before


@pytest.mark.parametrize(
    "result",
    [lambda: _endless(), lambda: (i for i in "abc"), lambda: 10**5000, lambda: types],
    ids=["holds itself", "generator", "long number", "module"],
)
def test_a_result_that_cannot_be_stored_is_returned_and_not_lost(result):
    count = tj.SavingCallback("calls")

    @cache("it")
    def function():
        count(0, None, 1.0, {})
        return result()

    with pytest.warns(UserWarning, match="the result of 'it' was not stored"):
        assert type(function()) is type(result())
    assert len(count.saved_values) == 1


def _endless():
    holder = []
    holder.append(holder)
    return holder


def test_weak_types_come_back_weak():
    weak, strong = [jnp.asarray(2.0), jnp.asarray(2), jnp.full(2, 3)], [jnp.asarray(2.0, jnp.float32), jnp.ones(2)]
    function = cache("it")(lambda: weak + strong)
    first, again = function(), function()
    assert [each.weak_type for each in again] == [each.weak_type for each in first] == [True] * 3 + [False] * 2
    assert [each.dtype for each in again] == [each.dtype for each in first]


PACKAGE = {
    "inner.py": "SCALE = 2.0\n",
    "__init__.py": "from .inner import SCALE\ndef scaled(x):\n    return SCALE * x\n",
}


def _install(folder):
    package = folder / "site-packages" / "installed_of_a_test"
    package.mkdir(parents=True)
    for name, text in PACKAGE.items():
        (package / name).write_text(text)
    return package


def _key_there(folder, package):
    script = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import installed_of_a_test
        from tvb_jaxfit.persistence.fingerprint.hasher import digest
        print(digest(lambda x: installed_of_a_test.scaled(x)))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(package.parent)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout


def test_an_installed_package_that_was_edited_is_another_one(tmp_path):
    package = _install(tmp_path)
    before = _key_there(tmp_path, package)
    (package / "inner.py").write_text("SCALE = 3.0\n")
    assert _key_there(tmp_path, package) != before
    (package / "inner.py").write_text(PACKAGE["inner.py"])
    assert _key_there(tmp_path, package) == before


@pytest.mark.parametrize("new,is_edited", [("SCALE = 3.0\n", True), (PACKAGE["inner.py"], False)])
def test_of_a_package_with_a_record_what_was_edited_counts(tmp_path, monkeypatch, new, is_edited):
    package = _install(tmp_path)
    hashed = base64.urlsafe_b64encode(hashlib.sha256(PACKAGE["inner.py"].encode()).digest()).rstrip(b"=").decode()
    info = package.parent / "of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: of-a-test\nVersion: 1.0\n")
    record = f"installed_of_a_test/inner.py,sha256={hashed},12\nof_a_test-1.0.dist-info/RECORD,,\n"
    (info / "RECORD").write_text(record)
    monkeypatch.syspath_prepend(package.parent)
    libraries = sys.modules["tvb_jaxfit.persistence.fingerprint.installed"]
    libraries._distributions.cache_clear()
    _edits_since_installation.cache_clear()
    assert _edits_since_installation("installed_of_a_test") == ""
    (package / "inner.py").write_text(new)
    later = (info / "RECORD").stat().st_mtime + 10.0
    os.utime(package / "inner.py", (later, later))
    _edits_since_installation.cache_clear()
    assert (_edits_since_installation("installed_of_a_test") != "") == is_edited
    libraries._distributions.cache_clear()
    _edits_since_installation.cache_clear()
