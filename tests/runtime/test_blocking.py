"""Programs of several batches of LAPACK calls end, and have the numbers that they have without an order of these."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tvb_jaxfit.runtime.blocking import evaluate_in_order, n_blocking

ROOT = Path(__file__).parents[2]
RANDOM = np.random.default_rng(0)
A = RANDOM.normal(size=(5, 4, 4)) + 4.0 * np.eye(4)
B = RANDOM.normal(size=(5, 4, 4)) + 1j


def several(a, b):
    return [jnp.linalg.solve(a.astype(complex), b * k) for k in (1.0, 2.0, -3.0)] + [
        jnp.fft.fft(jnp.cos(a)),
        jnp.linalg.eigh(a)[0],
    ]


def in_a_scan(a, b):
    def step(carry, each):
        solved = jnp.linalg.solve(a + carry, a) + jnp.linalg.inv(a - carry)
        return carry + jnp.mean(solved), jnp.linalg.solve(a, each.real)

    return lax.scan(step, jnp.asarray(0.1), jnp.stack([b, 2.0 * b])), jnp.linalg.inv(a)


def in_a_while(a, b):
    def body(carry):
        return carry[0] + 1, jnp.linalg.solve(a, carry[1]) + jnp.linalg.inv(a)

    return lax.while_loop(lambda carry: carry[0] < 3, body, (0, a)), jnp.linalg.inv(a)


def in_a_branch(a, b):
    return lax.cond(
        a[0, 0, 0] > 0.0, lambda x: jnp.linalg.inv(x) + jnp.linalg.solve(x, 2.0 * x), lambda x: jnp.linalg.inv(-x), a
    ), jnp.linalg.inv(a)


def gradient(a, b):
    return jax.grad(lambda x: sum(jnp.sum(jnp.abs(each) ** 2) for each in several(x, b)[:3]))(a)


def of_nan(a, b):
    bad = a.at[0, 0, 0].set(jnp.nan)
    return jnp.linalg.inv(bad), jnp.linalg.inv(a), jnp.linalg.inv(-a)


FUNCTIONS = [several, in_a_scan, in_a_while, in_a_branch, gradient, of_nan]


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(each, marks=[pytest.mark.slow] * (each in (in_a_scan, in_a_while)), id=each.__name__)
        for each in FUNCTIONS
    ],
)
def test_the_numbers_are_the_same_bit_for_bit(function):
    closed = jax.make_jaxpr(function)(A, B)
    arguments = [jnp.asarray(A), jnp.asarray(B)]
    assert n_blocking(closed.jaxpr) > 1
    plain = jax.jit(lambda *x: jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *x))(*arguments)
    ordered = jax.jit(lambda *x: evaluate_in_order(closed.jaxpr, closed.consts, x))(*arguments)
    for one, other in zip(plain, ordered, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def _calls_in_order(function):
    """True if each LAPACK call of the compiled main computation depends on the one before."""
    closed = jax.make_jaxpr(function)(A, B)
    compiled = jax.jit(lambda *x: evaluate_in_order(closed.jaxpr, closed.consts, x)).lower(A, B).compile()
    return _is_chain(compiled.as_text())


def _is_chain(text):
    main = text[text.index("ENTRY") :]
    ancestors, former, chained, n_calls = {}, set(), True, 0
    for line in main.splitlines():
        found = re.match(r"\s*(?:ROOT )?%?([\w.-]+) = (.*)", line)
        if not found:
            continue
        name, rest = found[1], found[2].split(", metadata=")[0]
        operands = [each for each in re.findall(r"%([\w.-]+)", rest) if each in ancestors]
        ancestors[name] = set().union(*(ancestors[each] for each in operands))
        if "lapack_" in rest or " fft(" in rest:
            chained, n_calls = chained and former <= ancestors[name], n_calls + 1
            ancestors[name] = ancestors[name] | {name}
            former = {name}
    assert n_calls > 2
    return chained


@pytest.mark.parametrize("function", [several, gradient, of_nan], ids=lambda function: function.__name__)
def test_each_call_of_the_compiled_program_depends_on_the_one_before(function):
    assert _calls_in_order(function)


def test_without_the_order_calls_are_independent():
    assert not _is_chain(jax.jit(several).lower(A, B).compile().as_text())


SCRIPT = """
import os, sys
os.environ["OPENBLAS_NUM_THREADS"] = "1"
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax
import jax.numpy as jnp
from tvb_jaxfit.runtime.programs import Program

jax.config.update("jax_enable_x64", True)
key = jax.random.key(0)
a = jax.random.normal(key, (64, 40, 40)) + 1j
def several(a):
    return sum(jnp.sum(jnp.abs(jnp.linalg.solve(a * jnp.cos(0.1 * k), jnp.sin(a + k)))) for k in range(6))
run = Program(several) if sys.argv[1] == "program" else jax.jit(several)
for _ in range(30):
    jax.block_until_ready(run(a))
print("ended")
"""


def _ends(kind, seconds):
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, kind], timeout=seconds, capture_output=True, text=True, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return False
    assert done.returncode == 0, done.stderr
    return "ended" in done.stdout


def test_a_program_of_many_batches_ends_on_two_processors():
    assert _ends("program", 120)


@pytest.mark.slow
def test_jit_alone_does_not_end():
    """Negative control. Where it fails, XLA runs such programs well, and the order can go."""
    assert not _ends("jit", 60)
