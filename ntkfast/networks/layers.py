"""The layers, one class each: their fields, what may flow into them, and the instructions that they are lowered to.

Activations are layers too; they are in activation.py. What a network of finite width does with a layer is its step in
ntkfast/finite/steps.py.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Literal, ParamSpec, cast

import numpy as np

from ntkfast.networks.activation import FACTORIES
from ntkfast.networks.activations import get
from ntkfast.networks.layer import (
    FEATURES,
    GAUSSIAN,
    INPUTS,
    Flow,
    Layer,
    flow_through,
    in_standard,
    require_gaussian,
    share_through,
)
from ntkfast.support.reprs import listed
from ntkfast.support.saved import Saved
from ntkfast.support.scalars import (
    finite_number,
    non_negative_number,
    positive_integer,
    positive_number,
    rate_below_one,
)

__all__ = ["Dense", "Dropout", "LayerNorm", "Parallel", "Residual", "Scale", "as_layers"]


_P = ParamSpec("_P")


def _by_name(init: Callable[_P, None]) -> Callable[_P, None]:
    """Decorator: the __init__ of a Dense, with a hint for those who mean a width."""

    @wraps(init)
    def checked(self: object, *unnamed: Any, **given: Any) -> None:
        if unnamed:
            raise TypeError(
                f"Dense: expected arguments by name, such as Dense(weight_std=1.5, bias_std=0.1), got {unnamed[0]!r}; "
                "a layer of infinite width has no width, networks of finite width take theirs from "
                "FiniteNetwork.init(net, n_inputs, widths)"
            )
        init(self, **given)

    return cast(Callable[_P, None], checked)


@dataclass(frozen=True, repr=False)
class Dense(Layer):
    """An affine layer in NTK parametrisation: x ↦ (weight_std/√n) W x + bias_std b, all entries of W and b iid N(0, 1).

    With w = weight_std and β = bias_std, in the limit Σ ↦ w²Σ + β², Θ ↦ w²Θ + weight_lr w²Σ + bias_lr β² (Jacot,
    Gabriel and Hongler 2018, Proposition 1 and Theorem 1).

    Parameters
    ----------
    weight_std : float
        w: standard deviation of the weights, > 0. The paper has 1.
    bias_std : float
        β: standard deviation of the biases, >= 0.
    weight_lr, bias_lr : float
        Learning rate of this layer's weights and biases relative to the global one; 0 freezes them, so that they add
        nothing to the tangent kernel.
    fan_in : int, "inputs" or None
        None: W and b are trained in NTK parametrisation. A number n, or "inputs" for that of the features of X: in
        standard parametrisation, x ↦ W x + b with W_ij ~ N(0, w²/n) and b_i ~ N(0, β²). Then, in the limit in which n
        counts as fixed, Θ ↦ w²Θ + weight_lr n Σ + bias_lr, without the last term if β = 0 (Sohl-Dickstein, Novak,
        Schoenholz and Lee 2020); Σ is the same. `Network` and `MLP` with parametrization="standard" set it.

    Raises
    ------
    TypeError
        A number is given without its name: layers of infinite width have no width.

    See Also
    --------
    Network : What layers are put together to.
    MLP : Equal layers.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.Dense(weight_std=1.5, bias_std=0.1)
    Dense(weight_std=1.5, bias_std=0.1)
    """

    weight_std: float
    bias_std: float
    weight_lr: float
    bias_lr: float
    fan_in: int | Literal["inputs"] | None

    @_by_name
    def __init__(
        self,
        *,
        weight_std: float = 1.0,
        bias_std: float = 0.0,
        weight_lr: float = 1.0,
        bias_lr: float = 1.0,
        fan_in: int | Literal["inputs"] | None = None,
    ) -> None:
        object.__setattr__(self, "weight_std", positive_number(weight_std, "weight_std"))
        for name, value in (("bias_std", bias_std), ("weight_lr", weight_lr), ("bias_lr", bias_lr)):
            object.__setattr__(self, name, non_negative_number(value, name))
        if fan_in is not None and fan_in != "inputs":
            fan_in = positive_integer(fan_in, "fan_in")
        object.__setattr__(self, "fan_in", fan_in)

    def after(self, flow, place):
        return Flow(GAUSSIAN, outputs=True)

    def share(self, share):
        return 0.0  # its own weights make the outputs independent of the inputs

    def emit(self, code):
        w, beta = np.longdouble(self.weight_std), np.longdouble(self.bias_std)
        a, b = w**2 / code.fan_in, beta**2
        if self.fan_in is None:
            c, c_rate, d, d_rate = (
                self.weight_lr * a,
                2 * self.weight_lr * a / w,
                self.bias_lr * b,
                2 * beta * self.bias_lr,
            )
        else:
            n = code.n_inputs if self.fan_in == "inputs" else np.longdouble(self.fan_in)
            c, c_rate, d, d_rate = self.weight_lr * n / code.fan_in, 0, self.bias_lr if beta else 0, 0
        code.affine(numbers=(a, b, c, d), rates=((2 * a / w, 0, c_rate, 0), (0, 2 * beta, 0, d_rate)))

    def learning_rates(self, n_inputs: int) -> tuple[float, float]:
        """The learning rates of W and b with which a network in NTK parametrisation trains like this layer.

        weight_lr and bias_lr, unless the layer is in standard parametrisation: then weight_lr n/w² and bias_lr/β².

        Parameters
        ----------
        n_inputs : int
            Number of features of X, which counts if `fan_in` is "inputs".

        Returns
        -------
        tuple of float
            Those of W and of b.

        See Also
        --------
        FiniteNetwork.jacobian : Where they enter the tangent kernel.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.Dense(weight_std=2.0, bias_std=0.5, fan_in=100).learning_rates(3)
        (25.0, 4.0)
        """
        if self.fan_in is None:
            return self.weight_lr, self.bias_lr
        n = n_inputs if self.fan_in == "inputs" else self.fan_in
        return self.weight_lr * n / self.weight_std**2, self.bias_lr / self.bias_std**2 if self.bias_std else 0.0

    def in_standard(self, fan_in, widths):
        return replace(self, fan_in=fan_in), next(widths)

    def __repr__(self):
        changed = [(name, getattr(self, name)) for name, usual in _USUAL.items() if getattr(self, name) != usual]
        return f"Dense({', '.join(f'{name}={value!r}' for name, value in changed)})"


_USUAL = {name: parameter.default for name, parameter in inspect.signature(Dense).parameters.items()}


@dataclass(frozen=True)
class Scale(Layer):
    """Multiplication by a constant: Σ ↦ factor² Σ, Θ ↦ factor² Θ.

    Parameters
    ----------
    factor : float
        Not 0.

    See Also
    --------
    Residual : A block with a factor.
    Dense : Has a factor of its own, weight_std.

    Examples
    --------
    >>> import ntkfast as nf
    >>> nf.nngp(nf.Network([nf.Dense(), nf.Scale(0.5)]), [[2.0]])
    array([[1.]])
    """

    factor: float

    def __post_init__(self):
        object.__setattr__(self, "factor", finite_number(self.factor, "factor"))
        if not self.factor:
            raise ValueError(f"factor: expected a number other than 0, got {self.factor!r}")

    def after(self, flow, place):
        return flow

    def share(self, share):
        return None if share is None else self.factor * share

    def emit(self, code):
        code.scale(np.longdouble(self.factor) ** 2)


@dataclass(frozen=True)
class LayerNorm(Layer):
    """Subtracts the mean over the features of a layer, divides by their standard deviation and multiplies by `scale`.

    Before an activation the features have mean 0 in the limit, so that with q = Σ(x, x)

        Σ ↦ scale² Σ/√(q1 q2),    Θ ↦ scale² Θ/√(q1 q2).

    Parameters
    ----------
    scale : float
        The standard deviation of the outputs, > 0.

    See Also
    --------
    Scale : A constant factor.
    Network : Where layers may stand.

    References
    ----------
    Ba, Kiros and Hinton (2016), "Layer normalization".

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.Network([nf.Dense(weight_std=2.0, bias_std=0.5), nf.LayerNorm(), "tanh", nf.Dense()])
    >>> nf.diagonal(nf.Network([nf.Dense(), nf.LayerNorm(2.0), "identity", nf.Dense()]), [[3.0, 4.0]], "nngp")
    array([4.])
    """

    scale: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "scale", positive_number(self.scale, "scale"))

    def after(self, flow, place):
        require_gaussian(flow, place, "the LayerNorm")
        return replace(flow, outputs=False)

    def emit(self, code):
        code.add("layer_norm")
        code.scale(np.longdouble(self.scale) ** 2)


@dataclass(frozen=True)
class Dropout(Layer):
    """Dropout in training: every feature is set to 0 with probability `rate`, else divided by 1 - rate.

    The masks of two inputs are independent: Σ(x, x) and Θ(x, x) grow by a factor 1/(1 - rate), and nothing else
    changes. Points that occur in both X and Y of a rectangular kernel count as different inputs. Masked features are
    not Gaussian: a `Dense` must come before the next activation.

    Parameters
    ----------
    rate : float
        In [0, 1).

    See Also
    --------
    FiniteNetwork : Applies it in training only.
    Network : Where layers may stand.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), "Dropout".

    Examples
    --------
    >>> import ntkfast as nf
    >>> net = nf.Network([nf.Dense(), "relu", nf.Dropout(0.5), nf.Dense()])
    >>> nf.nngp(net, [[1.0], [1.0]])
    array([[1. , 0.5],
           [0.5, 1. ]])
    """

    rate: float

    def __post_init__(self):
        object.__setattr__(self, "rate", rate_below_one(self.rate, "rate"))

    def after(self, flow, place):
        kind = INPUTS if flow.kind == INPUTS else FEATURES
        return replace(flow, kind=kind, centred=flow.kind == GAUSSIAN, outputs=False)

    def emit(self, code):
        code.add("dropout", 1 / (1 - np.longdouble(self.rate)))


@dataclass(frozen=True)
class Parallel(Layer):
    """Branches that are applied to the same input; their outputs are added, multiplied or concatenated.

    With Σ_i and Θ_i of the branches, whose outputs are independent,

        "sum"      Σ = Σ_i Σ_i,             Θ = Σ_i Θ_i
        "product"  Σ = Π_i Σ_i,             Θ = Σ_i Θ_i Π_{j≠i} Σ_j       (elementwise)
        "concat"   Σ = Σ_i share_i Σ_i,     Θ = Σ_i share_i Θ_i           (along the features)

    Branches are independent if all but one of them contain a `Dense`. In a sum, more than one branch may also pass on a
    multiple of its input, a_i x (an empty branch, `Scale`, `Residual`): then (Σ_i a_i)² - Σ_i a_i² times the Σ and Θ of
    the input is added.

    Parameters
    ----------
    *branches : list of layers, or a single layer
        Two or more. [] passes on its input.
    how : {"sum", "product", "concat"}
        Products and concatenations are not Gaussian fields: a `Dense` must come before the next activation.
    shares : sequence of float, optional
        For "concat": the share of the features that each branch has. They are divided by their sum; default: equal
        shares. The widths of a network of finite width must match them.

    Raises
    ------
    TypeError, ValueError
        The branches are not layers; or, when a network is built with it, they are not independent of one another.

    See Also
    --------
    Residual : A branch that is added to its input.
    Network : Where layers may stand.

    Examples
    --------
    >>> import ntkfast as nf
    >>> branches = ["relu", nf.Dense(weight_std=2.0)], ["tanh", nf.Dense()]
    >>> net = nf.Network([nf.Dense(), nf.Parallel(*branches), "relu", nf.Dense()])
    >>> net.depth
    4
    >>> gate = nf.Parallel(nf.Dense(), [nf.Dense(), "sigmoid"], how="product")
    >>> nf.nngp(nf.Network([nf.Dense(), gate, nf.Dense()]), [[1.0]]).round(4)
    array([[0.2934]])
    """

    parts: tuple[tuple[Layer, ...], ...]
    how: str
    shares: tuple[float, ...] | None

    def __init__(
        self, *branches: str | Layer | Sequence[str | Layer], how: str = "sum", shares: Sequence[float] | None = None
    ) -> None:
        if not isinstance(how, str) or how not in _HOW:
            raise ValueError(f"how: expected one of {', '.join(map(repr, _HOW))}, got {how!r}")
        if len(branches) < 2:
            raise ValueError(f"branches: expected two or more, got {len(branches)}")
        parts = tuple(
            as_layers(branch if isinstance(branch, list | tuple) else (branch,), f"branches[{k}]")
            for k, branch in enumerate(branches)
        )
        if not any(parts):
            raise ValueError("branches: expected at least one that has layers, got empty ones only")
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "how", how)
        object.__setattr__(self, "shares", _shares(shares, how, len(parts)))

    @property
    def branches(self):
        return self.parts

    def with_branches(self, branches):
        return Parallel(*branches, how=self.how, shares=self.shares)

    def in_standard(self, fan_in, widths):
        parts = [in_standard(branch, fan_in, widths) for branch in self.branches]
        after = [width for _, width in parts]
        return self.with_branches([layers for layers, _ in parts]), sum(after) if self.how == "concat" else after[-1]

    def after(self, flow, place):
        return self._joined(flow, place, [f"{place}.branches[{k}]" for k in range(len(self.parts))])

    def _joined(self, flow, place, places, name="Parallel"):
        """`after`, for a layer of this name whose branches are found at these places."""
        shifted, flows = flow.shifted or not flow.centred, []
        for branch, where in zip(self.parts, places, strict=True):
            out = flow_through(branch, replace(flow, centred=True, shifted=shifted), where)
            if out.kind == INPUTS:
                raise ValueError(
                    f"{where if branch else place}: expected a Dense before the {name} or in each of its branches, "
                    f"got {flow.source}"
                )
            flows.append(out)
        shares = [share_through(branch) for branch in self.parts]
        joined = _HOW[self.how](flows, shares, shifted, place, name)
        share = self.share(1.0)
        centred = joined.kind == GAUSSIAN or (joined.centred and share is not None and (share == 0 or flow.centred))
        return replace(joined, centred=centred, shifted=flow.shifted)

    def share(self, share):
        shares = [share_through(branch, share) for branch in self.parts]
        if self.how == "sum" and None not in shares:
            return math.fsum(shares)
        return None if any(part != 0 for part in shares) else 0.0

    def emit(self, code):
        weights = [np.longdouble(1)] * len(self.parts) if self.shares is None else self.shares
        of_input = sum(weight for branch, weight in zip(self.parts, weights, strict=True) if not branch)
        if self.how == "sum":
            shares = [np.longdouble(share) for branch in self.parts if (share := share_through(branch))]
            of_input += sum(shares) ** 2 - sum(share**2 for share in shares) if len(shares) > 1 else 0
        code.join(
            [(branch, weight) for branch, weight in zip(self.parts, weights, strict=True) if branch],
            of_input,
            "multiply" if self.how == "product" else "add",
        )

    def described(self):
        return {"branches": self.parts, "how": self.how, "shares": self.shares}

    @classmethod
    def rebuilt(cls, branches, **described):
        return cls(*branches, **described)

    def __repr__(self):
        shares = f", shares={self.shares!r}" if self.how == "concat" else ""
        branches = ", ".join(f"[{listed(part)}]" for part in self.parts)
        return f"Parallel({branches}, how={self.how!r}{shares})"


def _sum(flows, shares, shifted, place, name):
    _require_independent(shares if None in shares else (), place, name)
    means = [k for k, flow in enumerate(flows) if not flow.centred]
    if len(means) > 1:
        raise ValueError(
            f"{place}: expected at most one branch of the {name} whose mean is not 0, got branches "
            f"{means[0]} and {means[1]}, which end in {flows[means[0]].source} and {flows[means[1]].source}; "
            "let one of them end in a Dense"
        )
    if means and shifted and None not in shares and math.fsum(shares) != 0:  # with None, the other shares are 0
        raise ValueError(
            f"{place}: the {name} hands on a multiple of its input, whose mean is not 0, and adds branch {means[0]}, "
            f"whose mean is not 0 either, as it ends in {flows[means[0]].source}; let that branch end in a Dense, or "
            f"put one before the {name}"
        )
    gaussian = all(flow.kind == GAUSSIAN for flow in flows)
    outputs = all(flow.outputs for flow in flows)
    return Flow(GAUSSIAN if gaussian else FEATURES, centred=not means, outputs=outputs)


def _product(flows, shares, shifted, place, name):
    _require_independent(shares, place, name)
    return Flow(FEATURES, centred=False)


def _concat(flows, shares, shifted, place, name):
    return Flow(FEATURES, centred=all(flow.kind == GAUSSIAN for flow in flows))


_HOW = {"sum": _sum, "product": _product, "concat": _concat}


def _require_independent(shares, place, name):
    dependent = [k for k, share in enumerate(shares) if share != 0]
    if len(dependent) > 1:
        raise ValueError(
            f"{place}: expected independent branches of the {name}, but branches {dependent[0]} and {dependent[1]} "
            "depend on the same input; let one of them end in a Dense"
        )


def _shares(shares, how, count):
    """The shares of a concatenation, whose sum is 1; None for other branches."""
    if how != "concat":
        if shares is not None:
            raise ValueError(f"shares: expected None with how={how!r}, got {shares!r}")
        return None
    if shares is None:
        return (1 / count,) * count
    if isinstance(shares, str) or not isinstance(shares, Iterable):
        raise TypeError(f"shares: expected a sequence of numbers, got {type(shares).__name__}")
    shares = [positive_number(share, f"shares[{k}]") for k, share in enumerate(shares)]
    if len(shares) != count:
        raise ValueError(f"shares: expected {count}, one per branch, got {len(shares)}")
    total = math.fsum(shares)
    if abs(total - 1) <= count * np.finfo(np.float64).eps:  # quotients by their sum, which stay as they are
        return tuple(shares)
    return tuple(share / total for share in shares)


@dataclass(frozen=True)
class Residual(Layer):
    """A residual block x ↦ x + scale · body(x): `Parallel` with an empty branch. Blocks may be nested.

    Where body(x) is independent of x with mean 0, since its last layer is a `Dense`, Σ ↦ Σ + scale² Σ_body, and Θ
    likewise. If the body ends in another block, it passes on a multiple of x, which counts as in `Parallel`.

    Parameters
    ----------
    *layers : Dense, Activation, str, or another layer
        The body, as in `Network`.
    scale : float
        > 0.

    Raises
    ------
    TypeError, ValueError
        There is no layer, something is not a layer, or scale is not positive.

    See Also
    --------
    Parallel : Branches of any kind.
    Network : Where layers may stand.

    Examples
    --------
    >>> import ntkfast as nf
    >>> block = nf.Residual("relu", nf.Dense(), scale=0.5)
    >>> net = nf.Network([nf.Dense(), *[block] * 10, "relu", nf.Dense()])
    >>> net.depth
    12
    """

    layers: tuple[Layer, ...]
    scale: float

    def __init__(self, *layers: str | Layer | Sequence[str | Layer], scale: float = 1.0) -> None:
        layers = layers[0] if len(layers) == 1 and isinstance(layers[0], list | tuple) else layers
        object.__setattr__(self, "layers", as_layers(layers))
        object.__setattr__(self, "scale", positive_number(scale, "scale"))
        if not self.layers:
            raise ValueError("layers: expected at least one layer in a Residual, got none")

    @property
    def branches(self):
        return (self.layers,)

    def with_branches(self, branches):
        return Residual(*branches[0], scale=self.scale)

    def in_standard(self, fan_in, widths):
        layers, _ = in_standard(self.layers, fan_in, widths)
        return self.with_branches([layers]), fan_in

    @property
    def parallel(self) -> Parallel:
        """The block as a `Parallel`.

        See Also
        --------
        Parallel : What it is.

        Examples
        --------
        >>> import ntkfast as nf
        >>> nf.Residual("relu", nf.Dense(), scale=0.5).parallel
        Parallel([], [relu(), Dense(), Scale(factor=0.5)], how='sum')
        """
        return Parallel((), (*self.layers, Scale(self.scale)) if self.scale != 1 else self.layers)

    def after(self, flow, place):
        return self.parallel._joined(flow, place, [place, f"{place}.layers"], "Residual")

    def share(self, share):
        return self.parallel.share(share)

    def emit(self, code):
        self.parallel.emit(code)

    @classmethod
    def rebuilt(cls, layers, **described):
        return cls(*layers, **described)

    def __repr__(self):
        return f"Residual({listed(self.layers)}, scale={self.scale!r})"


def _is_layer_class(given):
    return isinstance(given, type) and issubclass(given, Layer)


def as_layers(layers, name="layers") -> tuple[Layer, ...]:
    """The layers as a tuple, names of activations replaced by activations."""
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise TypeError(f"{name}: expected a list of layers, got {type(layers).__name__}")
    checked = []
    for k, given in enumerate(layers):
        layer = get(given) if isinstance(given, str) else given
        if not isinstance(layer, Layer):
            kinds = ", ".join(sorted(kind for kind in __all__ if kind in Saved.kinds and kind != "Dense"))
            makes_one = given in FACTORIES.values() if inspect.isfunction(given) else _is_layer_class(given)
            hint = f"; is {given.__name__}() meant?" if makes_one else ""
            raise TypeError(
                f"{name}[{k}]: expected a Dense, an activation, or one of {kinds}, got {type(layer).__name__}{hint}"
            )
        checked.append(layer)
    return tuple(checked)
