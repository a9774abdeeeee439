"""Every constant, sign and factor in closed forms matters: of duals, of their derivatives, of the functions that these
take, and of the statistics of finite width; in C and in Python. They are changed one at a time (numbers by a tenth,
whole ones by 1; + for - and * for /, and conversely), and each change is noticed by a comparison with independent
formulas, in mpmath where rounding counts; but for those that the module of this row lists, each with the reason why it
makes no difference.

Not among them: Hermite series, near fields by tables, and nodes of quadrature, which are constants of a file. In C, all
changes are compiled at once, and one number chooses.
"""

import ctypes
import functools
import json
import math
import random
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import catalogue
import formulas
import mpmath
import numpy as np
import reference
import reference_beyond
from formulas import DIGITS, mp

import ntkfast as nf
from ntkfast.engine import statistics
from ntkfast.engine.lower import lower
from ntkfast.engine.problem import Problem
from ntkfast.networks.activation import FACTORIES

from . import _mutants, frame

ROW = 16
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SMALL = 60  # mutants, drawn at random
LANES = 128
A = nf.activations

# ---- what is not changed -------------------------------------------------------------------------------------

LOOPS = (r"while \(0\)|int (i|k|j|r|p|l) = |\bk (\+|-)= ", "loops over lanes and numbers")
C = {
    "duals.h": (
        LOOPS,
        (r"^return r >= .* \| (2 \* NF_EPS|1 - 2)", "how many roundings from 1 count as 1"),
        (r"NF_\(angles\).* \| [01]\);", "which of two algorithms for angles, both of them right"),
        (r"\| \+NF_TINY", "below rounding"),
        (r"^return x < 0 .*\| 0 : x", "rounding below 0"),
        (r"^return 0; ", "after a switch that is complete"),
        (r"\(row\[0\] > 0\).* \| 0\]", "the standard deviation is 0 where its inverse is"),
    ),
    "vecmath.h": (
        LOOPS,
        (r"NF_C\((0.0001984126984126984127\)\);|1.6059\S*\);|2.48\S*\);)$", "a tenth of the last term is below an ulp"),
        (r"define NF_SMALL", "a threshold between two formulas, both of them right"),
    ),
    "widths.h": (
        LOOPS,
        (r"points\.x|numbers \+ |tile->|^memset", "addresses, and what is to be 0"),
        (r"0x1p-104", "the least angle that counts"),
        (r"\| \*fabs\(rho\)", "then the slower formula serves"),
        (r"x2 < 0.0625|near = 1e-4", "a threshold between two formulas, both of them right"),
        (r"> 0 \? (delta|ntk|nngp|state->cross)", "rounding below 0"),
        (r"sine > 0 \? .*\| 0, over_cube", "a factor of 0, for a point with itself"),
        (r"^const double (p0_flipped|mean =|sign = both)", "only its sign matters"),
        (r"f3g|fg3|yfg|y_m\b.*\| (\+h \* y_m|.*c_md\))", "0, since both points are alike once they are normalised"),
        (r"c71cp-8};|c\[11\]", "a tenth of the last term is below an ulp"),
    ),
    "pair.c": (
        LOOPS,
        (r"least = |pair->sign < 0 \|\||(bias|difference) != 0", "whether a faster way is taken"),
        (r"delta > 0.1|sum < 4 |fabsl\((x|eta)\) < ", "a threshold between two formulas, both of them right"),
        (r"fminl\(", "rounding above 1"),
        (r"^return 1;", "any number but 0"),
        (r"13749310575.0 /|654729075.0 /|a\[10\].*\| .*1[01]\]", "a tenth of the last terms is below an ulp"),
        (r"g2 = 1 / .*\| .*(Q2\)\)|Q1\)|\(1 \+ 2)", "a factor that cancels"),
    ),
}
FUNCTIONS = {  # elsewhere: addresses, decisions, and nodes of quadrature, which are constants of the file
    "widths.h": ("add_sector", "sin4_integral", "width_layer", "near_delta", "width_start", "width_finish"),
    "pair.c": ("angle_from", "through_lines", "after_lines", "after_erf", "exponentials", "exponential_difference",
               "exponential_distance"),
}  # fmt: skip
PYTHON = (
    (r"get_close_matches|degree > 150|order > 5|^if b >= 0", "messages and limits, which other tests know"),
    (r"^def |^\w+: (float|int) = ", "defaults, which are compared with docs/api.md"),
    (r"result_type\(x, 0.0\).* \| 0.0", "the dtype of a float"),
    (r"np.minimum\(x, 0\) / width.*\| 0$", "against overflow where the other side is taken"),
    (r"np.where\(std > 0, std, 1\).*\| 1", "the divisor of 0"),
)

