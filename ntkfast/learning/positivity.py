"""Whether the kernels are positive definite: the criterion on Hermite coefficients, and the smallest eigenvalue.

Jacot, Gabriel and Hongler (2018), Proposition 2 and its proof in their appendix A.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from ntkfast.engine import outputs, threads
from ntkfast.infinite.dual import dual
from ntkfast.infinite.kernels import kernels
from ntkfast.learning import checks, rounding
from ntkfast.learning.factor import smallest_eigenvalue as lowest
from ntkfast.networks import Activation, Network, activations
from ntkfast.support import arrays, reprs
from ntkfast.support.scalars import non_negative_number, positive_number
from ntkfast.support.typing import Array, KernelName, Progress

__all__ = ["HermiteCertificate", "SmallestEigenvalue", "hermite_certificate", "smallest_eigenvalue"]

FLOOR = 1e-12  # a coefficient counts as 0 up to here, relative to √E φ²: quadrature leaves about 1e-16
PARALLEL = 1e-12  # two features count as parallel up to this 1 - |cos|
DIRECTION = 2e-8  # likewise two points, up to this distance of their directions: √eps, where 1 - cos rounds to 0
MOST_TERMS = 2048  # as many as `Activation.hermite_coefficients` computes
TERMS = 64  # the least number of coefficients that decide on the pattern
FEW = 8  # fewer coefficients than this are not a pattern
KINDS = ("duplicates", "antipodes", "proportional")

Pairs: TypeAlias = dict[str, list[tuple[int, int]]]  # by kind


@dataclass(frozen=True)
class HermiteCertificate:
    """What `hermite_certificate` finds.

    Attributes
    ----------
    certifies : bool
        Whether φ is not a polynomial and β > 0, or the coefficients show the pattern of a positive definite kernel.
        False also if nothing can be concluded.
    reason : str
        What was found, in words, and no more than can be known: a coefficient below the floor may or may not be 0.
    coefficients : ndarray, shape (n_terms,)
        b_k of Σ²(x, x') = β² + Σ_k b_k ρ^k, ρ the cosine of the angle between x and x'.
    floor : float
        b_k up to here count as 0.
    n_even, n_odd : int
        How many b_k of each parity are above the floor.
    degree : int or None
        Of φ if it is a polynomial, else None.

    See Also
    --------
    hermite_certificate : Makes it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.hermite_certificate("tanh", bias_std=0.1)
    >>> found.certifies, found.degree
    (True, None)
    """

    certifies: bool
    reason: str
    coefficients: Array
    floor: float
    n_even: int
    n_odd: int
    degree: int | None

    __repr__ = reprs.short


def hermite_certificate(
    activation: str | Activation, *, bias_std: float = 0.0, variance: float = 1.0, n_terms: int = 64
) -> HermiteCertificate:
    """Whether Σ², the kernel after one hidden layer, is positive definite on every sphere.

    If it is, so are Σ^L and Θ^L for every L >= 2. With β = bias_std, q = variance + β² and a_k = E[φ(√q z) h_k(z)], the
    kernel on a sphere is

        Σ²(x, x') = β² + Σ_k a_k² ((variance ρ + β²)/q)^k = β² + Σ_k b_k ρ^k

    (Lemma 2 of the paper). It is positive definite on spheres of every dimension if and only if b_k > 0 for infinitely
    many even and infinitely many odd k (Theorem 3). With β > 0 every φ that is not a polynomial passes (Proposition 2);
    with β = 0 an odd or even φ fails, and so does one that is odd or even up to a polynomial, like relu, |x|/2 + x/2.

    Parameters
    ----------
    activation : str or Activation
        φ, or its name.
    bias_std : float
        β >= 0.
    variance : float
        w² |x|²/n_0 > 0, the contribution of the weights to the first layer's variance on the sphere; 1 for inputs of
        norm √n_0 and w = 1.
    n_terms : int
        Coefficients to return, at most 2048; at least 64 are examined. They are computed from a_j up to j = 2048, so
        that those for k beyond about 2048 variance/q come out too small. Finitely many can show a pattern, not prove
        it: a parity counts as infinite if it has coefficients above the floor in the second half of the range in which
        either parity has them.

    Returns
    -------
    HermiteCertificate
        Whether the kernel is positive definite on spheres, why, and the coefficients.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described (the message names it), or the dual is not finite at this variance.

    See Also
    --------
    smallest_eigenvalue : The question for given points.
    Activation.hermite_coefficients : a_k.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), Proposition 2, Lemma 2 and Theorem 3 (appendix A.4).

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.hermite_certificate("relu", bias_std=0.1).certifies
    True
    >>> nf.hermite_certificate("relu").reason
    'only 1 odd coefficient above rounding: as far as that shows, the kernel is even except for a polynomial'
    >>> nf.hermite_certificate("identity", bias_std=0.1).reason
    'phi is a polynomial of degree 1: the kernel has finite rank'
    """
    phi = activations.get(activation)
    beta, variance = non_negative_number(bias_std, "bias_std"), positive_number(variance, "variance")
    n_terms = checks.count(n_terms, "n_terms", MOST_TERMS)
    q = variance + beta * beta
    if q == np.inf:
        raise ValueError(f"bias_std: expected variance + bias_std² within float64, got {variance:.6g} and {beta:.6g}")
    n_looked, share = max(n_terms, TERMS), variance / q
    n_summed = int(min(MOST_TERMS, (n_looked + 10 * np.sqrt(n_looked)) / share)) if beta > 0 else n_looked
    with np.errstate(over="ignore"):  # of φ at large arguments: detected and reported if it matters
        summed = phi.hermite_coefficients(q, n_summed)
        scale = float(np.sqrt(dual(phi, q, q, q)))
    a = summed[:n_looked]
    above = np.flatnonzero(np.abs(a) > FLOOR * scale)
    by_definition, degree = _by_definition(phi)
    if not by_definition:
        degree = _degree(phi, a, above, q, scale)
    # (s ρ + 1 - s)^j for s = variance/q: b_k = Σ_j a_j² C(j, k) s^k (1-s)^{j-k}, whose weight lies about j = k/s
    n, k = np.arange(n_summed)[:, None], np.arange(n_looked)
    rest = np.maximum(n - k, 0)
    log_binomial = scipy.special.gammaln(n + 1) - scipy.special.gammaln(k + 1) - scipy.special.gammaln(rest + 1)
    binomial = np.tril(np.exp(log_binomial + scipy.special.xlogy(k, share) + scipy.special.xlog1py(rest, -share)))
    b = binomial.T @ np.where(np.abs(summed) > FLOOR * scale, summed, 0) ** 2
    floor = (FLOOR * scale) ** 2
    nonzero = b > floor
    last = [max((j for j in np.flatnonzero(nonzero) if j % 2 == parity), default=-1) for parity in (0, 1)]
    pattern = max(last) >= FEW
    ended = len(above) == 0 or above[-1] < n_looked - 2
    beyond = not (by_definition or ended) and _steep(phi, n_looked)
    certifies = degree is None and not beyond and (beta > 0 or (pattern and min(last) >= max(last) / 2))
    if degree is not None:
        reason = f"phi is a polynomial of degree {degree}: the kernel has finite rank"
    elif beyond:
        reason = f"cannot tell: phi may be a polynomial of degree {n_looked - 2} or more, so steep is it"
    elif beta > 0:
        shown = "" if by_definition else f" of degree up to {max(above, default=0) if ended else n_looked - 3}"
        reason = f"phi is not a polynomial{shown}, and bias_std > 0"
    elif not pattern:
        reason = f"cannot tell: phi is not a polynomial, but only {nonzero.sum()} coefficients are above rounding"
    elif certifies:
        reason = "even and odd coefficients continue down to rounding"
    else:
        rare, other = ("even", "odd") if last[0] < last[1] else ("odd", "even")
        count = int(nonzero[int(rare == "odd") :: 2].sum())
        some = f"only {count} {rare} coefficient{'s' * (count != 1)}" if count else f"no {rare} coefficients"
        polynomial = " except for a polynomial" if count else ""
        reason = f"{some} above rounding: as far as that shows, the kernel is {other}{polynomial}"
    n_even, n_odd = (int(nonzero[parity:n_terms:2].sum()) for parity in (0, 1))
    return HermiteCertificate(bool(certifies), reason, b[:n_terms], floor, n_even, n_odd, degree)


def _by_definition(activation: Activation) -> tuple[bool, int | None]:
    """Whether its parameters determine if φ is a polynomial; if it is, its degree, else None."""
    instruction, values = activation.instruction, activation.instruction.parameters
    if instruction.is_polynomial:
        return True, int(max(np.flatnonzero(values), default=0))
    if instruction.is_two_slopes:
        return True, int(values[0] != 0) if values[0] == values[1] else None
    if instruction.is_piecewise_linear:
        _, slope, kinks = values
        return True, None if any(jump for _, jump in kinks) else int(slope != 0)
    # none of the library's other activations is one, unless its amplitude or frequency is 0
    numbers: Any = values[:2] if instruction.has_offset else [value for _, value in activation.parameters]
    return activation.source is None and bool(np.all(numbers)), None


def _degree(activation: Activation, a: Array, above: NDArray[np.intp], q: float, scale: float) -> int | None:
    """The degree of φ if it is a polynomial: the series that ends there then equals φ, also far out; else None.

    "Far out" is measured in standard deviations and, as these may be small, in x itself. The coefficients are accurate
    only to a few times the floor, so that the last one above it need not be the degree.
    """
    if len(above) and above[-1] >= len(a) - 2:  # the series does not end
        return None
    x = np.array([1.0, 10.0, 100.0])
    with np.errstate(over="ignore", invalid="ignore"):
        z = np.concatenate([np.linspace(-12, 12, 25), -x / np.sqrt(q), x / np.sqrt(q)])
        exact = activation(np.sqrt(q) * z)
    k = np.arange(max(above, default=0) + 1)
    h = scipy.special.eval_hermitenorm(k, z[:, None]) / np.exp(scipy.special.gammaln(k + 1) / 2)
    terms = a[: len(k)] * h
    for degree in above if len(above) else [0]:
        some = slice(degree + 1)
        tail = np.clip(np.abs(a[degree + 1 :]).max(), FLOOR * scale / 1000, FLOOR * scale)  # 0 but for rounding
        size, slack = np.abs(terms[:, some]).sum(axis=1) + scale, tail * np.abs(h[:, some]).sum(axis=1)
        with np.errstate(invalid="ignore"):
            near = np.abs(exact - terms[:, some].sum(axis=1)) <= 1e-9 * size + 4 * slack
        if near.all():
            return int(degree)
    return None


def _steep(activation: Activation, degree: int) -> bool:
    """Whether φ grows far out like a polynomial of half this degree or more."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        near, far = np.abs(activation(np.array([[-1e2, 1e2], [-1e3, 1e3]])))
        return bool((far > 10 ** (degree / 2) * near).any() or not np.isfinite(far).all())


@dataclass(frozen=True)
class SmallestEigenvalue:
    """What `smallest_eigenvalue` finds.

    Attributes
    ----------
    value : float
        The smallest eigenvalue of the kernel matrix.
    error : float
        Bound on its error, from rounding and from the accuracy of the duals.
    positive_definite : bool
        value > error. If not, the matrix is singular as far as can be determined.
    duplicates, antipodes, proportional : list of (int, int)
        If the matrix is singular, pairs i < j of points that are parallel to √eps and whose features are parallel to
        rounding, each of which makes it singular: x_i = x_j, x_i = -x_j (only where the kernel is even or odd), or x_i
        proportional to x_j (only where it is homogeneous). Each j appears once, with the first such i.
    zero : list of int
        Points whose kernel with themselves is 0.
    cause : str
        The cause of the singularity in words; empty if the matrix is positive definite.

    See Also
    --------
    smallest_eigenvalue : Makes it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.smallest_eigenvalue(nf.MLP(depth=3), [[1.0, 0.0], [1.0, 0.0]]).duplicates
    [(0, 1)]
    """

    value: float
    error: float
    positive_definite: bool
    duplicates: list[tuple[int, int]]
    antipodes: list[tuple[int, int]]
    proportional: list[tuple[int, int]]
    zero: list[int]
    cause: str

    __repr__ = reprs.short


def smallest_eigenvalue(
    net: Network,
    X: ArrayLike,
    *,
    kernel: KernelName = "ntk",
    n_threads: int | None = None,
    progress: Progress = None,
) -> SmallestEigenvalue:
    """The smallest eigenvalue of the kernel on given points, an error bound, and the cause if it is 0.

    Proposition 2 of the paper says that on a sphere it is positive for depth >= 2 if all points differ, unless φ is a
    polynomial.

    The error bound is N eps ‖K‖_1, the backward error of the eigenvalue routine, plus e tr K for the entries, where
    |δK_ij| <= e √(K_ii K_jj) for all pairs, so that ‖δK‖ <= e ‖√K_ii‖². The bound e is propagated through the layers
    along with the kernel: each activation adds the accuracy of its dual (some eps for closed forms; otherwise 1e-10 for
    smooth φ and 1e-8 for φ with kinks) and the effect of the error s of ρ. On V(ρ) = Σ_k a_k² ρ^k that is at most
    V(r) - V(r - s) relative to V(1), r the largest |ρ_ij|; likewise on the dual of φ', for the tangent kernel. So with
    kinks it grows like s/√(1 - r) for nearby points, up to √(2 s)/π for a relu, where s is d/2 eps in the first layer
    and grows with what each layer adds.

    Parameters
    ----------
    net : Network
        The network.
    X : array_like, shape (N, d)
        Points, one per row.
    kernel : {"ntk", "nngp"}
        Which kernel.
    n_threads, progress
        As in `ntkfast.ntk`.

    Returns
    -------
    SmallestEigenvalue
        The eigenvalue, the bound on its error, and the points that make it 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.
    MemoryError
        The matrix and its copy do not fit into memory.

    See Also
    --------
    hermite_certificate : The question for all points of a sphere.
    GaussianProcess : Refuses matrices that are singular to rounding.

    References
    ----------
    Jacot, Gabriel and Hongler (2018), Proposition 2.

    Examples
    --------
    >>> import ntkfast as nf
    >>> X = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [1.0, 0.0]]
    >>> found = nf.smallest_eigenvalue(nf.MLP(depth=3, bias_std=0.1), X)
    >>> found.positive_definite, found.cause
    (False, 'points 0 and 3 are the same')
    >>> nf.smallest_eigenvalue(nf.MLP(depth=3, activation="erf"), X[:3]).cause
    'points 0 and 2 are antipodes, which an odd kernel cannot tell apart except for the sign'
    """
    outputs.kernel(kernel)
    K = kernels(net, X, None, get=kernel, dtype=np.float64, n_threads=n_threads, progress=progress)
    n = len(K)
    with threads.blas(n_threads, float(n) ** 3):
        value = lowest(K)
    norm = max(np.abs(K[rows]).sum(axis=1).max() for rows in arrays.blocks(n))  # at least λ_max
    known = rounding.known(net, X)
    entries = known.nngp if kernel == "nngp" else known.ntk
    error = float(n * np.finfo(float).eps * norm + entries * K.diagonal().sum())
    positive = value > error
    pairs: Pairs = {kind: [] for kind in KINDS}
    if not positive:
        _parallel(K, np.asarray(X, dtype=np.float64), pairs)
    zero = [int(i) for i in np.flatnonzero(K.diagonal() == 0)]
    odd = any(K[pair] < 0 for pair in pairs["antipodes"])
    cause = "" if positive else _cause(pairs, odd, zero)
    duplicates, antipodes, proportional = (pairs[kind] for kind in KINDS)
    return SmallestEigenvalue(value, error, positive, duplicates, antipodes, proportional, zero, cause)


def _parallel(K: Array, X: Array, pairs: Pairs) -> None:
    """Add to pairs, by kind, those i < j with |K_ij| = √(K_ii K_jj) to rounding whose points are parallel too."""
    features, size = np.sqrt(np.maximum(K.diagonal(), 0)), np.abs(X).max(axis=1)
    size[size == 0] = 1
    X = X / size[:, None]  # of length up to √d, whatever the scale
    named = np.zeros(len(K), dtype=bool)
    for i in range(len(K)):
        product = features[i] * features[i + 1 :]
        near = (product > 0) & (np.abs(K[i, i + 1 :]) >= (1 - PARALLEL) * product) & ~named[i + 1 :]
        j = i + 1 + np.flatnonzero(near)
        gap, sum_ = np.linalg.norm(X[j] - X[i], axis=1), np.linalg.norm(X[j] + X[i], axis=1)
        parallel = np.minimum(gap, sum_) <= DIRECTION * np.linalg.norm(X[i])
        kind = np.where(np.abs(size[i] / size[j] - 1) > DIRECTION, 2, np.where(gap < sum_, 0, 1))
        kind[gap == sum_] = 0  # both are the origin
        for other, which in zip(j[parallel].tolist(), kind[parallel].tolist(), strict=True):
            pairs[KINDS[which]].append((i, other))
            named[other] = True


def _cause(pairs: Pairs, odd: bool, zero: list[int]) -> str:
    texts = {
        "duplicates": "are the same",
        "antipodes": f"are antipodes, which an {'odd' if odd else 'even'} kernel cannot tell apart"
        + " except for the sign" * odd,
        "proportional": "are proportional to one another, and so are their features",
    }
    causes = [f"point {i} has the kernel 0 with itself" for i in zero[:1]]
    for kind, text in texts.items():
        if pairs[kind]:
            (i, j), more = pairs[kind][0], len(pairs[kind]) - 1
            others = f" (and {more} more pair{'s' * (more > 1)})" if more else ""
            causes.append(f"points {i} and {j} {text}{others}")
    return "; ".join(causes) or "no two points are parallel: the eigenvalue is below the accuracy of the kernel"
