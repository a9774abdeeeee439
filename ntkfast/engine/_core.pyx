# cython: language_level=3, boundscheck=False, wraparound=False, embedsignature=True
# _core.pyx: the one door between Python and src_c.  It checks nothing that the callers in this package have checked;
# shapes and dtypes are those of ntkfast.h.
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from cpython.ref cimport PyObject
cimport cython
from scipy.linalg.cython_blas cimport dgemm, sgemm

import numpy as np


cdef extern from "ntkfast.h" nogil:
    enum: NF_OK, NF_STOPPED, NF_NO_MEMORY, NF_N_OPS, NF_PLANES, NF_LANES
    ctypedef enum nf_dtype:
        NF_FLOAT32, NF_FLOAT64
    ctypedef struct nf_op_info:
        const char *name
        int n_params, n_rows
    ctypedef struct nf_instr:
        int op, row
        long double param[3]
        long double layer[4]
    ctypedef struct nf_program:
        const nf_instr *code
        int n, n_rows, last_dual
    ctypedef struct nf_tile:
        pass
    ctypedef struct nf_grid:
        int64_t n, m
        int tile, symmetric
    ctypedef struct nf_map:
        int (*open)(const void *, nf_tile *, int) noexcept nogil
        void (*rows)(const void *, nf_tile *, int, int) noexcept nogil
        const void *self
    ctypedef struct nf_sink:
        int (*put)(void *, const nf_tile *, int, int) noexcept nogil
        void *self
    ctypedef struct nf_watch:
        int (*poll)(void *, int64_t, int64_t) noexcept nogil
        void *self
        double interval
    ctypedef void (*nf_gemm)(char *, char *, int *, int *, int *, void *, void *, int *, void *, int *, void *, void *,
                             int *) noexcept nogil
    ctypedef struct nf_side:
        const void *x
        const void *table
        int64_t ldx, ldt
    ctypedef struct nf_limit:
        nf_dtype dtype
        const nf_program *program
        int d, symmetric
        nf_side rows, columns
        nf_gemm gemm
        const void *diagonal[3]
    ctypedef struct nf_array:
        nf_dtype dtype
        int symmetric, stream
        void *base[3]
        int64_t row_stride[3]
        int64_t column_stride[3]
    ctypedef struct nf_isa:
        const char *name
    const nf_op_info nf_ops[]
    void nf_norms(nf_dtype, const void *, int64_t, int64_t, int64_t, double *, int)
    void nf_points(nf_dtype, const nf_program *, int64_t, long double *, long double *, long double *, long double *,
                   long double *, void *, int64_t, int)
    int nf_run(const nf_grid *, nf_dtype, unsigned, nf_map, nf_sink, const nf_watch *, int)
    int nf_limit_open(const void *, nf_tile *, int)
    void nf_limit_rows(const void *, nf_tile *, int, int)
    int nf_array_put(void *, const nf_tile *, int, int)
    const nf_isa *nf_isa_in_use()
    const char *const *nf_isa_available()
    int nf_has_openmp()
    int nf_max_threads()


cdef extern from "Python.h":
    int check_signals "PyErr_CheckSignals"() except -1
    # Declared without `except`: what they raise stays pending until the engine has unwound.
    int PyErr_CheckSignals()
    PyObject *PyObject_CallFunction(PyObject *, const char *, ...)
    void Py_XDECREF(PyObject *)


cdef enum:
    POLL_WORK = 40000000  # numbers read between two looks for Ctrl-C, some 20 ms

LANES = NF_LANES
OUTPUTS = ("nngp", "ntk", "nngp_dot")  # in the order of the planes
# name -> (opcode, number of parameters, rows in the point table)
INSTRUCTIONS = {nf_ops[k].name.decode(): (k, nf_ops[k].n_params, nf_ops[k].n_rows) for k in range(NF_N_OPS)}


def isa_available():
    """Names of the instruction sets that are compiled in and supported by this CPU, best first."""
    cdef const char *const *names = nf_isa_available()
    found = []
    while names[len(found)] != NULL:
        found.append(names[len(found)].decode())
    return tuple(found)


def isa_in_use():
    """The instruction set in use, or None if NTKFAST_ISA names one that is not available."""
    cdef const nf_isa *isa = nf_isa_in_use()
    return None if isa == NULL else isa.name.decode()


def has_openmp():
    return bool(nf_has_openmp())


def max_threads():
    """OpenMP's own limit for a call from this thread (1 without OpenMP)."""
    return nf_max_threads()


cdef class Program:
    """A kernel program. code: a sequence of (instruction name, its parameters, the four numbers of its layer)."""

    cdef nf_program program
    cdef nf_instr *code

    def __cinit__(self, code):
        cdef long double[::1] params, layer
        self.code = <nf_instr *>calloc(max(len(code), 1), sizeof(nf_instr))
        if self.code == NULL:
            raise MemoryError
        self.program.code = self.code
        self.program.n = len(code)
        self.program.last_dual = -1
        for k, (name, values, layer_values) in enumerate(code):
            op, n_params, n_rows = INSTRUCTIONS[name]
            if len(values) != n_params:
                raise ValueError(f"instruction {name!r} takes {n_params} parameters, got {len(values)}")
            params = np.array([*values, 0], dtype=np.longdouble)  # never empty: a view needs an element
            layer = np.array(layer_values, dtype=np.longdouble)
            self.code[k].op = op
            self.code[k].row = self.program.n_rows
            for i in range(n_params):
                self.code[k].param[i] = params[i]
            for i in range(4):
                self.code[k].layer[i] = layer[i]
            self.program.n_rows += n_rows
            if n_rows:
                self.program.last_dual = k

    def __dealloc__(self):
        free(self.code)

    @property
    def n_rows(self):
        return self.program.n_rows