# ---- C -------------------------------------------------------------------------------------------------------

CORE = "points dispatch tiles pair kinked dual norms products limit gradient tangent finite_width array vectors normal"
FIELDS = ("value", "slope", "price", "bend", "value_row", "value_column", "slope_row", "slope_column", "sigma", "theta")
LAYER = (1.7, 0.3, 0.6, 0.2)
THETA = 0.7
CLOSED = (
    *(A.relu(), A.leaky_relu(0.2), A.abrelu(-0.4, 1.3), A.abs(), A.identity(), A.erf(1.2, 0.7, 0.2), A.gelu()),
    *(A.sin(1.3, 0.8, 0.4), A.rbf(0.6), A.gaussian(1.1, -0.7), A.exp(0.9, 0.4), A.cosh(0.8, 0.5), A.sinh(1.1, 0.4)),
    *(A.step(), A.sign(), *(A.rectified_monomial(order) for order in range(1, 6)), A.exp_normalized(0.7, -0.4)),
)


@dataclass(frozen=True)
class Kind:
    """An instruction, and what it computes: the dual of (q1, q2, c), and of a point of variance q with itself."""

    what: str
    name: str
    parameters: tuple
    dual: Callable
    own: Callable

    @property
    def is_kink(self):
        """Whether d²E[φφ]/dc² is infinite at ρ = 1."""
        a, b = (*self.parameters, 0, 0)[:2]
        return a == 1 if self.name == "arc_cosine" else a != b


def of_activation(act):
    dual = lambda *K: formulas.dual(act, *K, DIGITS)  # noqa: E731
    return Kind(repr(act), act.instruction.name, act.instruction.parameters, dual, lambda q: dual(q, q, q))


def cosine(q1, q2, c):
    return c / mp.sqrt(q1 * q2), 1 / mp.sqrt(q1 * q2)


KINDS = (
    *map(of_activation, CLOSED),
    Kind("affine", "affine", (), lambda q1, q2, c: (c, mp.mpf(1)), lambda q: (q, mp.mpf(1))),
    Kind("dropout", "dropout", (1.25,), lambda q1, q2, c: (c, mp.mpf(1)), lambda q: (1.25 * q, mp.mpf(1.25))),
    Kind("layer_norm", "layer_norm", (), cosine, lambda q: (mp.mpf(1), 1 / q)),
)
# variances of a row and of its columns, with the correlations; all of them numbers of float32
ROWS = (0.75, 2.5)
COLUMNS = (
    *((0.5, 0.25), (1.5, -0.5), (3.0, 0.875), (0.125, -0.9375), (0.75, 0.0078125), (2.0, 0.5), (0.25, -0.125)),
    *((1.0, 0.9990234375), (1.25, -0.75)),
)
TOLERANCE = {"f32": 5e-5, "f64": 1e-12}  # of the largest of its kind for this activation
NEAR = 1e-9  # of numbers of near pairs and of points with themselves, of finite width and of mpmath's derivatives
ULPS = {"exp": 1.1, "expm1": 1.5, "angle": 2.0, "angle, relatively": 3.0}
TYPES = {"f32": np.float32, "f64": np.float64}
WIDE = (  # networks of finite width and pairs of points
    (nf.MLP(4, A.abrelu(0.7, -0.3), weight_std=1.3, bias_std=0.4, weight_lr=0.3, bias_lr=2.0), 2, (0, 1, 2)),
    (nf.MLP(4, A.leaky_relu(0.3), weight_std=1.2), 1, (1, 2)),
    (nf.MLP(5, A.leaky_relu(0.3), bias_std=0.5), 1, (0,)),
)
WIDE_PAIRS = (
    ((0.2, -0.3), (2.5, 1.0)),
    ((0.5, -1.0), (-0.9, 0.8)),
    ((0.5, -1.0), (0.5 + 1e-5, -1.0 + 3e-5)),
)
ANGLES = """
void angles(int n, const double *delta, double *theta, double *excess)
{
    for (int i = 0; i < n; i++)
        theta[i] = angle_from(delta[i], excess + i);
}
"""


