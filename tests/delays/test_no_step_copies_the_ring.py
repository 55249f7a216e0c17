"""The ring buffer of delayed samples is changed in place: no compiled loop creates an array of its size.

The time of a step therefore does not depend on the longest delay.
"""

import re
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tvb.simulator import coupling, integrators, models, monitors
from tvb.simulator.simulator import Simulator

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.adjoint import trajectory
from tvb_jaxfit.dynamics.network import coupling_series
from tvb_jaxfit.dynamics.step import Step

N_NODE, HORIZON, N_STEPS = 5, 4001, 24
# Elements of a large array: 90 % of the smallest ring, and far more than any other array of these programs.
SIZE = 9 * N_NODE * HORIZON // 10
INSTRUCTION = re.compile(r"^\s+(ROOT )?%(\S+) = (.*?) ([\w-]+)\((.*)$")
# Operations that pass an array on, or change it in place.
IN_PLACE = {
    "bitcast",
    "call",
    "conditional",
    "dynamic-update-slice",
    "get-tuple-element",
    "parameter",
    "tuple",
    "while",
}


def _computations(text):
    """Instructions of a compiled program, by computation and name: (root, shape, operation, rest of the line)."""
    found, lines = {}, None
    for line in text.splitlines():
        if line.endswith("{") and "->" in line and not line.startswith(" "):
            lines = found.setdefault(line.removeprefix("ENTRY ").split(" (")[0].lstrip("%"), {})
        elif lines is not None and (match := INSTRUCTION.match(line)):
            root, name, *rest = match.groups()
            lines[name] = (root, *rest)
    return found


def _is_large(shape):
    return any(prod(map(int, filter(None, one.split(",")))) >= SIZE for one in re.findall(r"\w+\[([\d,]*)\]", shape))


def _names(rest):
    return re.findall(r"%([\w.\-]+)", rest)


def _changes_in_place(lines):
    """True if the large results of a fused computation are its operands, changed in a few elements."""

    def is_operand(name):
        _, shape, operation, rest = lines[name]
        operands = _names(rest.split("), ")[0])
        if not _is_large(shape) or operation == "parameter":
            return True
        if operation in ("dynamic-update-slice", "scatter"):
            return is_operand(operands[0])
        return operation in ("bitcast", "tuple", "get-tuple-element") and all(map(is_operand, operands))

    return all(is_operand(name) for name, (root, *_) in lines.items() if root)


def created_in_loops(text):
    """Instructions in loops that create an array of the size of a ring."""
    computations = _computations(text)
    instructions = [instruction for lines in computations.values() for instruction in lines.values()]
    bodies = (re.findall(r"body=%([\w.\-]+)", rest) for _, _, operation, rest in instructions if operation == "while")
    todo = [body for names in bodies for body in names]
    assert todo
    visited, found = set(), []
    while todo:
        body = todo.pop()
        if body in visited:
            continue
        visited.add(body)
        for name, (_, shape, operation, rest) in computations[body].items():
            if operation in ("call", "conditional"):
                todo += [called for called in _names(rest) if called in computations]
            called = re.search(r"calls=%([\w.\-]+)", rest)
            in_place = operation == "fusion" and called and _changes_in_place(computations[called[1]])
            if _is_large(shape) and operation not in IN_PLACE and not in_place:
                found.append(f"{name}: {operation} {shape}")
    return found


def _local(theta, x, c, inputs):
    """Two variables, of which only the second depends on the coupling: in an Euler step the first does not."""
    change = jnp.stack([x[1], theta["rate"] * (c[0] - x[0]) - jnp.tanh(x[1])])
    return x + 0.1 * change


def _post(theta, s, y):
    return s[:1]


def _pairs(theta, weights, y_i, y_j):
    return jnp.einsum("ij,ikjm->kim", weights, jnp.tanh(y_j - jnp.swapaxes(y_i[None], 0, 2)))