def norms(const cython.floating[:, :] x, int n_threads):
    """Squared norms (n,) of the rows of x (n, d), float64; NaN and inf travel."""
    out = np.empty(x.shape[0])
    cdef double[::1] view = out
    cdef nf_dtype dtype = NF_FLOAT32 if cython.floating is float else NF_FLOAT64
    cdef int64_t n = x.shape[0], d = x.shape[1], ld = x.strides[0] // <int64_t>sizeof(cython.floating)
    cdef int64_t start = 0, step = max(64, POLL_WORK // d), count
    while start < n:
        count = min(step, n - start)
        with nogil:
            nf_norms(dtype, &x[start, 0], count, d, ld, &view[start], n_threads)
        check_signals()
        start += count
    return out


def points(Program program, squared_norms, dtype, int n_threads, bint with_table, progress):
    """The program on the diagonal: the point table (n_rows, n padded) of dtype, or an empty one, and (5, n) in long
    double: nngp, ntk, nngp_dot, and the largest values that nngp and ntk had on the way.
    """
    cdef int64_t n = len(squared_norms), ld = -(-n // NF_LANES) * NF_LANES
    cdef int64_t start = 0, step = max(256, POLL_WORK // (64 * program.program.n)), count
    table = np.zeros((max(program.n_rows, 1), ld) if with_table else (1, 1), dtype=dtype)
    state = np.zeros((5, n), dtype=np.longdouble)
    state[0] = squared_norms
    cdef long double[:, ::1] view = state
    cdef char[:, ::1] bytes_view = table.view(np.int8)
    cdef int64_t size = table.itemsize
    cdef nf_dtype c_dtype = NF_FLOAT32 if size == 4 else NF_FLOAT64
    cdef void *first
    while start < n:
        count = min(step, n - start)
        first = &bytes_view[0, start * size] if with_table else NULL
        with nogil:
            nf_points(c_dtype, &program.program, count, &view[0, start], &view[1, start], &view[2, start],
                      &view[3, start], &view[4, start], first, ld, n_threads)
        check_signals()
        start += count
        if progress is not None:
            progress(start, n)
    return table, state


cdef int poll(void *callback, int64_t done, int64_t total) noexcept with gil:
    cdef PyObject *result
    if PyErr_CheckSignals() != 0:
        return 1
    if callback != NULL:
        result = PyObject_CallFunction(<PyObject *>callback, "LL", <long long>done, <long long>total)
        if result == NULL:
            return 1
        Py_XDECREF(result)
    return 0


cdef int raise_pending() except -1:
    return -1


cdef bind(nf_array *sink, int plane, cython.floating[:, :] out):
    sink.base[plane] = &out[0, 0]
    sink.row_stride[plane] = out.strides[0] // <int64_t>sizeof(cython.floating)
    sink.column_stride[plane] = out.strides[1] // <int64_t>sizeof(cython.floating)


def limit(Program program, const cython.floating[:, :] x, const cython.floating[:, ::1] x_table,
          const cython.floating[:, :] y, const cython.floating[:, ::1] y_table,
          const cython.floating[:, ::1] diagonals, outs, int tile, int n_threads, progress):
    """Write the limit kernels of the rows of x (n, d) against those of y (m, d) into outs.

    diagonals (3, n): exact values for the symmetric case, else None.  outs: three arrays (n, m), or None where an
    output is not asked for.  progress: None or a callable (done, total).  The GIL is free but for the polls.
    """
    cdef nf_dtype dtype = NF_FLOAT32 if cython.floating is float else NF_FLOAT64
    cdef bint symmetric = diagonals is not None
    cdef nf_grid grid = nf_grid(x.shape[0], y.shape[0], tile, symmetric)
    cdef nf_limit kernel
    cdef nf_array array
    cdef nf_map make
    cdef nf_sink put
    cdef nf_watch watch
    cdef cython.floating[:, :] out
    cdef unsigned planes = 0
    cdef int status, p
    cdef int64_t size = sizeof(cython.floating)

    kernel.dtype, kernel.program, kernel.d, kernel.symmetric = dtype, &program.program, x.shape[1], symmetric
    kernel.rows = nf_side(&x[0, 0], &x_table[0, 0], x.strides[0] // size, x_table.shape[1])
    kernel.columns = nf_side(&y[0, 0], &y_table[0, 0], y.strides[0] // size, y_table.shape[1])
    kernel.gemm = <nf_gemm>sgemm if dtype == NF_FLOAT32 else <nf_gemm>dgemm
    array.dtype, array.symmetric = dtype, symmetric
    array.stream = grid.n * grid.m * size > 1 << 25
    for p in range(NF_PLANES):
        kernel.diagonal[p] = &diagonals[p, 0] if symmetric else NULL
        if outs[p] is not None:
            planes |= 1 << p
            out = outs[p]
            bind(&array, p, out)
    make.open, make.rows, make.self = nf_limit_open, nf_limit_rows, &kernel
    put.put, put.self = nf_array_put, &array
    watch.poll, watch.self, watch.interval = poll, NULL if progress is None else <void *>progress, 0.03
    with nogil:
        status = nf_run(&grid, dtype, planes, make, put, &watch, n_threads)
    if status == NF_STOPPED:
        raise_pending()
    if status == NF_NO_MEMORY:
        raise MemoryError("no memory for the scratch tiles")
