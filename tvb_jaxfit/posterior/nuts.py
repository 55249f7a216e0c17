"""Sampling by the No-U-Turn sampler of NumPyro, in given units.

References
----------
Hoffman, M. D., Gelman, A. (2014). J. Mach. Learn. Res. 15, 1593-1623.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace

import jax
import jax.numpy as jnp
import numpy as np

from ..runtime.processes import processors
from ..runtime.programs import Program
from ..runtime.promotion import with_standard_promotion
from ..runtime.remote import WithSettings

# Number of iterations of one call of the compiled program.
_BATCH = 10
# Acceptance probability at which the step size settles.
_ACCEPTANCE = 0.8
# Maximum number of doublings of a trajectory: at most 2^n - 1 evaluations of the gradient for a draw.
_MAX_DEPTH = 6
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

    def between(self, first: int, last: int) -> "Chains":
        """The draws from one to another."""
        return replace(self, **{each.name: getattr(self, each.name)[:, first:last] for each in fields(self)})


class Sampler:
    """NUTS of a density. Programs are compiled once, for any number of chains and any units.

    Parameters
    ----------
    potential : callable
        Minus the logarithm of the density, as a JAX function of variables of shape (n,).
    n : int
        Number of variables.
    n_warmup : int
        Number of the first draws of a chain in which the step size and the scale of each variable are adapted; a whole
        number of batches.
    """

    def __init__(self, potential: Callable, n: int, n_warmup: int):
        self.n_warmup = whole_batches(n_warmup)
        self._start, self._batch = _programs(potential, n, n_warmup)

    def chains(self, starts: np.ndarray, root: np.ndarray, n_draws: int, seed: int, bar: Callable) -> Chains:
        """Chains, the draws of the warm-up included.

        Parameters
        ----------
        starts : ndarray, shape (n_chain, n)
            With a finite potential.
        root : ndarray, shape (n, n)
            Units: square root of an approximate covariance.
        n_draws : int
            Rounded up to a whole number of batches.
        seed : int
        bar : callable
            Called with the number of draws after a batch of them.

        Returns
        -------
        Chains
            After an interrupt (Ctrl-C), the draws that all chains have completed.
        """
        found, lock, stop = [[] for _ in starts], threading.Lock(), threading.Event()
        units = jnp.asarray(root)

        def run(chain):
            key = jax.random.fold_in(jax.random.key(seed), chain)
            state = self._start(jnp.asarray(np.linalg.solve(root, starts[chain])), key, units)
            for _ in range(whole_batches(n_draws) // _BATCH):
                if stop.is_set():
                    return
                state, each = self._batch(state, units)
                found[chain].append(jax.tree.map(np.asarray, each))
                with lock:
                    bar(_BATCH)

        with ThreadPoolExecutor(min(len(starts), len(processors()))) as pool:
            futures = [pool.submit(WithSettings(run), chain) for chain in range(len(starts))]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                stop.set()
            except BaseException:
                # The other chains end, too.
                stop.set()
                raise
        empty = np.empty((0, root.shape[0])), *(np.empty(0, dtype) for dtype in (float, float, int, bool))
        n_complete = min(map(len, found))
        joined = [
            tuple(np.concatenate([one, *parts]) for one, *parts in zip(empty, *each[:n_complete], strict=True))
            for each in found
        ]
        v, *others = (np.stack(parts) for parts in zip(*joined, strict=True))
        return Chains(v @ np.asarray(root).T, *others)


def whole_batches(n_draws: int) -> int:
    """Number of draws of the batches that contain so many."""
    return -(-n_draws // _BATCH) * _BATCH


def starts(potential: Callable, origin: np.ndarray, root: np.ndarray, n_chains: int, seed: int) -> np.ndarray:
    """Draws of a normal distribution, nearer to its centre where the potential is not finite.

    Parameters
    ----------
    potential : callable
        Of variables of shape (n,), with a number as result.
    origin : ndarray, shape (n,)
    root : ndarray, shape (n, n)
        Square root of the covariance.
    n_chains, seed : int

    Returns
    -------
    ndarray, shape (n_chains, n)
    """
    away = np.random.default_rng(seed).standard_normal((n_chains, origin.size)) @ root.T
    for each in away:
        for _ in range(_MAX_HALVINGS):
            if np.isfinite(potential(origin + each)):
                break
            each *= 0.5
    return origin + away


def _programs(potential, n, n_warmup):
    """Compiled functions: (start, key, root) to the state of a chain; that state and root to a later one and draws."""
    from numpyro.infer.hmc import hmc

    first, advance = hmc(potential_fn_gen=lambda root: lambda v: potential(root @ v), algo="NUTS")
    # Covariances from as many draws as there are variables would be worse than variances alone.
    options = {"dense_mass": n * _DENSE <= n_warmup, "target_accept_prob": _ACCEPTANCE, "max_tree_depth": _MAX_DEPTH}

    def start(v, key, root):
        return first(v, n_warmup, rng_key=key, model_args=(root,), **options)

    def batch(state, root):
        def one(state, _):
            state = advance(state, (root,))
            return state, (state.z, state.potential_energy, state.accept_prob, state.num_steps, state.diverging)

        return jax.lax.scan(one, state, length=_BATCH)

    return tuple(Program(with_standard_promotion(each), shares_constants=True) for each in (start, batch))
