"""Order and chaos: what infinite depth does to the variance of a wide network and to the correlation of two inputs.

Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli (2016), "Exponential expressivity in deep neural networks through
transient chaos"; Schoenholz, Gilmer, Ganguli and Sohl-Dickstein (2017), "Deep information propagation".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntkfast.engine import series
from ntkfast.infinite.corrections import coefficient
from ntkfast.infinite.dual import dual, dual_derivative
from ntkfast.infinite.kernels import diagonal
from ntkfast.networks import MLP, Activation, Dense, Network, activations, quadrature
from ntkfast.networks.network import check_network
from ntkfast.support import arrays
from ntkfast.support.errors import ActivationError
from ntkfast.support.forks import cached_property
from ntkfast.support.scalars import positive_integer, positive_number

__all__ = ["Phase", "PhaseDiagram", "phase", "phase_diagram"]

CRITICAL = 1e-6  # a network counts as critical up to this |χ₁ - 1|
TINY = 1e-20  # a variance that represents the limit q → 0
DECADES = 10  # of variances below and above 1 in which fixed points are searched for
LEAST = 10.0**-DECADES


@dataclass(frozen=True)
class Phase:
    """What `phase` finds; see there.

    Attributes
    ----------
    activation : Activation
        φ of the repeated layer.
    weight_std, bias_std : float
        w and β of the repeated layer.
    q_star : float
        Fixed point of the variance: 0, positive, or inf if the variance diverges.
    c_star : float
        Fixed point of the correlation of two inputs, in [0, 1].
    chi_1 : float
        χ₁.
    phase : str
        "divergent" if the variance diverges (q* is inf); else "ordered", "critical" or "chaotic", as χ₁ is below,
        equal to or above 1.
    correlation_depth : float
        ξ_c = -1/log R'(c*), the number of layers in which c - c* shrinks e-fold; inf if the decay is not exponential.

    See Also
    --------
    phase : Makes it.
    phase_diagram : The same over a grid of standard deviations.
    ntkfast.plotting.plot_correlation_map : Draws R(c).

    Examples
    --------
    >>> import ntkfast as nf
    >>> found = nf.phase(nf.MLP(depth=2, activation="relu", weight_std=2**0.5))
    >>> found.phase, round(found.chi_1, 12)
    ('critical', 1.0)
    """

    activation: Activation
    weight_std: float
    bias_std: float
    q_star: float
    c_star: float
    chi_1: float
    phase: str
    correlation_depth: float

    def variance_map(self, q: ArrayLike) -> NDArray[np.float64] | float:
        """V(q) = w² E[φ(√q z)²] + β² for z ~ N(0, 1), the variance one layer later.

        Parameters
        ----------
        q : array_like
            Variances >= 0.

        Returns
        -------
        ndarray of the shape of q, or float
            V(q).

        Raises
        ------
        ValueError
            A variance is negative or not finite, or V(q) overflows.

        See Also
        --------
        Phase.correlation_map : The same for correlations.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.phase(nf.MLP(depth=2, activation="relu", weight_std=1.0, bias_std=0.1)).variance_map([0.0, 1.0])
        array([0.01, 0.51])
        """
        q = arrays.real(q, "q").astype(float)
        if not (np.isfinite(q) & (q >= 0)).all():
            raise ValueError(f"q: expected finite variances >= 0, got {q[~(np.isfinite(q) & (q >= 0))].flat[0]}")
        square, _ = _moments(self.activation, q.ravel())
        return _as_given((self.weight_std**2 * square + self.bias_std**2).reshape(q.shape))

    def correlation_map(self, c: ArrayLike) -> NDArray[np.float64] | float:
        """R(c) = (w² E[φ(u)φ(v)] + β²)/q*, u and v of variance q* and covariance c q*: the correlation one layer later.

        At q* = 0, R is the limit β → 0. If the variance diverges, R is the limit q → ∞, E[φ(u)φ(v)]/E[φ(u)²] with the
        asymptotes of φ, if it has any.

        Parameters
        ----------
        c : array_like
            Correlations in [-1, 1].

        Returns
        -------
        ndarray of the shape of c, or float
            R(c).

        Raises
        ------
        ValueError
            A correlation is not in [-1, 1], or the variance diverges and φ has no asymptotes.

        See Also
        --------
        Phase.variance_map : The same for variances.
        ntkfast.plotting.plot_correlation_map : Draws it.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.phase(nf.MLP(depth=2, activation="relu", weight_std=1.0, bias_std=0.1)).correlation_map(1.0)
        1.0
        """
        c = arrays.real(c, "c").astype(float)
        if not (np.abs(c) <= 1).all():
            raise ValueError(f"c: expected correlations in [-1, 1], got {c[~(np.abs(c) <= 1)].flat[0]}")
        if math.isnan(self.chi_1):
            raise ValueError("the variance of this network diverges, so that it has no correlation map")
        if math.isinf(self.q_star):
            asymptotes = _asymptotes(self.activation)
            w2 = 1 / _moments(asymptotes, np.ones(1))[0][0]
            return _as_given(_correlation_map(asymptotes, w2, 1.0, c))
        return _as_given(_correlation_map(self.activation, self.weight_std**2, self.q_star, c))

    def fluctuations(self, depths: ArrayLike) -> NDArray[np.float64]:
        """n Var Θ̂(x, x)/Θ(x, x)² to first order, of networks of these depths with n units in all hidden layers.

        It is that of an `MLP` at a point of variance q*, or 1 if q* is 0. At criticality it grows like the depth, so
        that depth over width decides (Roberts, Yaida and Hanin 2022, chapter 8).

        Parameters
        ----------
        depths : array_like of int, shape (m,)
            >= 1.

        Returns
        -------
        ndarray, shape (m,)
            The squared relative standard deviation, times the width.

        Raises
        ------
        ActivationError, PrecisionError
            As in `finite_width`.
        ValueError
            The variance diverges.

        See Also
        --------
        Phase.depth_to_width : The ratio of depth to width at which they matter.
        finite_width : Their values on data.
        ntkfast.plotting.plot_fluctuations : Draws them.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.phase(nf.MLP(depth=2, activation="relu", weight_std=2**0.5)).fluctuations([1, 2, 3]).round(3)
        array([0.   , 3.   , 6.444])
        """
        if math.isinf(self.q_star):
            raise ValueError("the variance of this network diverges, so that its fluctuations have no common scale")
        q = self.q_star or 1.0
        x = [[math.sqrt(max(q - self.bias_std**2, 0.0)) / self.weight_std]]
        found = []
        for k, depth in enumerate(arrays.real(depths, "depths")):
            depth = positive_integer(depth, f"depths[{k}]")
            net = MLP(depth, self.activation, self.weight_std, self.bias_std)
            std = coefficient(net, x, "ntk_std")[0, 0]
            found.append(float((std / diagonal(net, x)[0]) ** 2))
        return np.array(found)

    def depth_to_width(self, *, tolerance: float = 0.1) -> float:
        """The ratio of depth to width at which the standard deviation of Θ̂(x, x) reaches this part of Θ(x, x).

        From the slope of `fluctuations` between 32 and 64 layers, which is that of infinite depth where they are linear
        in the depth; nan if the network is not critical.

        Parameters
        ----------
        tolerance : float
            > 0.

        Returns
        -------
        float
            Depth over width; nan if the network is not critical.

        See Also
        --------
        Phase.fluctuations : What it is read off from.
        width_for : The width that suits data.

        Examples
        --------
        >>> import ntkfast as nf
        >>> round(nf.phase(nf.MLP(depth=2, activation="relu", weight_std=2**0.5)).depth_to_width(), 4)
        0.0027
        """
        tolerance = positive_number(tolerance, "tolerance")
        if self.phase != "critical":
            return math.nan
        low, high = self.fluctuations([32, 64])
        return float(tolerance**2 * 32 / (high - low))


@dataclass(frozen=True)
class PhaseDiagram:
    """What `phase_diagram` finds; `c_star` is computed on first use.

    Attributes
    ----------
    activation : Activation
        φ of all networks.
    weight_stds : ndarray, shape (n,)
        w of the columns.
    bias_stds : ndarray, shape (m,)
        β of the rows.
    q_star, chi_1, c_star : ndarray, shape (m, n)
        As in `Phase`, one row per bias_std.

    See Also
    --------
    phase_diagram : Makes it.
    ntkfast.plotting.plot_phase_diagram : Draws it.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.phase_diagram("tanh", [0.5, 1.5, 2.5], [0.1, 0.5]).q_star.shape
    (2, 3)
    """

    activation: Activation
    weight_stds: NDArray[np.float64]
    bias_stds: NDArray[np.float64]
    q_star: NDArray[np.float64]
    chi_1: NDArray[np.float64]

    @cached_property
    def c_star(self) -> NDArray[np.float64]:
        w2 = np.broadcast_to(self.weight_stds**2, self.chi_1.shape)
        flat = _fixed_correlations(self.activation, w2.ravel(), self.q_star.ravel(), self.chi_1.ravel())
        return flat.reshape(self.chi_1.shape)


def phase(net: Network) -> Phase:
    """Whether a deep wide network of equal layers is ordered, critical or chaotic, or its variance diverges.

    A layer, φ and then a `Dense` with w = weight_std and β = bias_std, maps variances and, once the variance is at its
    fixed point q*, correlations:

        V(q) = w² E[φ(√q z)²] + β²,    R(c) = (w² E[φ(u)φ(v)] + β²)/q*,    χ₁ = w² E[φ'(√q* z)²] = R'(1)

    with z ~ N(0, 1) and u, v of variance q* and covariance c q* (Poole et al. 2016, equations 3 to 6). If χ₁ < 1 the
    network is ordered: all inputs become the same. If χ₁ > 1 it is chaotic: c = 1 is unstable and correlations tend to
    c* = R(c*) < 1. Depth is no obstacle only if it is critical, |χ₁ - 1| <= 1e-6 (Schoenholz et al. 2017). If there is
    no q*, the variance grows with every layer and the network is divergent.

    Parameters
    ----------
    net : Network
        A `Dense`, then one or more times the same activation and `Dense`, as in an `MLP`. The first `Dense` is
        arbitrary.

    Returns
    -------
    Phase
        The fixed points, χ₁, and the name of the phase.

    Raises
    ------
    TypeError
        net is not a Network.
    ValueError
        net has other layers, its layers differ, or its activation jumps (where R'(1) is infinite).
    PrecisionError
        See `Activation.from_function`.

    See Also
    --------
    phase_diagram : The same over a grid of standard deviations.
    dual : E[φ(u)φ(v)], of which the maps are made.
    ntkfast.plotting.plot_correlation_map : Draws R(c).

    Notes
    -----
    q* is the fixed point to which iterating an increasing V from q = 1 leads; if all q are fixed points, it is 1. Fixed
    points above 1e10 count as inf.

    Where the variance diverges, q* is inf and the rest is the limit q → ∞. If φ has asymptotes a x and b x at ∓∞ (relu,
    gelu, elu and the like), χ₁ = w² (a² + b²)/2, and R is the map of these asymptotes, with R'(1) = 1: c* is 1 and
    `correlation_depth` inf. For other φ (exp, or x + sin(x)², whose slope oscillates) all three are nan.

    At q* = 0 all of these are limits β → 0.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.phase(nf.MLP(depth=2, activation="relu", weight_std=2**0.5)).phase
    'critical'
    >>> chaotic = nf.phase(nf.MLP(depth=2, activation="erf", weight_std=2.0, bias_std=0.5))
    >>> chaotic.phase, round(chaotic.c_star, 3)
    ('chaotic', 0.397)
    """
    check_network(net)
    activation, dense = _repeated(net)
    w2, b2 = np.array([dense.weight_std**2]), np.array([dense.bias_std**2])
    q, chi = _fixed_variances(activation, w2, b2)
    c = _fixed_correlations(activation, w2, q, chi)
    w2, q, chi, c = (float(value[0]) for value in (w2, q, chi, c))
    if math.isinf(q):
        name, slope = "divergent", math.nan if math.isnan(chi) else 1.0
    elif abs(chi - 1) <= CRITICAL:
        name, slope = "critical", 1.0
    else:
        name = "ordered" if chi < 1 else "chaotic"
        slope = chi if c == 1 else w2 * dual_derivative(activation, q, q, c * q)
    depth = math.inf if slope == 1 else 0.0 if slope <= 0 else -1 / math.log(slope)
    return Phase(activation, dense.weight_std, dense.bias_std, q, c, chi, name, depth)


def phase_diagram(activation: str | Activation, weight_stds: ArrayLike, bias_stds: ArrayLike) -> PhaseDiagram:
    """q*, χ₁ and c* of `phase` for all pairs of a weight_std and a bias_std.

    Parameters
    ----------
    activation : str or Activation
        φ, or its name.
    weight_stds : array_like, shape (n,)
        > 0.
    bias_stds : array_like, shape (m,)
        >= 0.

    Returns
    -------
    PhaseDiagram
        q* and χ₁ of every pair; c* is computed when it is first asked for.

    Raises
    ------
    TypeError, ValueError
        An argument is not as described; the message names it.

    See Also
    --------
    phase : One network.
    ntkfast.plotting.plot_phase_diagram : Draws the result.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.phase_diagram("relu", [1.0, 2.0], [0.1, 0.2]).chi_1
    array([[0.5, 2. ],
           [0.5, 2. ]])
    """
    activation = activations.get(activation)
    _check_continuous(activation)
    w, b = _list(weight_stds, "weight_stds"), _list(bias_stds, "bias_stds")
    if (w <= 0).any():
        raise ValueError(f"weight_stds: expected numbers > 0, got {w.min()}")
    if (b < 0).any():
        raise ValueError(f"bias_stds: expected numbers >= 0, got {b.min()}")
    b2, w2 = np.meshgrid(b**2, w**2, indexing="ij")
    q, chi = _fixed_variances(activation, w2.ravel(), b2.ravel())
    return PhaseDiagram(activation, w, b, q.reshape(w2.shape), chi.reshape(w2.shape))


def _as_given(array):
    return float(array) if array.ndim == 0 else array


def _list(values, name):
    array = arrays.finite_array(values, name, float)
    if array.ndim != 1 or not array.size:
        raise ValueError(f"{name}: expected a list of numbers, got shape {array.shape}")
    return array


def _repeated(net):
    """The activation and the Dense that the network repeats."""
    for k, layer in enumerate(net.layers):
        if not isinstance(layer, (Dense, Activation)[k % 2]):
            raise ValueError(f"net: expected Dense layers and activations in turn, but layer {k} is {layer!r}")
    if len(net.layers) < 3:
        raise ValueError("net: expected at least one activation, got none")
    activation, dense = net.layers[1:3]
    for k, layer in enumerate(net.layers[3:], 3):
        if k % 2 and layer != activation:
            raise ValueError(f"net: expected equal activations, layer 1 is {activation!r} and layer {k} {layer!r}")
        for name in () if k % 2 else ("weight_std", "bias_std"):
            first, other = getattr(dense, name), getattr(layer, name)
            if first != other:
                raise ValueError(f"net: expected equal layers, {name} of layer 2 is {first} and of layer {k} {other}")
    _check_continuous(activation)
    return activation, dense


def _check_continuous(activation):
    if not activation.is_elementwise:
        raise ValueError(f"activation: expected a function of one number, got {activation!r}")
    if series.jumps(activation):
        raise ValueError(f"activation: expected a continuous function, {activation!r} jumps, so that R'(1) is infinite")


@lru_cache(maxsize=64)
def _asymptotes(activation):
    """The activation a min(x, 0) + b max(x, 0) that φ tends to, relative to |x|, as x → ±∞, and φ' to its derivative;
    None if there is none.
    """
    x, steps = np.array([[-1e20, 1e20]]), np.array([[0.0], [0.7], [1.9], [3.3]])
    try:
        with np.errstate(all="ignore"):
            far = activation(x)[0] / x[0]
            near = np.diff(activation(np.array([-1e6, 1e6]) + steps), axis=0) / np.diff(steps, axis=0)
    except ActivationError:  # φ is not a number there
        return None
    return activations.abrelu(*far) if np.isfinite(far).all() and np.allclose(near, far, rtol=0, atol=1e-5) else None


def _is_homogeneous(activation):
    """Whether φ(t x) = t φ(x) for t > 0."""
    x, asymptotes = np.outer([-1.0, 1.0], 10.0 ** np.arange(-6, 7)), _asymptotes(activation)
    return asymptotes is not None and np.allclose(activation(x), asymptotes(x), rtol=1e-12, atol=0)


def _moments(activation, q):
    """E[φ²] and E[φ'²] at the variances q, shape (n,)."""
    return diagonal(Network([Dense(), activation, Dense()]), np.sqrt(q)[:, None], ("nngp", "nngp_dot"))


def _fixed_variances(activation, w2, b2):
    """q* and χ₁, for w² and β² of shape (n,)."""
    if _is_homogeneous(activation):
        square, slope = (float(moment[0]) for moment in _moments(activation, np.ones(1)))
        ratio = w2 * square
        ratio = np.where(np.abs(ratio - 1) < 1e-12, 1.0, ratio)
        finite = np.divide(b2, 1 - ratio, out=np.full_like(b2, np.inf), where=ratio < 1)
        return np.where((ratio == 1) & (b2 == 0), 1.0, finite), w2 * slope
    low, high = _brackets(activation, w2, b2)
    inside = np.flatnonzero((high > 0) & np.isfinite(high))
    for _ in range(60 if len(inside) else 0):
        middle = np.sqrt(low[inside]) * np.sqrt(high[inside])
        grows = w2[inside] * _moments(activation, middle)[0] + b2[inside] > middle
        low[inside], high[inside] = np.where(grows, middle, low[inside]), np.where(grows, high[inside], middle)
    chi = np.full_like(high, np.nan)
    finite = np.isfinite(high)
    if finite.any():
        chi[finite] = w2[finite] * _moments(activation, np.maximum(high[finite], TINY))[1]
    asymptotes = _asymptotes(activation)
    if asymptotes is not None and not finite.all():
        chi[~finite] = w2[~finite] * _moments(asymptotes, np.ones(1))[1]
    return high, chi


def _brackets(activation, w2, b2):
    """low, high with V(low) > low, V(high) <= high around the first fixed point from q = 1 in the direction of V(1).

    Both are 0 or inf if that is the fixed point. V is not iterated: near criticality q would hardly move.
    """
    at_zero = w2 * float(activation(np.zeros(1))[0]) ** 2 + b2
    grows = w2 * _moments(activation, np.ones(1))[0] + b2 > 1
    low, high = np.where(grows, np.inf, at_zero), np.where(grows, np.inf, LEAST * (at_zero > 0))
    for rising, decades in ((True, range(DECADES)), (False, range(-1, -DECADES - 1, -1))):
        searched = list(np.flatnonzero(grows == rising))
        for decade in decades:
            if not searched:
                break
            q, square = _decade(activation, decade)
            for k in searched.copy():
                turns = np.flatnonzero((w2[k] * square + b2[k] > q) != rising)
                if len(turns):
                    low[k], high[k] = q[turns[0] - 1 : turns[0] + 1] if rising else q[turns[-1] : turns[-1] + 2]
                    searched.remove(k)
    return low, high


@lru_cache(maxsize=1024)
def _decade(activation, k):
    """Variances from 10^k to 10^(k+1), and E[φ²] there; none if it overflows: what gets there diverges."""
    q = 10.0 ** (k + np.arange(11) / 10)
    try:
        if activation.instruction.is_series:  # at variances for which the engine may have no pairs
            mean = quadrature.gaussian(activation)
            return q, np.array([mean.coefficients(variance, 1)[1] for variance in q])
        return q, _moments(activation, q)[0]
    except ValueError:
        if k < 0:
            raise
        return q[:0], q[:0]


def _correlation_map(activation, w2, q, c):
    """R at fixed points q of V. There β² = q - w² E[φ²], so that R(1) = 1 exactly and q → 0 is not 0/0."""
    q = np.maximum(q, TINY)
    c = np.broadcast_to(c, np.broadcast_shapes(np.shape(q), np.shape(c)))
    square = _moments(activation, np.atleast_1d(q))[0].reshape(np.shape(q))
    # c = 1 is known, and |ρ| near 1 is where a dual is costly
    covariance = np.where(c == 1, square, dual(activation, q, q, np.where(c == 1, 0.0, c) * q))
    return 1 - w2 * (square - covariance) / q


def _fixed_correlations(activation, w2, q, chi):
    """c*, for w², q* and χ₁ of shape (n,).

    R is a power series in c with coefficients >= 0, hence convex: Newton's method for R(c) = c from c = 0 rises to c*
    without ever passing it.
    """
    c = np.where(np.isnan(chi), np.nan, 1.0)
    chaotic = np.flatnonzero((chi > 1 + CRITICAL) & (q > 0) & np.isfinite(q))
    # one panel of variances (a factor of 4) at a time: the engine's tables near |ρ| = 1 are for pairs of panels
    panels = np.floor(np.log2(q[chaotic]) / 2)
    for panel in np.unique(panels):
        k = chaotic[panels == panel]
        c[k] = 0.0
        for _ in range(100):
            slope = w2[k] * dual_derivative(activation, q[k], q[k], c[k] * q[k])
            step = (_correlation_map(activation, w2[k], q[k], c[k]) - c[k]) / (1 - slope)
            c[k] = np.clip(c[k] + step, 0.0, 1.0)
            if np.abs(step).max() < 1e-13:
                break
    return c
