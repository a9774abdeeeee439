"""SciPy's BLAS and LAPACK on blocks of matrices in Fortran order, in place. SciPy's Python functions copy blocks, and
NumPy's products have threads of their own: two pools wait for each other.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ntkfast.support.typing import Array, DType

TYPES: dict[DType, tuple[str, Any]] = {
    np.dtype(np.float32): ("s", ctypes.c_float),
    np.dtype(np.float64): ("d", ctypes.c_double),
}


def add_product(C: Array, alpha: float, A: Array, B: Array, trans_a: bool = False, trans_b: bool = False) -> None:
    """C ← C + alpha A B."""
    k = A.shape[0] if trans_a else A.shape[1]
    _call("blas", "gemm", _letter(trans_a), _letter(trans_b), *C.shape, k, alpha, A, B, 1.0, C)


def add_square(C: Array, alpha: float, A: Array) -> None:
    """C ← C + alpha A Aᵀ, on and below the diagonal."""
    _call("blas", "syrk", "L", "N", *A.shape, alpha, A, 1.0, C)


def solve_triangular(L: Array, B: Array, trans: bool, from_right: bool = False) -> None:
    """B ← L⁻¹ B or B L⁻¹, with Lᵀ for L if trans. What is above the diagonal of L is not read."""
    _call("blas", "trsm", "R" if from_right else "L", "L", _letter(trans), "N", *B.shape, 1.0, L, B)


def factor(A: Array) -> int:
    """Write Cholesky's factor on and below the diagonal of A; the pivot (from 1) that failed, or 0."""
    failed = ctypes.c_int()
    _call("lapack", "potrf", "L", len(A), A, failed)
    return failed.value


def _letter(trans: bool) -> str:
    return "T" if trans else "N"


def _call(library: str, name: str, *arguments: Any) -> None:
    """An array is passed with its leading dimension; everything by reference, as Fortran does.

    The last array is written to.
    """
    given = [argument for argument in arguments if isinstance(argument, np.ndarray)]
    (dtype,) = {array.dtype for array in given}
    letter, number = TYPES[dtype]
    if not given[-1].flags.writeable:
        raise ValueError(f"{name}: the array to write to is read-only")
    if not all(len(array) <= 1 or array.strides[0] == array.itemsize for array in given):
        raise ValueError(f"{name}: expected blocks of matrices in Fortran order")
    passed: list[Any] = []
    for argument in arguments:
        match argument:
            case np.ndarray():
                step = max(argument.strides[1] // argument.itemsize, len(argument), 1)
                passed += [argument.ctypes.data, ctypes.byref(ctypes.c_int(step))]
            case str():
                passed.append(ctypes.byref(ctypes.c_char(argument.encode())))
            case float():
                passed.append(ctypes.byref(number(argument)))
            case int():
                passed.append(ctypes.byref(ctypes.c_int(argument)))
            case _:
                passed.append(ctypes.byref(argument))
    try:
        _routine(library, letter + name)(*passed)
    except ctypes.ArgumentError as error:  # all of them are right: there was no memory to convert one
        raise MemoryError(str(error)) from error


@functools.cache
def _routine(library: str, name: str) -> Callable[..., None]:
    """A function that SciPy exposes to Cython code. It releases the GIL."""
    capsule = importlib.import_module(f"scipy.linalg.cython_{library}").__pyx_capi__[name]
    python, capsule_type = ctypes.pythonapi, ctypes.py_object
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, capsule_type)(("PyCapsule_GetName", python))
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, capsule_type, ctypes.c_char_p)(("PyCapsule_GetPointer", python))
    signature = name_of(capsule)
    if b"int *" not in signature:
        raise ImportError(
            f"scipy.linalg.cython_{library}: expected 32-bit integers in {name}, got {signature.decode()}"
        )
    n_arguments = signature.count(b",") + 1
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * n_arguments)(pointer_of(capsule, signature))
