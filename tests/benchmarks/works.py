"""What ``table.py`` measures, each in a process of its own (``serve.py``).

A work is a function that returns calls, {name: (function, *arguments)}, and a function that checks what they compute.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import seed_workload
import serve
from tvb.datatypes import connectivity
from tvb.simulator import coupling, integrators, models, monitors, noise, simulator

import tvb_jaxfit as tj
from tvb_jaxfit.dynamics.adjoint import trajectory
from tvb_jaxfit.dynamics.trajectory import scan_steps
from tvb_jaxfit.translate.clone import configured_clone


def difference(some, others):
    """Largest difference of two trees of arrays, relative to the largest value of each leaf."""
    pairs = zip(jax.tree.leaves(some), jax.tree.leaves(others), strict=True)
    return max(float(np.max(np.abs(np.subtract(a, b))) / np.max(np.abs(b))) for a, b in pairs)


def draws(state):
    """Noise of a state, as TVB-Optim takes it."""
    return state.integrator.noise.draws[..., 0]


def seed(length, tvboptim):
    """The seed workload in both systems, and plain autodiff of our steps."""
    seed_workload.LENGTH = length
    fc_target = seed_workload.data()[1]
    sim = seed_workload.tvb_simulator()
    loss, free, simulate, state = seed_workload.ours(sim, fc_target)
    gradient = jax.jit(jax.value_and_grad(loss))
    calls = {
        "loss": (jax.jit(loss), free, state),
        "gradient": (gradient, free, state),
        "gradient, plain": (jax.jit(jax.value_and_grad(seed_workload.of_scan(simulate))), free, state),
    }
    if tvboptim:
        import theirs

        their_loss, their_free = theirs.loss_of(length, fc_target)
        calls["loss, TVB-Optim"] = (jax.jit(their_loss), their_free)
        calls["gradient, TVB-Optim"] = (jax.jit(jax.value_and_grad(their_loss)), their_free)

    def check():
        plain = jax.value_and_grad(seed_workload.loss_of(seed_workload.left_to_autodiff(simulate), fc_target))
        value, of_free = gradient(free, state)
        ((_, bold),) = configured_clone(sim, float64_history=True).run()
        figures = {
            "BOLD": difference(simulate(state).data[0], bold),
            "gradient": difference(of_free, jax.jit(plain)(free, state)[1]),
        }
        if tvboptim:
            figures["loss, TVB-Optim"] = difference(their_loss(their_free, draws(state)), value)
        return figures

    return calls, check


def tvb(length):
    """The seed workload's simulation by TVB."""
    seed_workload.LENGTH = length
    sim = seed_workload.tvb_simulator()
    return {"simulation": (lambda: configured_clone(sim).run()[0][1],)}, dict


def gradient(length):
    """The seed workload's loss and gradient alone, and its values."""
    seed_workload.LENGTH = length
    fc_target = seed_workload.data()[1]
    loss, free, simulate, state = seed_workload.ours(seed_workload.tvb_simulator(), fc_target)
    function = jax.jit(jax.value_and_grad(loss))

    def check():
        of_free = function(free, state)[1]
        plain = jax.grad(seed_workload.loss_of(seed_workload.left_to_autodiff(simulate), fc_target))
        values = np.concatenate(jax.tree.leaves(of_free)).tolist()
        return {"values": values, "gradient": difference(of_free, jax.jit(plain)(free, state))}

    return {"gradient": (function, free, state)}, check


def beside_ours(length, their_loss, their_free):
    """TVB-Optim's loss on our draws, from our own."""
    seed_workload.LENGTH = length
    fc_target = seed_workload.data()[1]
    loss, free, _, state = seed_workload.ours(seed_workload.tvb_simulator(), fc_target)
    return {"loss, TVB-Optim": difference(their_loss(their_free, draws(state)), loss(free, state))}


# model, conduction speed [mm/ms], coupling, parameters that are differentiated
MODELS = {
    "ReducedWongWangExcInh": (np.inf, coupling.Linear(a=np.array([0.01])), ("w_p", "J_i")),
    "MontbrioPazoRoxin": (np.inf, coupling.Linear(a=np.array([0.01])), ("eta", "J")),
    "JansenRit": (4.0, coupling.SigmoidalJansenRit(), ("A", "B")),
}