def _hidden(act, bias_std):
    layers = [(nf.Dense(weight_std=weight_std, bias_std=bias_std), act) for weight_std in (1.2, 1.1)]
    return nf.Network([layer for pair in layers for layer in pair] + [nf.Dense(bias_std=0.3)])


ALONE = (  # networks, and pairs of points, most of them near
    *(_hidden(A.leaky_relu(0.2), 0.3), _hidden(A.abrelu(-0.4, 1.3), 0.0), _hidden(A.erf(1.2, 0.7, 0.2), 0.2)),
    *(_hidden(A.gelu(), 0.1), _hidden(A.sin(1.3, 0.8, 0.4), 0.1), _hidden(A.cosh(0.8, 0.5), 0.1)),
    *(_hidden(A.sinh(0.8, 0.5), 0.0), _hidden(A.exp(0.9, 0.4), 0.1), _hidden(A.gaussian(1.1, -0.7), 0.2)),
    *(_hidden(A.rectified_monomial(2), 0.2), _hidden(A.rectified_monomial(1), 0.0)),
    nf.Network([nf.Dense(), nf.Dense(weight_std=1.3), A.leaky_relu(0.2), nf.Dense()]),
)
ALONE_PAIRS = (
    *(((0.5, -1.0), (0.5 + size, -1.0 + 0.6 * size)) for size in (0.7, 0.45, 0.3, 1e-2, 1e-4, 1e-8)),
    *(((0.5, -1.0), (0.65, -1.3)), ((0.5, -1.0), (-0.5 - 1e-5, 1.0 + 2e-5)), ((3.0, 1.0), (3.05, 1.1))),
    ((3.0, 1.0), (4.0, 1.2)),
)


