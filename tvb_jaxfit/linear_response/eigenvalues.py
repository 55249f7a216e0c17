"""Eigenvalues of a step with delays: of the matrix that moves the state and all that is on its way."""

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, eigs

# Up to this size all eigenvalues take no longer than a few.
_SMALL = 400


def eigenvalues(linearised, delays, count=8):
    """Growth of modes a step, the largest first.

    Parameters
    ----------
    linearised : Linearised
    delays : ndarray of int, shape of ``linearised.N``, or None
        [steps]
    count : int
        How many, where there are too many to have them all.

    Returns
    -------
    ndarray of complex

    Notes
    -----
    Modes that differ little in a step are far apart after many: Arnoldi's method is given as many steps at once as the
    longest delay, and the step itself is then diagonalised among the few modes found.

    References
    ----------
    Lehoucq, R. B., Sorensen, D. C., Yang, C. (1998). ARPACK Users' Guide. SIAM.
    """
    matrix = companion(linearised, delays)
    if matrix.shape[0] <= _SMALL or delays is None:
        values = np.linalg.eigvals(matrix.toarray())
        return values[np.argsort(-np.abs(values))]
    n_step = max(10, int(np.max(delays)))

    def many(vector):
        for _ in range(n_step):
            vector = matrix @ vector
        return vector

    start = np.random.RandomState(0).normal(size=matrix.shape[0])
    operator = LinearOperator(matrix.shape, many, dtype=float)
    _, vectors = eigs(operator, k=count, ncv=6 * count, v0=start, tol=1e-10)
    basis, _ = np.linalg.qr(vectors)
    values = np.linalg.eigvals(basis.conj().T @ (matrix @ basis))
    return values[np.argsort(-np.abs(values))]


def companion(linearised, delays):
    """Matrix of a step of the state and of what was sent in the steps before, the newest first; sparse."""
    A, D, Y, _, N = (np.asarray(part, float) for part in linearised)
    A, D, Y = (scipy.sparse.block_diag(list(blocks), format="csr") for blocks in (A, D, Y))
    delays = np.zeros(N.shape, int) if delays is None else delays
    n_sent, horizon = N.shape[1], int(np.max(delays, where=N != 0.0, initial=0))
    target, source = np.nonzero(N)
    at = delays[target, source] * n_sent + source
    arriving = scipy.sparse.csr_matrix((N[target, source], (target, at)), shape=(N.shape[0], (horizon + 1) * n_sent))
    to_state = (D @ arriving).tocsc()
    now = A + to_state[:, :n_sent] @ Y
    if not horizon:
        return now.tocsr()
    older = scipy.sparse.eye(horizon * n_sent, (horizon - 1) * n_sent, k=-n_sent)
    newest = scipy.sparse.vstack([Y, scipy.sparse.csr_matrix(((horizon - 1) * n_sent, Y.shape[1]))])
    gone = scipy.sparse.csr_matrix((horizon * n_sent, n_sent))
    past = scipy.sparse.hstack([older, gone])
    return scipy.sparse.bmat([[now, to_state[:, n_sent:]], [newest, past]], format="csr")
