"""GPUs are found without starting JAX, and each worker has one."""

import pytest

from tvb_jaxfit import ProcessWorkers
from tvb_jaxfit.runtime import accelerators
from tvb_jaxfit.runtime.accelerators import default_n_workers, environment_of, gpus
from tvb_jaxfit.runtime.processes import processors


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with three GPUs, and JAX's support for them."""
    for name in ("nvidia0", "nvidia1", "nvidia10", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(accelerators, "_DEVICES", tmp_path)
    monkeypatch.setattr(accelerators, "_is_installed", lambda package: package.endswith("cuda12"))
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_gpus_of_a_machine(machine):
    assert gpus() == ["0", "1", "10"]
    assert default_n_workers() == 3


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        ("", []),
        ("2", ["2"]),
        ("3, 1", ["3", "1"]),
        ("0,-1,2", ["0"]),
        ("-1", []),
        ("GPU-8f2a,MIG-1", ["GPU-8f2a", "MIG-1"]),
    ],
)
def test_visible_devices_are_respected(machine, visible, found):
    machine.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == found


@pytest.mark.parametrize(
    ("platforms", "n"), [("cpu", 0), ("cuda,cpu", 3), ("gpu", 3), ("rocm", 0)], ids=lambda value: str(value)
)
def test_another_platform_uses_no_gpu(machine, platforms, n):
    machine.setenv("JAX_PLATFORMS", platforms)
    assert len(gpus()) == n


def test_without_support_of_jax_there_are_none(machine):
    machine.setattr(accelerators, "_is_installed", lambda package: False)
    assert gpus() == []
    assert default_n_workers() == len(processors())


def test_workers_have_one_gpu_each_or_share_its_memory(machine):
    found = [environment_of(worker, 4, ["3", "5"]) for worker in range(4)]
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["3", "5", "3", "5"]
    assert {each["XLA_PYTHON_CLIENT_MEM_FRACTION"] for each in found} == {"0.450"}
    assert environment_of(1, 2, ["3", "5"]) == {"CUDA_VISIBLE_DEVICES": "5"}
    assert environment_of(0, 2, []) == {}
    machine.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.3")
    assert environment_of(0, 2, ["3"]) == {"CUDA_VISIBLE_DEVICES": "3"}


def test_a_worker_starts_with_its_gpu(machine):
    machine.setenv("CUDA_VISIBLE_DEVICES", "7")

    def visible():
        import os

        return os.environ["CUDA_VISIBLE_DEVICES"], "jax" in __import__("sys").modules

    with ProcessWorkers() as workers:
        assert workers.n_workers == 1
        assert workers.submit(visible).result()[0] == "7"