def several_variables(n_steps):
    """Gradient of the mean square of models with several variables, ours and by plain autodiff of the same scan."""
    calls = {}
    for name, (speed, of_model, free) in MODELS.items():
        white_matter = connectivity.Connectivity.from_file()
        white_matter.weights, white_matter.speed = white_matter.weights / white_matter.weights.max(), np.array([speed])
        sim = simulator.Simulator(
            connectivity=white_matter,
            model=getattr(models, name)(),
            coupling=of_model,
            integrator=integrators.HeunStochastic(dt=0.1, noise=noise.Additive(nsig=np.array([1e-5]))),
            monitors=[monitors.Raw()],
            simulation_length=n_steps * 0.1,
        )
        simulate, state = tj.prepare(sim)
        values = {key: jnp.broadcast_to(getattr(state.model, key), (76,)) for key in free}
        for system, run in (("tvb_jaxfit", trajectory), ("plain", scan_steps)):
            calls[f"{name}, {system}"] = (jax.jit(jax.grad(mean_square(simulate, run))), values, state)

    def check():
        value = {name: function(*arguments) for name, (function, *arguments) in calls.items()}
        return {name: difference(value[f"{name}, tvb_jaxfit"], value[f"{name}, plain"]) for name in MODELS}

    return calls, check


def mean_square(simulate, run):
    """Mean square of all states of a run, as a function of parameters and a state."""

    def loss(free, state):
        state = state.replace(model=state.model.replace(**free))
        theta, weights, past = simulate.constants(state), state.connectivity.weights, state.initial_conditions
        return jnp.mean(run(simulate.step, simulate.n_steps, theta, weights, past, simulate.inputs(state)[0]) ** 2)

    return loss


def regions(cases, n_steps):
    """Mean square of BOLD and its gradient for (number of regions, density), and the matrix products alone."""
    calls, losses = {}, {}
    for n_node, density in cases:
        sim = seed_workload.simulator_of(seed_workload.random_connectivity(n_node, density), n_steps * 4.0, 0.15)
        simulate, state = tj.prepare(sim)
        of_bold, plain = (
            lambda free, state, simulate=one: jnp.mean(simulate(seed_workload.with_free(state, free)).data[0] ** 2)
            for one in (simulate, seed_workload.left_to_autodiff(simulate))
        )
        name, free, weights = f"{n_node} {density}", seed_workload.start_values(n_node), state.connectivity.weights
        losses[name] = plain
        calls |= {
            f"{name} loss": (jax.jit(of_bold), free, state),
            f"{name} gradient": (jax.jit(jax.value_and_grad(of_bold)), free, state),
            f"{name} products of loss": (jax.jit(lambda w, n=n_steps: products(w, n)), weights),
            f"{name} products of gradient": (
                jax.jit(lambda w, n=n_steps: products(w, n) + products(w.T, n)),
                weights,
            ),
        }

    def check():
        figures = {}
        for name, plain in losses.items():
            function, free, state = calls[f"{name} gradient"]
            figures[name] = difference(function(free, state)[1], jax.jit(jax.grad(plain))(free, state))
        return figures

    return calls, check


# What is sent: one channel, a constant one beside it, two variables.
SENDING = {
    "one channel": (models.Generic2dOscillator, coupling.Linear),
    "Difference": (models.Generic2dOscillator, coupling.Difference),
    "MontbrioPazoRoxin": (models.MontbrioPazoRoxin, coupling.Linear),
}


def delays(horizons, n_steps):
    """Mean square of the states and its gradient in the weights, for longest delays of so many steps."""
    calls, dt = {}, 0.1
    for name, (of_model, of_coupling) in SENDING.items():
        for horizon in horizons:
            white_matter = connectivity.Connectivity.from_file()
            lengths = np.random.RandomState(0).uniform(0.1, 1.0, white_matter.weights.shape)
            white_matter.weights = white_matter.weights / white_matter.weights.max()
            white_matter.tract_lengths = lengths / lengths.max() * horizon * dt
            white_matter.speed = np.array([1.0])
            sim = simulator.Simulator(
                connectivity=white_matter,
                model=of_model(),
                coupling=of_coupling(a=np.array([0.01])),
                integrator=integrators.HeunDeterministic(dt=dt),
                monitors=[monitors.TemporalAverage(period=1.0)],
                simulation_length=n_steps * dt,
            )
            simulate, state = tj.prepare(sim)

            def loss(weights, state, simulate=simulate):
                state = state.replace(connectivity=state.connectivity.replace(weights=weights))
                return jnp.mean(simulate(state).data[0] ** 2)

            arguments = state.connectivity.weights, state
            calls[f"{name} {horizon} loss"] = (jax.jit(loss), *arguments)
            calls[f"{name} {horizon} gradient"] = (jax.jit(jax.value_and_grad(loss)), *arguments)
    return calls, dict


def products(weights, n):
    """``n`` products of a matrix with a vector, one after the other."""
    return jax.lax.scan(lambda x, _: (weights @ x, None), jnp.ones(weights.shape[0], weights.dtype), length=n)[0]


if __name__ == "__main__":
    every = (seed, tvb, gradient, several_variables, regions, delays)
    serve.main({one.__name__: one for one in every}, *sys.argv[1:])