DELAYS = np.random.default_rng(0).integers(1, HORIZON, (N_NODE, N_NODE))
DELAYS[0, 1] = HORIZON - 1
STEPS = {
    "one channel": (Step(_local, (0,), _post, delays=DELAYS), 1),
    "two channels, one constant": (
        Step(_local, (0,), _post, lambda theta, y: jnp.concatenate([y, jnp.ones_like(y)]), delays=DELAYS),
        1,
    ),
    "three modes": (Step(_local, (0,), _post, delays=DELAYS), 3),
    "nonlocal": (Step(_local, (0,), _post, delays=DELAYS, is_nonlocal=True), 1),
    "pairwise": (Step(_local, (0,), _post, pairwise=_pairs, delays=DELAYS), 1),
}


def _text(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


def _cases():
    """All kinds, unbatched; in a batch, by default, the kind whose samples have the most axes."""
    for kind in STEPS:
        yield from ((kind, "run"), (kind, "gradient"))
        yield pytest.param(kind, "gradients of a batch", marks=() if kind == "three modes" else pytest.mark.slow)


@pytest.mark.parametrize("kind, program", list(_cases()))
def test_no_loop_creates_an_array_of_the_size_of_the_ring(kind, program):
    step, n_mode = STEPS[kind]
    weights, past = jnp.ones((N_NODE, N_NODE)), jnp.ones((HORIZON, 2, N_NODE, n_mode))
    theta = {"rate": jnp.ones((N_NODE, 1))}

    def loss(weights, theta, past):
        return jnp.sum(trajectory(step, N_STEPS, theta, weights, past, {}) ** 2)

    if program == "gradients of a batch":
        gradient = jax.vmap(jax.grad(loss, (0, 1)), (0, None, None))
        text = _text(gradient, jnp.stack([weights, 2.0 * weights]), theta, past)
    else:
        text = _text(loss if program == "run" else jax.grad(loss, (0, 1)), weights, theta, past)
    assert created_in_loops(text) == []


def test_nor_does_the_time_series_of_the_coupling():
    step, _ = STEPS["two channels, one constant"]
    past, states = jnp.ones((HORIZON, 2, N_NODE, 1)), jnp.ones((N_STEPS, 2, N_NODE, 1))

    def loss(weights, states):
        return jnp.sum(coupling_series(step, {"rate": jnp.ones((N_NODE, 1))}, weights, past, states) ** 2)

    assert created_in_loops(_text(jax.grad(loss, (0, 1)), jnp.ones((N_NODE, N_NODE)), states)) == []


@pytest.mark.parametrize(
    "model",
    [
        models.MontbrioPazoRoxin,
        *(pytest.param(m, marks=pytest.mark.slow) for m in (models.Epileptor, models.WilsonCowan)),
    ],
)
def test_nor_does_a_run_of_a_tvb_simulator(connectivity_of, model):
    weights = np.ones((N_NODE, N_NODE)) - np.eye(N_NODE)
    white_matter = connectivity_of(weights, DELAYS * 0.1, speed=1.0)
    sim = Simulator(
        connectivity=white_matter,
        model=model(),
        coupling=coupling.Difference(),
        integrator=integrators.EulerDeterministic(dt=0.1),
        monitors=[monitors.TemporalAverage(period=0.8)],
        simulation_length=N_STEPS * 0.1,
    )
    simulate, state = tj.prepare(sim)
    assert simulate.step.horizon == HORIZON
    assert created_in_loops(_text(simulate._simulate_state, tj.parameters.strip_parameters(state))) == []


def test_a_copy_of_a_ring_that_is_read_before_it_is_written_is_found():
    """Negative control: XLA may schedule the write first, and then needs a copy."""

    def body(carry, time):
        x, ring = carry
        x = 0.9 * x + jnp.sum(ring.at[DELAYS].get(mode="promise_in_bounds"))
        return (x, jax.lax.dynamic_update_slice(ring, jnp.ones(N_NODE), (time,))), x

    def run(x, ring):
        return jax.lax.scan(body, (x, ring), jnp.arange(N_STEPS, dtype=jnp.int32))[1]

    assert created_in_loops(_text(run, jnp.ones(()), jnp.ones(N_NODE * HORIZON)))
