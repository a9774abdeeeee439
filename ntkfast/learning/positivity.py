"""Whether the kernels are positive definite: the criterion by Hermite coefficients, and the smallest eigenvalue.

Jacot, Gabriel and Hongler (2018), Proposition 2 and its proof in their appendix A.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.special import eval_hermitenorm, gammaln

from ntkfast.kernels import ntk
from ntkfast.learning import checks
from ntkfast.learning.factor import smallest_eigenvalue as lowest
from ntkfast.networks import Network, activations
from ntkfast.networks.checks import non_negative_number, positive_integer, positive_number

__all__ = ["HermiteCertificate", "SmallestEigenvalue", "hermite_certificate", "smallest_eigenvalue"]

NOISE = 1e-12  # a coefficient counts as 0 up to here, relative to √E φ²: quadrature leaves about 1e-16
PARALLEL = 1e-7  # two features count as parallel up to this 1 - |cos|: half the digits, for kernels with a cusp


@dataclass(frozen=True)
class HermiteCertificate:
    """What `hermite_certificate` finds.

    Attributes
    ----------
    certifies : bool
        Whether the coefficients show the pattern of a positive definite kernel.
    reason : str
        Why, in words.
    coefficients : ndarray, shape (n_terms,)
        b_k of Σ²(x, x') = β² + Σ_k b_k ρ^k, ρ the cosine of the angle of x and x'.
    noise : float
        b_k up to here count as 0.
    n_even, n_odd : int
        How many b_k of each parity are above.
    degree : int or None
        Of φ if it is a polynomial, else None.
    """

    certifies: bool
    reason: str
    coefficients: np.ndarray
    noise: float
    n_even: int
    n_odd: int
    degree: int | None


def hermite_certificate(activation, beta=0.0, variance=1.0, n_terms=64) -> HermiteCertificate:
    """Whether Σ², the kernel after one hidden layer, is positive definite on every sphere.

    Σ^L and Θ^L then are so for every L >= 2. With q = variance + β² and a_k = E[φ(√q z) h_k(z)], the kernel on a
    sphere is

        Σ²(x, x') = β² + Σ_k a_k² ((variance ρ + β²)/q)^k = β² + Σ_k b_k ρ^k

    (Lemma 2 of the paper). It is positive definite on spheres of every dimension if and only if b_k > 0 for infinitely
    many even and infinitely many odd k (Theorem 3). With β > 0 every φ that is no polynomial passes (Proposition 2);
    without, an odd or even φ fails, and so does one that is odd or even but for a polynomial, as relu is: |x|/2 + x/2.

    Parameters
    ----------
    activation : str or Activation
    beta : float
        β = bias_std, >= 0.
    variance : float
        w² |x|²/n_0 > 0, what the weights give the first layer on the sphere; 1 for inputs of norm √n_0.
    n_terms : int
        Coefficients to look at. Finitely many can show a pattern, not prove it: a parity counts as infinite if it still
        has coefficients above the noise in the second half of those that any parity has.

    Returns
    -------
    HermiteCertificate

    Examples
    --------
    >>> from ntkfast.learning import hermite_certificate
    >>> hermite_certificate("relu", beta=0.1).certifies
    True
    >>> hermite_certificate("relu").reason
    'only 1 odd coefficient: the kernel is even but for a polynomial'
    >>> hermite_certificate("identity", beta=0.1).reason
    'phi is a polynomial of degree 1: the kernel has finite rank'
    """
    activation = activations.get(activation)
    beta, variance = non_negative_number(beta, "beta"), positive_number(variance, "variance")
    n_terms = positive_integer(n_terms, "n_terms")
    q = variance + beta**2
    a = activation.hermite_coefficients(q, n_terms)
    scale = np.sqrt(activation.dual(q, q, q))
    above = np.flatnonzero(np.abs(a) > NOISE * scale)
    degree = _degree(activation, a, above, q, scale)
    # (s ρ + 1 - s)^k for s = variance/q: b_j = Σ_k a_k² C(k, j) s^j (1-s)^{k-j}
    k = np.arange(n_terms)
    share, n, rest = variance / q, k[:, None], np.maximum(k[:, None] - k, 0)
    log_binomial = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(rest + 1)
    binomial = np.tril(np.exp(log_binomial + special.xlogy(k, share) + special.xlog1py(rest, -share)))
    b = binomial.T @ np.where(np.abs(a) > NOISE * scale, a, 0) ** 2
    noise = (NOISE * scale) ** 2
    nonzero = b > noise
    n_even, n_odd = int(nonzero[::2].sum()), int(nonzero[1::2].sum())
    last = [max((j for j in np.flatnonzero(nonzero) if j % 2 == parity), default=-1) for parity in (0, 1)]
    certifies = degree is None and (beta > 0 or min(last) >= max(last) / 2)
    if degree is not None:
        reason = f"phi is a polynomial of degree {degree}: the kernel has finite rank"
    elif certifies:
        reason = "phi is no polynomial and beta > 0" if beta else "even and odd coefficients go on to the noise"
    else:
        rare, other, count = ("even", "odd", n_even) if last[0] < last[1] else ("odd", "even", n_odd)
        reason = f"only {count} {rare} coefficient{'s' * (count != 1)}: the kernel is {other} but for a polynomial"
        reason = f"no {rare} coefficients: the kernel is {other}" if count == 0 else reason
    return HermiteCertificate(certifies, reason, b, noise, n_even, n_odd, degree)


def _degree(activation, a, above, q, scale):
    """The degree of φ if it is a polynomial: the series that ends there then is φ, also far out; else None."""
    degree = int(above[-1]) if len(above) else 0
    if degree >= len(a) - 2:  # the coefficients do not end
        return None
    z = np.linspace(-12, 12, 25)
    k = np.arange(degree + 1)
    terms = a[: degree + 1] * eval_hermitenorm(k, z[:, None]) / np.exp(gammaln(k + 1) / 2)
    size = np.abs(terms).sum(axis=1) + scale
    far = np.abs(activation(np.sqrt(q) * z) - terms.sum(axis=1)) > 1e-9 * size
    return None if far.any() else degree


@dataclass(frozen=True)
class SmallestEigenvalue:
    """What `smallest_eigenvalue` finds.

    Attributes
    ----------
    value : float
        The smallest eigenvalue of the kernel matrix.
    error : float
        Bound of its error by rounding.
    positive_definite : bool
        value > error. If not, the matrix is singular as far as can be known.
    duplicates, antipodes, proportional : list of (int, int)
        Pairs of points whose features are parallel, each of which makes the matrix singular: x_i = x_j, x_i = -x_j
        (only where the kernel is even or odd), or x_i proportional to x_j (only where it is homogeneous).
    zero : list of int
        Points whose kernel with themselves is 0.
    cause : str
        In words; empty if the matrix is positive definite.
    """

    value: float
    error: float
    positive_definite: bool
    duplicates: list[tuple[int, int]]
    antipodes: list[tuple[int, int]]
    proportional: list[tuple[int, int]]
    zero: list[int]
    cause: str


def smallest_eigenvalue(net: Network, X, kernel=ntk, **options) -> SmallestEigenvalue:
    """The smallest eigenvalue of the kernel on given points, an error bound, and what makes it 0 if it is.

    Proposition 2 of the paper says that on a sphere it is positive for depth >= 2, unless φ is a polynomial, if all
    points differ. The error bound is N eps ‖K‖_1, the backward error of the eigenvalue routine, plus N 1e-13 max_i K_ii
    for the entries; those of activations without closed form are known to 1e-10 or 1e-8 in the worst case.

    Parameters
    ----------
    net : Network
    X : array_like, shape (N, d)
    kernel : callable
        `ntkfast.ntk` or `ntkfast.nngp`.
    **options
        For the kernel: n_threads, progress.

    Returns
    -------
    SmallestEigenvalue

    Examples
    --------
    >>> import ntkfast as nf
    >>> from ntkfast.learning import smallest_eigenvalue
    >>> X = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]
    >>> found = smallest_eigenvalue(nf.MLP(depth=3, bias_std=0.1), X)
    >>> found.positive_definite, found.cause
    (False, 'points 0 and 3 are the same')
    >>> smallest_eigenvalue(nf.MLP(depth=3, activation="erf"), X[:3]).cause
    'points 0 and 2 are antipodes, which an odd kernel cannot tell apart but for the sign'
    """
    K = kernel(net, X, dtype=np.float64, **options)
    X, n = np.asarray(X, dtype=np.float64), len(K)
    value = lowest(K)
    norm = max(np.abs(K[rows]).sum(axis=1).max() for rows in checks.blocks(n))  # at least λ_max
    error = float(n * (np.finfo(float).eps * norm + 1e-13 * K.diagonal().max()))
    pairs = {"duplicates": [], "antipodes": [], "proportional": []}
    odd = False
    for i, j in _parallel(K):
        size = np.abs(X[[i, j]]).max()
        if np.abs(X[i] - X[j]).max() <= PARALLEL * size:
            pairs["duplicates"].append((i, j))
        elif np.abs(X[i] + X[j]).max() <= PARALLEL * size:
            pairs["antipodes"].append((i, j))
            odd = bool(K[i, j] < 0)
        else:
            pairs["proportional"].append((i, j))
    positive = value > error
    zero = [int(i) for i in np.flatnonzero(K.diagonal() == 0)]
    cause = "" if positive else _cause(pairs, odd, zero)
    return SmallestEigenvalue(value, error, positive, **pairs, zero=zero, cause=cause)


def _parallel(K):
    """Pairs i < j with |K_ij| = √(K_ii K_jj) to rounding."""
    size = np.sqrt(np.maximum(K.diagonal(), 0))
    found = []
    for rows in checks.blocks(len(K)):
        product = size[rows, None] * size[rows.start :]
        near = (product > 0) & (np.abs(K[rows, rows.start :]) >= (1 - PARALLEL) * product)
        found += [(int(i) + rows.start, int(j) + rows.start) for i, j in np.argwhere(near) if i < j]
    return found


def _cause(pairs, odd, zero):
    texts = {
        "duplicates": "are the same",
        "antipodes": f"are antipodes, which an {'odd' if odd else 'even'} kernel cannot tell apart"
        + " but for the sign" * odd,
        "proportional": "are proportional to one another, and so are their features",
    }
    causes = [f"point {i} has the kernel 0 with itself" for i in zero[:1]]
    for kind, text in texts.items():
        if pairs[kind]:
            (i, j), more = pairs[kind][0], len(pairs[kind]) - 1
            others = f" (and {more} more pair{'s' * (more > 1)})" if more else ""
            causes.append(f"points {i} and {j} {text}{others}")
    return "; ".join(causes) or "no two points have parallel features: the features of the points are dependent"
