"""Eigenvalues of a step with delays, from its sparse companion matrix."""

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, eigs

from .linearise import Linearised

# Up to this matrix size all eigenvalues are computed: the dense solver is as fast as a few steps of Arnoldi.
_DENSE_SIZE = 400


def eigenvalues(linearised: Linearised, delays: np.ndarray | None, count: int = 8) -> np.ndarray:
    """Growth factors per step of the modes, in descending order of magnitude.

    Parameters
    ----------
    linearised : Linearised
    delays : ndarray of int, shape of ``linearised.N``, or None
        [steps]
    count : int
        Number of eigenvalues, if the matrix is too large to compute all of them.

    Returns
    -------
    ndarray of complex

    Notes
    -----
    The eigenvalues of one step of a slow network cluster near 1, where Arnoldi's method converges slowly. The method is
    therefore applied to a power of the step, with the longest delay as exponent, which separates them. The step itself
    is then diagonalised in the subspace found.

    References
    ----------
    Lehoucq, R. B., Sorensen, D. C., Yang, C. (1998). ARPACK Users' Guide. SIAM.
    """
    matrix = companion_matrix(linearised, delays)
    if matrix.shape[0] <= _DENSE_SIZE or delays is None:
        # Complex in every version of NumPy, also if all are real.
        values = np.linalg.eigvals(matrix.toarray()).astype(complex)
        return values[np.argsort(-np.abs(values))]
    n_step = max(10, int(np.max(delays)))

    def power_step(vector):
        for _ in range(n_step):
            vector = matrix @ vector
        return vector

    start = np.random.RandomState(0).normal(size=matrix.shape[0])
    operator = LinearOperator(matrix.shape, power_step, dtype=float)
    _, vectors = eigs(operator, k=count, ncv=6 * count, v0=start, tol=1e-10)
    basis, _ = np.linalg.qr(vectors)
    values = np.linalg.eigvals(basis.conj().T @ (matrix @ basis))
    return values[np.argsort(-np.abs(values))]


def companion_matrix(linearised: Linearised, delays: np.ndarray | None) -> scipy.sparse.csr_array:
    """Sparse matrix of one step of the state and of the source outputs of past steps, the newest first."""
    A, D, Y, _, N = (np.asarray(block, float) for block in linearised)
    A, D, Y = (_block_diagonal(blocks) for blocks in (A, D, Y))
    delays = np.zeros(N.shape, int) if delays is None else delays
    n_output, horizon = N.shape[1], int(np.max(delays, where=N != 0.0, initial=0))
    target, source = np.nonzero(N)
    column = delays[target, source] * n_output + source
    shape = (N.shape[0], (horizon + 1) * n_output)
    coupling = scipy.sparse.csr_array((N[target, source], (target, column)), shape=shape)
    to_state = (D @ coupling).tocsc()
    current = A + to_state[:, :n_output] @ Y
    if not horizon:
        return current.tocsr()
    shifted = scipy.sparse.eye_array(horizon * n_output, (horizon - 1) * n_output, k=-n_output)
    newest = scipy.sparse.vstack([Y, scipy.sparse.csr_array(((horizon - 1) * n_output, Y.shape[1]))])
    dropped = scipy.sparse.csr_array((horizon * n_output, n_output))
    past = scipy.sparse.hstack([shifted, dropped])
    return scipy.sparse.block_array([[current, to_state[:, n_output:]], [newest, past]], format="csr")


def _block_diagonal(blocks):
    # From sparse blocks, so that the result is a sparse array in every version of SciPy.
    return scipy.sparse.block_diag([scipy.sparse.csr_array(block) for block in blocks], format="csr")
