"""Sampling by the No-U-Turn sampler of NumPyro, in units of the Laplace approximation.

References
----------
Hoffman, M. D., Gelman, A. (2014). J. Mach. Learn. Res. 15, 1593-1623.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from ..runtime.programs import Program
from ..runtime.progress import progress_bar
from ..runtime.promotion import with_standard_promotion

# Number of iterations of one call of the compiled program.
_BATCH = 10
# Acceptance probability at which the step size settles.
_ACCEPTANCE = 0.8
# Maximum number of doublings of a trajectory: at most 2^n - 1 evaluations of the gradient for a draw.
_MAX_DEPTH = 7
# Number of draws of the warm-up for each variable from which all covariances are adapted, and not variances alone.
_DENSE = 10
# Number of times that a start without a potential is moved half way to the maximum.
_MAX_HALVINGS = 20


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws of several chains.

    Attributes
    ----------
    u : ndarray, shape (n_chain, n_draw, n)
        Unconstrained variables.
    potential, acceptance : ndarray, shape (n_chain, n_draw)
    n_steps : ndarray of int, shape (n_chain, n_draw)
        Evaluations of the gradient.
    is_divergent : ndarray of bool, shape (n_chain, n_draw)
    """

    u: np.ndarray = field(repr=False)
    potential: np.ndarray = field(repr=False)
    acceptance: np.ndarray = field(repr=False)
    n_steps: np.ndarray = field(repr=False)
    is_divergent: np.ndarray = field(repr=False)


def sample(
    potential: Callable,
    origin: np.ndarray,
    root: np.ndarray,
    n_warmup: int,
    n_draws: int,
    n_chains: int,
    seed: int,
    progress: bool = True,
) -> Chains:
    """Draws of a density, after a warm-up in which the step size and the scale of each variable are adapted.

    Parameters
    ----------
    potential : callable
        Minus the logarithm of the density, as a JAX function of variables of shape (n,).
    origin : ndarray, shape (n,)
        Maximum of the density.
    root : ndarray, shape (n, n)
        Square root of the covariance of the Laplace approximation. Chains start from draws of it.
    n_warmup, n_draws, n_chains : int
    seed : int
    progress : bool, optional
        Show a progress bar.

    Returns
    -------
    Chains
        After an interrupt (Ctrl-C), the draws that all chains have completed.
    """
    origin, root = jnp.asarray(origin), jnp.asarray(root)
    start, batch = _programs(lambda v: potential(origin + root @ v), n_warmup)
    # The warm-up is a whole number of batches.
    n_batches, left_out = -(-n_warmup // _BATCH) + -(-n_draws // _BATCH), -(-n_warmup // _BATCH) * _BATCH
    stop, found, lock = threading.Event(), [[] for _ in range(n_chains)], threading.Lock()

    def run(chain, bar):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), chain))
        state = _started(start, *keys, origin)
        for _ in range(n_batches):
            if stop.is_set():
                return
            state, each = batch(state)
            found[chain].append(jax.tree.map(np.asarray, each))
            with lock:
                bar.update(_BATCH)

    with (
        progress_bar("posterior: NUTS", "draw", n_chains * n_batches * _BATCH, progress) as bar,
        ThreadPoolExecutor(min(n_chains, os.cpu_count() or 1)) as pool,
    ):
        futures = [pool.submit(run, chain, bar) for chain in range(n_chains)]
        try:
            for future in futures:
                future.result()
        except KeyboardInterrupt:
            stop.set()
        except BaseException:
            # The other chains end, too.
            stop.set()
            raise
    n_complete = min(map(len, found))
    kept = slice(left_out, left_out + n_draws)
    empty = np.empty((0, origin.size)), *(np.empty(0, dtype) for dtype in (float, float, int, bool))
    joined = [
        tuple(np.concatenate([one[:0], *parts])[kept] for one, *parts in zip(empty, *each[:n_complete], strict=True))
        for each in found
    ]
    v, *others = (np.stack(parts) for parts in zip(*joined, strict=True))
    return Chains(np.asarray(origin) + v @ np.asarray(root).T, *others)


def _programs(potential, n_warmup):
    """Compiled functions: (start, key) to the state of a chain; that state to a later one and draws."""
    from numpyro.infer.hmc import hmc

    first, advance = hmc(potential, algo="NUTS")

    def start(v, key):
        dense = v.size * _DENSE <= n_warmup
        options = {"target_accept_prob": _ACCEPTANCE, "dense_mass": dense, "max_tree_depth": _MAX_DEPTH}
        return first(v, n_warmup, rng_key=key, **options)

    def batch(state):
        def one(state, _):
            state = advance(state)
            return state, (state.z, state.potential_energy, state.accept_prob, state.num_steps, state.diverging)

        return jax.lax.scan(one, state, length=_BATCH)

    return tuple(Program(with_standard_promotion(each), shares_constants=True) for each in (start, batch))


def _started(start, of_draw, of_chain, origin):
    """State of a chain at a draw of the Laplace approximation; nearer to the maximum if that has no potential."""
    v = jax.random.normal(of_draw, origin.shape, origin.dtype)
    for _ in range(_MAX_HALVINGS):
        state = start(v, of_chain)
        if np.isfinite(state.potential_energy):
            break
        v = 0.5 * v
    return state
