"""Trees in files: arrays and JSON, never anything that is run when it is read."""

import json

import jax
import jax.numpy as jnp
import numpy as np

from . import _CLASSES, class_name, registered_class
from .atomic import atomic_write

_FORMAT = "tvb_jaxfit 1"
# Python's own numbers give weak types.
_WEAK = {"i": int, "f": float, "c": complex}


class NotSerialisable(TypeError):
    """Something that has no form as arrays and JSON."""


class ReadError(ValueError):
    """A file that is damaged, or that is none of ours."""


def write(path, tree, kind):
    """Put a tree into a file, which is there whole or as it was before, whatever happens.

    Parameters
    ----------
    path : path-like
        Its directory is made where there is none.
    tree
        Of numbers, strings, None, arrays, lists, tuples, dicts, sets, `State`, `Parameter`, `History`, `Exploration`
        and what these consist of.
    kind : str
        What `read` is to find.

    Raises
    ------
    NotSerialisable
        Where there is something else in the tree; nothing is written.
    OSError
        As of any writing: a full disk, a place that may not be written.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> from tvb_jaxfit.persistence.serialise import read, write
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "tree.npz"
    >>> write(path, {"a": [1, np.arange(3)], 2: (None, float("inf"))}, "example")
    >>> read(path, "example")
    {'a': [1, array([0, 1, 2])], 2: (None, inf)}
    """
    arrays = tree_to_arrays(tree, kind)
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def tree_to_arrays(tree, kind):
    """Arrays by name that `read` makes the tree of, once `numpy.savez` has put them into a file.

    Raises
    ------
    NotSerialisable
        As `write`.
    """
    writer = _Writer()
    root = writer.node(tree, "")
    text = json.dumps({"format": _FORMAT, "kind": kind, "root": root, "objects": writer.objects})
    arrays = {f"a{index}": array for index, array in enumerate(writer.arrays)}
    return {"json": np.frombuffer(text.encode(), np.uint8)} | arrays


def read(path, kind):
    """Tree from a file.

    Parameters
    ----------
    path : path-like
    kind : str
        As it was written.

    Returns
    -------
    tree
        With new arrays; what was one array or one random stream at several places is one again.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        Where there is none.
    ReadError
        Where it is damaged, or no file of this kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            told = json.loads(bytes(file["json"]).decode())
            if told["format"] != _FORMAT or told["kind"] != kind:
                raise ValueError(f"it is of the kind {told['kind']!r}, {told['format']!r}")
            arrays = [file[f"a{index}"] for index in range(len(file.files) - 1)]
        return _Reader(arrays, told["objects"]).node(told["root"])
    except (FileNotFoundError, NotADirectoryError):
        raise
    # What a broken file makes of the reader can be anything.
    except Exception as error:
        raise ReadError(f"{path} is damaged, or no {kind} of tvb_jaxfit ({type(error).__name__}: {error})") from error


class _Writer:
    """Nodes as JSON; arrays and objects beside it, each once."""

    def __init__(self):
        self.arrays, self.objects, self._seen = [], [], {}

    def node(self, value, path):
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind in (list, tuple, set, frozenset):
            return {kind.__name__: [self.node(item, f"{path}[{i}]") for i, item in enumerate(value)]}
        if kind is dict:
            return {"dict": [[self.node(k, path), self.node(v, f"{path}[{k!r}]")] for k, v in value.items()]}
        if kind is complex:
            return {"complex": [value.real, value.imag]}
        if isinstance(value, (np.ndarray, np.generic, jax.Array)):
            return self._array(value, path)
        if _CLASSES.get(class_name(kind)) is kind:
            return self._object(value, path)
        raise NotSerialisable(
            f"result{path}: {kind.__module__}.{kind.__name__} cannot be stored as arrays and JSON. Return numbers, "
            "strings, arrays, lists, dicts, states, histories or explorations."
        )

    def _array(self, value, path):
        if id(value) not in self._seen:
            form = "jax" if isinstance(value, jax.Array) else "numpy" if isinstance(value, np.ndarray) else "scalar"
            array = value
            if form == "jax" and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                form, array = f"key {jax.random.key_impl(value)}", jax.random.key_data(value)
            elif form == "jax" and value.weak_type and value.dtype.kind in _WEAK:
                form = "weak"
            array = np.asarray(array)
            if type(value) is not np.ndarray and form == "numpy" or array.dtype.hasobject or array.dtype.kind == "V":
                raise NotSerialisable(f"result{path}: a {type(value).__name__} of {array.dtype} cannot be stored.")
            self.arrays.append(array)
            # The value is held, so that its id stays its own.
            self._seen[id(value)] = value, {"array": len(self.arrays) - 1, "as": form}
        return self._seen[id(value)][1]

    def _object(self, value, path):
        if id(value) not in self._seen:
            self._seen[id(value)] = value, {"object": len(self.objects)}
            self.objects.append(None)
            self.objects[self._seen[id(value)][1]["object"]] = {
                "class": class_name(type(value)),
                "attributes": {name: self.node(item, f"{path}.{name}") for name, item in vars(value).items()},
            }
        return self._seen[id(value)][1]


class _Reader:
    """`_Writer` backwards."""

    def __init__(self, arrays, objects):
        self._arrays, self._objects, self._made = arrays, objects, {}

    def node(self, node):
        if not isinstance(node, dict):
            return node
        if "array" in node:
            return self._once(("array", node["array"], node["as"]), self._array)
        if "object" in node:
            return self._once(("object", node["object"]), self._object)
        ((kind, items),) = node.items()
        if kind == "dict":
            return {self.node(key): self.node(value) for key, value in items}
        if kind == "complex":
            return complex(*items)
        return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](map(self.node, items))

    def _once(self, key, make):
        if key not in self._made:
            self._made[key] = make(*key[1:])
        return self._made[key]

    def _array(self, index, form):
        array = self._arrays[index]
        if form == "numpy":
            return array
        if form == "scalar":
            return array[()]
        if form == "weak":
            weak = jnp.broadcast_to(jnp.asarray(_WEAK[array.dtype.kind](0)), array.shape)
            return weak.at[...].set(array)
        return jnp.asarray(array) if form == "jax" else jax.random.wrap_key_data(array, impl=form.partition(" ")[2])

    def _object(self, index):
        name, attributes = self._objects[index]["class"], self._objects[index]["attributes"]
        attributes = {key: self.node(item) for key, item in attributes.items()}
        new = object.__new__(registered_class(name))
        vars(new).update(attributes)
        return new
