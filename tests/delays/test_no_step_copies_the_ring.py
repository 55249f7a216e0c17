"""The samples on their way are changed in place: the compiled loops make no array of their size, so that a step costs
the same whatever the longest delay."""

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
# Far more than any other array here has, of the smallest ring.
SIZE = 9 * N_NODE * HORIZON // 10
INSTRUCTION = re.compile(r"^\s+(ROOT )?%(\S+) = (.*?) ([\w-]+)\((.*)$")
# What hands an array on, or changes it where it lies.
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
    """Instructions (root, shape, operation, the rest) by name of a compiled program's computations."""
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
    """Whether the large results of a fused computation are its operands, changed in a few places."""

    def of(name):
        _, shape, operation, rest = lines[name]
        operands = _names(rest.split("), ")[0])
        if not _is_large(shape) or operation == "parameter":
            return True
        if operation in ("dynamic-update-slice", "scatter"):
            return of(operands[0])
        return operation in ("bitcast", "tuple", "get-tuple-element") and all(map(of, operands))

    return all(of(name) for name, (root, *_) in lines.items() if root)


def made_in_loops(text):
    """Instructions in loops that make an array of a ring's size."""
    every = _computations(text)
    instructions = [one for lines in every.values() for one in lines.values()]
    bodies = (re.findall(r"body=%([\w.\-]+)", rest) for _, _, operation, rest in instructions if operation == "while")
    todo = [body for of_loop in bodies for body in of_loop]
    assert todo
    seen, found = set(), []
    while todo:
        body = todo.pop()
        if body in seen:
            continue
        seen.add(body)
        for name, (_, shape, operation, rest) in every[body].items():
            if operation in ("call", "conditional"):
                todo += [called for called in _names(rest) if called in every]
            called = re.search(r"calls=%([\w.\-]+)", rest)
            fused = operation == "fusion" and called and _changes_in_place(every[called[1]])
            if _is_large(shape) and operation not in IN_PLACE and not fused:
                found.append(f"{name}: {operation} {shape}")
    return found


def _local(theta, x, c, inputs):
    """Two variables, of which the coupling enters one: by Euler, the other does not depend on what is read."""
    moved = jnp.stack([x[1], theta["rate"] * (c[0] - x[0]) - jnp.tanh(x[1])])
    return x + 0.1 * moved


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
    "nodes that mix": (Step(_local, (0,), _post, delays=DELAYS, is_nonlocal=True), 1),
    "pairs": (Step(_local, (0,), _post, pairwise=_pairs, delays=DELAYS), 1),
}


def _text(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().as_text()


def _cases():
    """All kinds one by one; in a batch, by default, the kind whose ring has the most axes."""
    for kind in STEPS:
        yield from ((kind, "run"), (kind, "gradient"))
        yield pytest.param(kind, "gradients of a batch", marks=() if kind == "three modes" else pytest.mark.slow)


@pytest.mark.parametrize("kind, way", list(_cases()))
def test_no_loop_makes_an_array_of_the_size_of_the_ring(kind, way):
    step, n_mode = STEPS[kind]
    weights, past = jnp.ones((N_NODE, N_NODE)), jnp.ones((HORIZON, 2, N_NODE, n_mode))
    theta = {"rate": jnp.ones((N_NODE, 1))}

    def of(weights, theta, past):
        return jnp.sum(trajectory(step, N_STEPS, theta, weights, past, {}) ** 2)

    if way == "gradients of a batch":
        gradient = jax.vmap(jax.grad(of, (0, 1)), (0, None, None))
        text = _text(gradient, jnp.stack([weights, 2.0 * weights]), theta, past)
    else:
        text = _text(of if way == "run" else jax.grad(of, (0, 1)), weights, theta, past)
    assert made_in_loops(text) == []


def test_neither_does_the_series_of_the_coupling():
    step, _ = STEPS["two channels, one constant"]
    past, states = jnp.ones((HORIZON, 2, N_NODE, 1)), jnp.ones((N_STEPS, 2, N_NODE, 1))

    def of(weights, states):
        return jnp.sum(coupling_series(step, {"rate": jnp.ones((N_NODE, 1))}, weights, past, states) ** 2)

    assert made_in_loops(_text(jax.grad(of, (0, 1)), jnp.ones((N_NODE, N_NODE)), states)) == []


@pytest.mark.parametrize(
    "of_model",
    [
        models.MontbrioPazoRoxin,
        *(pytest.param(m, marks=pytest.mark.slow) for m in (models.Epileptor, models.WilsonCowan)),
    ],
)
def test_neither_does_a_run_of_a_simulator_of_tvb(connectivity_of, of_model):
    weights = np.ones((N_NODE, N_NODE)) - np.eye(N_NODE)
    white_matter = connectivity_of(weights, DELAYS * 0.1, speed=1.0)
    sim = Simulator(
        connectivity=white_matter,
        model=of_model(),
        coupling=coupling.Difference(),
        integrator=integrators.EulerDeterministic(dt=0.1),
        monitors=[monitors.TemporalAverage(period=0.8)],
        simulation_length=N_STEPS * 0.1,
    )
    simulate, state = tj.prepare(sim)
    assert simulate.step.horizon == HORIZON
    assert made_in_loops(_text(simulate._simulate_state, tj.parameters.strip_parameters(state))) == []


def test_a_ring_that_is_read_before_it_is_written_is_found():
    """XLA may write first, and then needs a copy."""

    def body(carry, time):
        x, ring = carry
        x = 0.9 * x + jnp.sum(ring.at[DELAYS].get(mode="promise_in_bounds"))
        return (x, jax.lax.dynamic_update_slice(ring, jnp.ones(N_NODE), (time,))), x

    def run(x, ring):
        return jax.lax.scan(body, (x, ring), jnp.arange(N_STEPS, dtype=jnp.int32))[1]

    assert made_in_loops(_text(run, jnp.ones(()), jnp.ones(N_NODE * HORIZON)))