class Library:
    """src_c with all changes, as a shared library in a folder."""

    def __init__(self, folder):
        self.mutants, folder = [], Path(folder)
        for path in (ROOT / "src_c").glob("*.[ch]"):
            text = path.read_text(encoding="utf-8")
            head = "extern int nf_mutant;\n" if path.name == "ntkfast.h" else ""
            (folder / path.name).write_text(head + text, encoding="utf-8")
        for file in C:
            text, found = mutated(file, len(self.mutants) + 1)
            self.mutants += found
            (folder / file).write_text(text, encoding="utf-8")
        sources = [HERE / "mutants.c", *(folder / f"{name}.c" for name in (*CORE.split(), "queue"))]
        command = [compiler(), "-O0", "-w", "-shared", "-fPIC", f"-I{folder}", *sources, "-lm"]
        done = subprocess.run([*command, "-o", folder / "mutants.so"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]
        self.c = ctypes.CDLL(str(folder / "mutants.so"))
        self.active = ctypes.c_int.in_dll(self.c, "nf_mutant")

    def checks(self, file):
        """(what, a function that tells whether it is right) of all that the formulas of this file enter."""
        return {
            "duals.h": lambda: (*self._duals(), *self._diagonals(), *self._aligned(), *self.alone),
            "vecmath.h": lambda: (*self._functions(), *self._duals()),
            "widths.h": self._widths,
            "pair.c": lambda: self.alone,
        }[file]()

    def caught(self, mutant, checks):
        """The first of the checks that fails with this mutant, None if none does."""
        self.active.value = mutant.number
        try:
            return next((name for name, check in checks if not check()), None)
        finally:
            self.active.value = 0

    def _duals(self):
        for kind in KINDS:
            for suffix in TYPES:
                yield f"{kind.what}, {suffix}", self._dual(kind, suffix)

    def _dual(self, kind, suffix):
        expected = np.array([references(kind.dual, q1) for q1 in ROWS])  # (rows, fields, columns)
        bound = TOLERANCE[suffix] * np.abs(expected).max(axis=(0, 2))[:, None]
        expected = expected[:, :, np.arange(LANES) % len(COLUMNS)]
        op, given, layer = number_of(kind.name), padded(kind.parameters), doubles(LAYER)
        q2 = doubles(np.resize([q for q, _ in COLUMNS], LANES))
        function, out = getattr(self.c, f"pairs_{suffix}"), np.empty((len(FIELDS), LANES))
        covariances = [doubles(np.resize(correlated(q1), LANES)) for q1 in ROWS]

        def check():
            for q1, c, wanted in zip(ROWS, covariances, expected, strict=True):
                function(op, pointer(given), pointer(layer), ctypes.c_double(q1), pointer(q2), pointer(c), pointer(out))
                if not (np.abs(out - wanted) <= bound).all():
                    return False
            return True

        return check

    def _functions(self):
        for suffix, dtype in TYPES.items():
            near = np.log(2) * np.array([0.5, -0.5, 0.49, -0.49, 0.47, -0.47, 0.4, 0.3, -0.3])
            x = dtype(np.concatenate([near, near + np.log(2), near - 5 * np.log(2), near * 40]))
            yield f"exp beyond the range, {suffix}", self._limits(suffix, dtype)
            yield f"exp, {suffix}", self._function(0, suffix, x, x, [mp.exp(mp.mpf(float(v))) for v in x], "exp")
            x = dtype(np.linspace(-1, 1, 21) * (0.5 if suffix == "f32" else 0.015625))
            wanted = [mp.expm1(mp.mpf(float(v))) for v in x]
            yield f"expm1, {suffix}", self._function(1, suffix, x, x, wanted, "expm1")
            angle = np.linspace(0, 1, 61)[1:-1] * np.pi / 2
            s, c = dtype(np.sin(angle)), dtype(np.cos(angle))
            wanted = [mp.atan2(mp.mpf(float(u)), mp.mpf(float(v))) for u, v in zip(s, c, strict=True)]
            yield f"angle, {suffix}", self._function(2, suffix, s, c, wanted, "angle")
            yield f"angle, relatively, {suffix}", self._function(3, suffix, s, c, wanted, "angle, relatively")

    def _function(self, what, suffix, x, y, wanted, name):
        out, eps = np.empty_like(x), float(np.finfo(x.dtype).eps)
        size = [math.pi / 4 if name == "angle" else abs(float(value)) for value in wanted]
        unit = [eps * 2.0 ** math.floor(math.log2(s)) if s else 1 for s in size]
        high = np.array([float(value) for value in wanted])
        low = np.array([float(value - h) for value, h in zip(wanted, high, strict=True)])
        function = getattr(self.c, f"function_{suffix}")

        def check():
            function(what, len(x), pointer(x), pointer(y), pointer(out))
            return (np.abs((out.astype(float) - high) - low) <= ULPS[name] * np.array(unit)).all()

        return check

    def _limits(self, suffix, dtype):
        x = np.array([-1e4, 1e4, 0], dtype)
        out, tiny = np.empty_like(x), np.finfo(dtype).tiny

        def check():
            getattr(self.c, f"function_{suffix}")(0, len(x), pointer(x), pointer(x), pointer(out))
            return tiny / 2 < out[0] < 2 * tiny and out[1] == np.inf and out[2] == 1

        return check

    def _aligned(self):
        """Where |ρ| is 1 to within rounding, infinite rates count as 0, and values are those of the point itself."""
        eps = np.finfo(float).eps
        for kind in KINDS:
            if kind.name in ("piecewise_linear", "arc_cosine"):
                for rounding in (-eps, 0, 2 * eps):
                    yield f"{kind.what}, aligned", self._one_aligned(kind, rounding)

    def _one_aligned(self, kind, rounding):
        op, given, layer, out = number_of(kind.name), padded(kind.parameters), doubles(LAYER), np.empty((10, LANES))
        q = 0.75
        value, slope, *_ = own_references(kind, q)
        q2, c = np.full(LANES, q), np.full(LANES, q * (1 + rounding))

        def check():
            points = ctypes.c_double(q), pointer(q2), pointer(c)
            self.c.pairs_f64(op, pointer(given), pointer(layer), *points, pointer(out))
            infinite = 2 if kind.what in ("step()", "sign()") else 3 if kind.is_kink else None
            zero = infinite is None or not out[infinite].any()
            return zero and np.allclose(out[0], value, rtol=1e-14) and np.allclose(out[1], slope, rtol=1e-14)

        return check

    def _diagonals(self):
        for kind in KINDS:
            yield f"{kind.what}, a point with itself", self._diagonal(kind)

    def _diagonal(self, kind):
        op, given, layer, out = number_of(kind.name), padded(kind.parameters), doubles(LAYER), np.empty(9)
        expected = [own_references(kind, q) for q in ROWS]

        def check():
            for q, wanted in zip(ROWS, expected, strict=True):
                self.c.diagonal(op, pointer(given), pointer(layer), ctypes.c_double(q), pointer(out))
                if not np.allclose(out, wanted, rtol=1e-13, atol=1e-14):
                    return False
            return True

        return check

    @functools.cached_property
    def alone(self):
        return tuple(self._alone())

    def _alone(self):
        yield "angles", self._angles()
        for net in ALONE:
            for x, y in ALONE_PAIRS:
                for traced in (0, 1):
                    yield f"{net!r} alone, {x}, {y}", self._pair(net, x, y, traced)

    def _angles(self):
        delta = np.array([0.1, 0.0999, 0.08, 0.03, 1e-3, 1e-6, 1e-12, 0.2, 0.6, 1.0])
        angles = [mp.acos(1 - mp.mpf(float(value))) for value in delta]
        excess = doubles([float(mp.sin(angle) - angle * mp.cos(angle)) for angle in angles])
        wanted, found = doubles([float(angle) for angle in angles]), np.empty((2, len(delta)))

        def check():
            self.c.angles(len(delta), pointer(delta), pointer(found[0]), pointer(found[1]))
            right = np.allclose(found[0], wanted, rtol=1e-15, atol=0)
            return right and np.allclose(found[1], excess, rtol=np.where(delta > 0.1, 1e-12, 1e-14), atol=0)

        return check

    def _pair(self, net, x, y, traced):
        lines = lower(net, 2).lines
        kinds = [line.instruction for line in lines]
        ops = np.array([number_of(kind.name if kind else "affine") for kind in kinds], dtype=np.int32)
        given = doubles([[*map(float, kind.parameters if kind else ()), 0, 0, 0][:3] for kind in kinds])
        layers = doubles([[float(number) for number in line.numbers] for line in lines])
        state = reference.pair(net, x, y)
        gap = 1 - abs(state.xy) / mp.sqrt(state.xx * state.yy)
        wanted = doubles([float(value) for value in (state.xy, state.ntk_xy, state.dot_xy, gap)])
        x, y, out = doubles(x), doubles(y), np.empty(4)

        def check():
            program = len(lines), pointer(ops), pointer(given), pointer(layers)
            self.c.alone(*program, 2, pointer(x), pointer(y), traced, pointer(out))
            return np.allclose(out, wanted, rtol=NEAR, atol=1e-25)  # of exactly parallel points

        return check

    def _widths(self):
        yield "sin4", self._sin4()
        net = WIDE[1][0]
        yield "finite width, a point twice", self._width(net, 1, WIDE_PAIRS[0][0], WIDE_PAIRS[0][0])
        for net, n_outputs, pairs in WIDE:
            for x, y in (WIDE_PAIRS[k] for k in pairs):
                yield f"finite width, {x}, {y}", self._width(net, n_outputs, x, y)

    def _sin4(self):
        theta = np.array([1e-3, 0.1, 0.3, 0.45, 0.5, 0.505, 0.8, 1.5])
        exact = [3 * t / 8 - mp.sin(t) / 2 + mp.sin(t) * mp.cos(t) / 8 for t in map(mp.mpf, map(float, theta))]
        wanted, out = doubles([float(value) for value in exact]), np.empty_like(theta)

        def check():
            self.c.sin4(len(theta), pointer(theta), pointer(out))
            return np.allclose(out, wanted, rtol=np.where(theta < 0.51, 1e-15, 1e-13), atol=0)

        return check

    def _width(self, net, n_outputs, x, y):
        wanted = wide_references(net, x, y, n_outputs)
        problem = Problem(net, [x], [y], dtype=np.float64)
        problem.load()
        first = doubles([float(number) for number in problem.code.lines[0].numbers])
        rows, columns = (statistics._numbers(problem.code, points) for points in problem.points)
        rows, hidden = doubles(rows[:, 0]), statistics._hidden(problem.code, [1.0] * (net.depth - 1))
        x, y, out = doubles(x), doubles(np.tile(y, LANES)), np.empty((len(wanted), LANES))
        columns[:] = columns[:, :1]

        def check():
            points = pointer(x), pointer(y), LANES, pointer(rows), pointer(columns)
            layers = pointer(first), len(hidden), pointer(hidden), ctypes.c_double(n_outputs)
            self.c.finite_width(2, *points, *layers, pointer(out))
            known = ~np.isnan(wanted)
            return np.allclose(out[known, 0], np.array(wanted)[known], rtol=NEAR) and not np.isnan(out[:, 0]).any()

        return check


def compiler():
    return shlex.split(sysconfig.get_config_var("CC") or "cc")[0]


def mutated(file, start, listed=True):
    """The text of a file with all changes in it, which nf_mutant chooses, and the Mutants, numbered from start.

    listed: without those that C lists.
    """
    text = (ROOT / "src_c" / file).read_text(encoding="utf-8")
    text, found = _mutants.mutate_c(file, text, start, C[file] if listed else (), FUNCTIONS.get(file))
    text = text.replace("static const", "const")  # so that numbers in arrays may be chosen at run time
    return text + (ANGLES if file == "pair.c" else ""), found


def doubles(values):
    return np.ascontiguousarray(values, dtype=float)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def number_of(name):
    """The number of an instruction: its place in the registry."""
    text = (ROOT / "src_c" / "ntkfast.h").read_text(encoding="utf-8")
    registry = text[text.index("#define NF_STRUCTURE") : text.index("#define NF_ENUM")]
    return re.findall(r"X\([A-Z_]+, (\w+),", registry).index(name)


def padded(parameters):
    return doubles([*map(float, parameters), 0, 0, 0][:3])


def correlated(q1):
    """Covariances of the columns with a row: all but the last two factors are powers of 2, or rounded to float32."""
    return [float(np.float32(rho * math.sqrt(q1 * q2))) for q2, rho in COLUMNS]


@functools.cache
def references(dual, q1):
    """The FIELDS (fields, columns): the closed form in mpmath, and its derivatives by differences in its digits."""
    rows = [_reference(dual, q1, q2, c) for (q2, _), c in zip(COLUMNS, correlated(q1), strict=True)]
    return np.array(rows, dtype=float).T


def _reference(dual, q1, q2, c):
    K = tuple(map(mp.mpf, (q1, q2, c)))
    value, slope = dual(*K)
    h = mp.mpf(10) ** -18
    by = []
    for k in range(3):
        up, down = (dual(*(x + sign * h * (i == k) for i, x in enumerate(K))) for sign in (1, -1))
        by.append([(u - d) / (2 * h) for u, d in zip(up, down, strict=True)])
    (value_1, slope_1), (value_2, slope_2), (price, bend) = by
    a, b, c, d = LAYER
    rates = [price, bend, K[0] * value_1, K[1] * value_2, K[0] * slope_1, K[1] * slope_2]
    return [value, slope, *rates, a * value + b, a * slope * THETA + c * value + d]


def own_references(kind, q):
    """What `diagonal` computes, for a point with itself."""
    q, h = mp.mpf(q), mp.mpf(10) ** -15
    value, slope = kind.own(q)
    up, down = (kind.own(x) for x in (q + h, q - h))
    rate, bend = (q * (u - d) / (2 * h) for u, d in zip(up, down, strict=True))
    a, b, c, d = LAYER
    alone = (0, 0, 0) if kind.name in ("affine", "dropout") else (value, slope, rate)
    return doubles([value, slope, rate, bend, a * value + b, a * slope * THETA + c * value + d, *alone])


def wide_references(net, x, y, n_outputs):
    """The statistics of one pair by the recursions in mpmath."""
    lines = lower(net, len(x)).lines
    numbers = [tuple(map(float, line.numbers)) for line in lines]
    same, y = x == y, y if x != y else (1.0, 1.0)  # of a point with itself, from any pair that it is in
    slopes = [reference_beyond.TwoSlopes(*statistics.slopes(line)) for line in lines[1:]]
    with mpmath.workdps(40):
        found = reference_beyond.statistics(x, y, numbers, slopes, [1] * (net.depth - 1), n_outputs)
    if same:
        std = mp.sqrt(found["variances"][0])
        found |= {"ntk_mean": found["ntk"][0], "nngp_mean": found["nngp"][0], "ntk_std": std}
        found |= {"nngp_std": np.nan, "ntk_cross_std": np.nan}  # not among them
    return [float(found[name]) for name in statistics.NAMES]


# ---- Python --------------------------------------------------------------------------------------------------

GRID = np.array([-30.0, -7.3, -4.0, -3.4, -2.6, -1.4, -0.9, -0.35, -0.1, 0.2, 0.45, 0.8, 1.7, 2.7, 3.4, 4.5, 6.6, 30.0])
SMALL_GRID = GRID[np.abs(GRID) < 5]  # where exponentials do not overwhelm the rest
PLACES = (-3.0, -1.0, -0.8, -0.5, -0.3, 0.0, 0.2, 0.3, 0.4, 0.5, 0.8, 1.0, 3.0, 6.0)  # where φ may have kinks


MADE = (*catalogue.ALL, *catalogue.APART, A.abrelu(-0.4, 2.0), A.abrelu(0.3, 0.7))  # the last: sums that are 1 or 2


def wrong_activations(module):
    """Names of what differs from the formulas."""
    made = module.piecewise("lines", (), 0.3, -0.5, ((-1.0, 2.0), (0.5, 0.7)))
    lines = 0.3 - 0.5 * GRID + 2 * np.clip(GRID + 1, 0, None) + 0.7 * np.clip(GRID - 0.5, 0, None)
    if not close(made(GRID), lines):
        yield "piecewise"
    for act in MADE:
        try:
            new = getattr(module, act.name)(**dict(act.parameters))
            right = is_exp_normalized(new) if act in catalogue.APART else is_right(new, act)
        except Exception:  # whatever follows from the change
            right = False
        if not right:
            yield act.name


def is_right(new, act):
    phi, slope = formulas.phi(act), formulas.slope(act)
    kinks = np.array([x for x in PLACES if bends(slope, x) or phi(x + 1e-9) - phi(x - 1e-9) > 1e-3])
    if act.instruction.name == "arc_cosine":
        kinks = np.array([0.0])
    if len(new.kinks) != len(kinks) or not close(sorted(new.kinks), kinks):
        return False
    x = SMALL_GRID if act.instruction.name in ("exponential", "hyperbolic", "polynomial") else GRID
    with np.errstate(over="ignore", invalid="ignore"):
        good = close(new(x), phi(x)) and close(new.derivative(x), slope(x))
        for function, exact in ((new, phi), (new.derivative, slope)):
            good &= close(function(kinks), (exact(kinks + 1e-9) + exact(kinks - 1e-9)) / 2, 1e-7)
    kind = new.instruction
    if kind.is_piecewise_linear:
        offset, along, parts = kind.parameters
        good &= close(offset + along * GRID + sum(jump * np.maximum(GRID - at, 0) for at, jump in parts), phi(GRID))
    if kind.is_polynomial:
        good &= close(formulas.power_sum(x, kind.parameters), phi(x))
    elif act.name in formulas.DUALS:  # no series, whose data are kept by the name of the activation
        for pair in ((0.75, 1.5, 0.4), (2.0, 0.5, -0.7)):
            good &= close(
                (nf.dual(new, *pair), nf.dual_derivative(new, *pair)), formulas.dual(act, *pair, formulas.FLOAT)
            )
    return good


def is_exp_normalized(new):
    gamma, shift = (value for _, value in new.parameters)
    x, q, rho, k = np.array([[0.3, -1.2, 2.0], [0.1, 0.2, -0.1], [0.0, 0.0, 0.0]]), 0.75, 0.6, np.arange(30)
    rms = np.sqrt((x**2).sum(axis=1, keepdims=True) / 3)
    size = np.exp(np.sqrt(gamma) * np.divide(x, rms, out=np.zeros_like(x), where=rms > 0) + gamma * (shift - 1) / 2)
    found = nf.dual(new, q, 2 * q, 0.4), nf.dual_derivative(new, q, 2 * q, 0.4)
    duals = close(found, formulas.dual(new, q, 2 * q, 0.4, formulas.FLOAT))
    squares = new.hermite_coefficients(q, 30) ** 2  # of E[φφ] in powers of ρ
    series = close((squares * rho**k).sum(), formulas.dual(new, q, q, q * rho, formulas.FLOAT)[0])
    return duals and series and close(new(x), rms * size) and close(new.derivative(x), np.sqrt(gamma) * size)


def bends(slope, x, h=1e-6):
    """Whether φ' or φ'' jumps."""
    left, right = ([slope(x + side * k * h) for k in (1, 2)] for side in (-1, 1))
    return abs(right[0] - left[0]) > 1e-3 or abs((right[1] - right[0]) - (left[0] - left[1])) > 1e-3 * h


def close(found, wanted, tolerance=1e-11):
    return np.allclose(found, wanted, rtol=tolerance, atol=tolerance)


def python_mutants():
    path = ROOT / "ntkfast" / "networks" / "activations.py"
    yield from _mutants.mutate_python(path.name, path.read_text(encoding="utf-8"), PYTHON)


def caught_in_python(tree):
    module = types.ModuleType("ntkfast.networks.activations")
    with mock.patch.dict(FACTORIES), np.errstate(all="ignore"):  # in which the module registers its activations
        try:
            exec(compile(tree, "activations.py", "exec"), module.__dict__)
        except Exception:  # whatever follows from the change
            return "import"
        return next(wrong_activations(module), None)


# ---- all of them ---------------------------------------------------------------------------------------------


def sweep(folder, numbers):
    """Print a line of JSON for each of these mutants of C, in this process, which one of them may end."""
    library = Library(folder)
    for file in C:
        mutants = [mutant for mutant in library.mutants if mutant.file == file and mutant.number in numbers]
        checks = list(library.checks(file)) if mutants else ()
        wrong = [name for name, check in checks if not check()]
        assert not wrong, f"wrong without any change: {wrong}"
        for mutant in mutants:
            print(json.dumps({"begins": mutant.number}), flush=True)
            print(json.dumps({"number": mutant.number, "caught": library.caught(mutant, checks)}), flush=True)


def c_mutants():
    """All of them, by number."""
    found = []
    for file in C:
        found += mutated(file, len(found) + 1)[1]
    return {mutant.number: mutant for mutant in found}


def not_caught_in_c(numbers):
    """The numbers of those mutants that no check notices. One that ends the process has been noticed."""
    left, survivors = set(numbers), []
    with tempfile.TemporaryDirectory() as folder:
        while left:
            done = frame.python("-m", "stress.mutations", folder, *sorted(left))
            lines = [json.loads(line) for line in done.stdout.splitlines()]
            assert lines, done.stderr[-3000:]
            left -= {line["begins"] for line in lines if "begins" in line}
            survivors += [line["number"] for line in lines if "number" in line and line["caught"] is None]
    return survivors


def run(scale):
    frame.require("mpmath", programs=[compiler()])
    choose, found, survivors = random.Random(0), {}, []
    mutants = c_mutants()
    if scale == "small":  # the references of finite width take half a minute
        some = [number for number, mutant in mutants.items() if mutant.file != "widths.h"]
        mutants = {number: mutants[number] for number in choose.sample(some, SMALL)}
    survivors += [mutants[number] for number in not_caught_in_c(mutants)]
    for file in C:
        if count := sum(mutant.file == file for mutant in mutants.values()):
            found[f"changes in {file}, all of them noticed"] = count
    assert not list(wrong_activations(A)), "wrong without any change"
    count = 0
    for mutant, tree in python_mutants():
        if scale == "full" or choose.random() < 0.05:
            count += 1
            survivors += [mutant] * (caught_in_python(tree) is None)
    if scale == "full":
        everything = sum(len(mutated(file, 1, listed=False)[1]) for file in C)
        found["changes in C that make no difference, or are loops and addresses"] = everything - len(mutants)
    assert not survivors, "not noticed:\n" + "\n".join(map(str, survivors))
    return found | {"changes in activations.py, all of them noticed": count}


if __name__ == "__main__":
    sweep(sys.argv[1], {int(number) for number in sys.argv[2:]})
