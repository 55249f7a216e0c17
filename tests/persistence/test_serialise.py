"""A file names the classes of what it contains; only classes that have registered themselves are restored."""

import enum
import json

import numpy as np
import pytest

import tvb_jaxfit as tj
from tvb_jaxfit.persistence import registry, serialisable
from tvb_jaxfit.persistence.serialise import NotSerialisable, ReadError, read, write


@pytest.fixture
def registered(monkeypatch):
    """Function: register a class for the length of a test."""
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    return serialisable


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Word(enum.StrEnum):
    YES = "yes"


class Point:
    def __init__(self, x):
        self.x = x


def test_members_of_enums_and_instances_come_back(registered, tmp_path):
    for cls in (Colour, Word, Point):
        registered(cls)
    write(tmp_path / "tree.npz", [Colour.BLUE, {"word": Word.YES}, Point(Colour.RED)], "a test")
    colour, words, point = read(tmp_path / "tree.npz", "a test")
    assert colour is Colour.BLUE and words["word"] is Word.YES and type(point) is Point and point.x is Colour.RED


@pytest.mark.parametrize("value", [Colour.RED, Word.YES, Point(1)])
def test_what_is_not_registered_is_refused(value, tmp_path):
    with pytest.raises(NotSerialisable, match="cannot be stored as arrays and JSON"):
        write(tmp_path / "tree.npz", value, "a test")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["subprocess.Popen", "tvb_jaxfit.persistence.serialise._Reader", "tvb_jaxfit.absent.State", "State"]
)
def test_a_file_that_names_another_class_is_not_read(name, tmp_path):
    path = tmp_path / "tree.npz"
    write(path, tj.State(a=np.ones(1)), "a test")
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(bytes(arrays["json"]).decode())
    header["objects"][0]["class"] = name
    arrays["json"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises(ReadError, match="is damaged, or no a test of tvb_jaxfit"):
        read(path, "a test")
