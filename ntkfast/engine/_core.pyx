# cython: language_level=3, wraparound=False, embedsignature=True
# _core.pyx: the one door between Python and src_c.  It does not repeat the checks of its callers in this package;
# shapes and dtypes are those of ntkfast.h.
#
# Threads: all state of the module is made on import (the instruction set). Maps, sinks and programs belong to one call,
# except that calls share programs which they only read, and those of `pair`, in critical sections.
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.math cimport NAN, isfinite
from libc.string cimport memchr, memcmp, memcpy, memset
from cpython.buffer cimport PyBUF_STRIDED_RO, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer
from cpython.ref cimport PyObject
cimport cython

import numpy as np


cdef extern from "ntkfast.h" nogil:
    enum: NF_OK, NF_STOPPED, NF_NO_MEMORY, NF_N_OPS, NF_PLANES, NF_LANES, NF_MAX_NESTING
    enum: NF_EDGE, NF_MAX_ROWS, NF_STACK, NF_BINS, NF_STEP, NF_SCRATCH, NF_MAX_NEAR, NF_NEAR_TERMS, NF_NEAR_STEP, NF_MAX_POWERS
    enum: NF_RATES, NF_NNGP, NF_NTK, NF_PANEL, NF_Q, NF_PEAK_Q, NF_PEAK_THETA, NF_SERIES, NF_MOST_PLANES, NF_WIDTH_NUMBERS
    ctypedef enum nf_dtype:
        NF_FLOAT32, NF_FLOAT64
    ctypedef struct nf_op_info:
        const char *name
        int n_params, n_rows
    ctypedef struct nf_instr:
        int op, row, n_rows
        const void *data
        long double param[3]
        long double layer[4]
    ctypedef struct nf_terms:
        int even, odd, slopes
        double reach
        const int *terms
    ctypedef struct nf_polynomial:
        nf_terms terms
        int degree
        const long double *basis
    ctypedef struct nf_powers:
        int n, order, exact
        double window, start "from", upto
        const double *at
        const double *side
        const double *coef
    ctypedef struct nf_kinks:
        nf_terms terms
        int n
        const long double *at
        const long double *jump
        long double offset, slope
        const double *root
        const double *inverse_root
        const nf_powers *powers
    ctypedef struct nf_cell:
        const double *coef
        int64_t size
        int fours
        int *terms
    ctypedef struct nf_panels:
        nf_terms terms
        double first, per_unit, most_inverse
        int n, degree
        const double *coef
        const double *moment
        double zero[2]
        int jumps_at_zero, root
        const nf_cell *near
        const double *edge
        int n_angle, parts
        unsigned char *missing
        const nf_powers *powers
    ctypedef struct nf_program:
        const nf_instr *code
        int n, n_rows, nesting, last_dual
    ctypedef struct nf_grid:
        int64_t n, m
        int tile, symmetric
        nf_dtype dtype
        int width
    ctypedef struct nf_tile:
        pass
    ctypedef struct nf_map:
        int (*open)(const void *, nf_tile *, int) noexcept nogil
        void (*rows)(const void *, nf_tile *, int, int) noexcept nogil
        const void *self
        unsigned planes
        int n_scratch
        size_t work_bytes
    ctypedef struct nf_sink:
        int (*begin)(void *, const nf_tile *) noexcept nogil
        int (*put)(void *, const nf_tile *, int, int) noexcept nogil
        int (*end)(void *, const nf_tile *) noexcept nogil
        void *self
    ctypedef struct nf_watch:
        int (*poll)(void *, int64_t, int64_t) noexcept nogil
        void *self
        double interval
    ctypedef void (*nf_gemm)(char *, char *, int *, int *, int *, void *, void *, int *, void *, int *, void *, void *,
                             int *) noexcept nogil
    ctypedef void (*nf_syrk)(char *, char *, int *, int *, void *, void *, int *, void *, void *, int *) noexcept nogil
    ctypedef struct nf_blas:
        nf_gemm gemm
        nf_syrk syrk
    ctypedef struct nf_points_view:
        const void *x
        int64_t ld
    ctypedef struct nf_side:
        nf_points_view points
        const double *norms
        const void *table
        const void *inverse
    ctypedef struct nf_pair:
        long double q[2]
        long double difference, gap, theta
        int sign
    ctypedef struct nf_limit:
        const nf_program *program
        int d, wide
        nf_side rows, columns
        nf_blas blas
        double shift, bound
        const void *diagonal[3]
    ctypedef struct nf_queue:
        pass
    ctypedef struct nf_sums:
        const nf_limit *limit
        double *layers
        double *by_row
        double *by_column
        double *of_rows
        double *of_columns
        nf_queue *queue
    ctypedef struct nf_gradient:
        nf_limit limit
        int output
        const void *weights
        int64_t ld_weights
        const nf_sums *sums
        int n_parameters
        const int *first
        const double *layer
        const double *of_row
        const double *of_column
        void *matrices
    ctypedef struct nf_term:
        nf_points_view a_rows, a_columns, b_rows, b_columns
        int64_t d_a, d_b, n_b, b_rows_step, b_columns_step
        double weight, bias
    ctypedef struct nf_tangent:
        int n_terms
        const nf_term *terms
        nf_blas blas
    ctypedef struct nf_hidden:
        double below, above, trained, shift, inverse_width
    ctypedef struct nf_width_side:
        nf_points_view points
        const double *numbers
        int64_t ld
    ctypedef struct nf_finite_width:
        nf_width_side rows, columns
        nf_blas blas
        int d, n_hidden
        double first[4]
        double n_outputs
        const nf_hidden *hidden
    ctypedef struct nf_array:
        int stream
        void *base[5]
        int64_t row_stride[5]
        int64_t column_stride[5]
    ctypedef struct nf_vectors:
        int plane, width, n_panels
        const double *v
        double *sum
        nf_queue *queue
    ctypedef struct nf_isa:
        const char *name
    const nf_op_info nf_ops[]
    int nf_stacks(int)
    void nf_norms(nf_dtype, const void *, int64_t, int64_t, int64_t, double *, int)
    void nf_points(nf_dtype, const nf_program *, int, int, int64_t, int64_t, long double *, int64_t, void *, int)
    void nf_pair_start(nf_dtype, const void *, const void *, int, double, double, nf_pair *)
    void nf_pair_run(const nf_program *, nf_pair *, long double *, double *)
    void nf_dual(const nf_instr *, int64_t, const double *, const double *, const double *, double *, double *)
    int64_t nf_grid_tiles(const nf_grid *)
    int nf_run(const nf_grid *, nf_map, nf_sink, int64_t, int64_t, const nf_watch *, int)
    int nf_limit_open(const void *, nf_tile *, int)
    void nf_limit_rows(const void *, nf_tile *, int, int)
    void nf_rates(const nf_program *, int64_t, const double *, long double *, int)
    size_t nf_gradient_bytes(const nf_limit *, nf_dtype)
    size_t nf_edges_bytes(nf_dtype, int64_t)
    void nf_gradient_rows(const void *, nf_tile *, int, int)
    int nf_sums_begin(void *, const nf_tile *)
    int nf_sums_end(void *, const nf_tile *)
    size_t nf_sums_bytes(const nf_sums *, const nf_grid *)
    int nf_tangent_open(const void *, nf_tile *, int)
    void nf_tangent_rows(const void *, nf_tile *, int, int)
    int nf_width_open(const void *, nf_tile *, int)
    void nf_width_rows(const void *, nf_tile *, int, int)
    int nf_array_put(void *, const nf_tile *, int, int)
    int nf_array_end(void *, const nf_tile *)
    int nf_vectors_begin(void *, const nf_tile *)
    int nf_vectors_put(void *, const nf_tile *, int, int)
    int nf_vectors_end(void *, const nf_tile *)
    size_t nf_vectors_bytes(const nf_vectors *, const nf_grid *)
    int nf_normal_begin(void *, const nf_tile *)
    int nf_normal_end(void *, const nf_tile *)
    size_t nf_normal_bytes(const nf_vectors *, const nf_grid *)
    nf_queue *nf_queue_new(int, int64_t, size_t)
    void nf_queue_free(nf_queue *)
    const nf_isa *nf_isa_in_use()
    const nf_isa *nf_isa_use(const char *)
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
    POLL_WORK = 40000000  # numbers read between two checks for Ctrl-C, some 20 ms

LANES = NF_LANES
EDGE = NF_EDGE
BINS = NF_BINS
STEP = NF_STEP  # numbers of terms are multiples of it
NEAR_STEP = NF_NEAR_STEP  # the same of tables near |ρ| = 1
NEAR_DEGREES = NF_MAX_NEAR  # in one variable, and in log q1 and log q2 together
OUTPUTS = ("nngp", "ntk", "nngp_dot")  # in the order of the planes
STATISTICS = ("ntk_mean", "ntk_std", "ntk_cross_std", "nngp_mean", "nngp_std")  # of finite width, likewise
# name -> (opcode, number of parameters, rows in the point table)
INSTRUCTIONS = {nf_ops[k].name.decode(): (k, nf_ops[k].n_params, nf_ops[k].n_rows) for k in range(NF_N_OPS)}
nf_isa_in_use()  # chosen on first use, which must not be that of two threads


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


def use_isa(str name):
    """Use this instruction set from now on, and return the name of the one before.

    For tests, which can thus run with each of `isa_available()` in one process. It is not thread-safe: no call of the
    engine may run meanwhile, on any thread.
    """
    cdef const nf_isa *before = nf_isa_use(name.encode())
    if before == NULL:
        raise ValueError(f"name: expected one of {', '.join(isa_available())} on this machine, got {name!r}")
    return before.name.decode()


def has_openmp():
    return bool(nf_has_openmp())


def max_threads():
    """OpenMP's own limit for a call from this thread (1 without OpenMP)."""
    return nf_max_threads()


cdef void *blas_function(str name) except NULL:
    """A function of the BLAS that SciPy exposes to Cython code.

    Imported here, not by `cimport`, with which importing this module would import all of scipy.linalg.
    """
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__[name]
    cdef const char *signature = PyCapsule_GetName(capsule)
    # Integers as in nf_gemm and nf_syrk; a 64-bit BLAS has others.
    if signature.count(b"int *") != (6 if name.endswith("gemm") else 4):
        raise ImportError(f"scipy.linalg.cython_blas: expected 32-bit integers in {name}, got {signature.decode()}")
    return PyCapsule_GetPointer(capsule, signature)


cdef nf_blas blas_of(bint single) except *:
    letter = "s" if single else "d"
    return nf_blas(<nf_gemm>blas_function(letter + "gemm"), <nf_syrk>blas_function(letter + "syrk"))


cdef union series_data:
    nf_terms terms
    nf_polynomial polynomial
    nf_kinks kinks
    nf_panels panels


def _check_cell(terms, shape, parts):
    """Raise unless near_cell, which trusts a cell, stays within coefficients of this shape and within its weights."""
    fits = 0 < len(terms) <= NF_MAX_NEAR // 4 and terms[0] <= NF_NEAR_TERMS
    fits = fits and all(more >= fewer > 0 for more, fewer in zip([terms[0], *terms], terms))
    if not fits or any(count % NF_NEAR_STEP for count in terms):
        raise ValueError(f"cells: expected up to {NF_MAX_NEAR // 4} counts of terms > 0, multiples of {NF_NEAR_STEP} "
                         f"that do not grow, the first at most {NF_NEAR_TERMS}, got {terms}")
    right = parts, parts, 8 * sum(terms)
    if tuple(shape)[:3] != right:
        raise ValueError(f"cells: expected coefficients of shape {right} for {terms}, got {tuple(shape)[:3]}")


cdef class Series:
    """The data of a polynomial, kinks or series instruction: structs of ntkfast.h over arrays that it keeps alive.

    counts: numbers of even and odd coefficients.  terms: (BINS, 2) how many of them are enough for |ρ| in each bin.
    slopes: whether the coefficients of φ' are stored separately.  The other arguments are those of the struct.
    """

    cdef series_data data
    cdef nf_powers powers_data
    cdef nf_cell *cells
    cdef object keep
    cdef readonly str name
    cdef readonly int n_rows

    def __init__(self, str name, counts, double reach, int[:, ::1] terms, bint slopes=False):
        self.name = name
        self.data.terms = nf_terms(counts[0], counts[1], slopes, reach, &terms[0, 0])
        self.n_rows = 2 + (counts[0] + counts[1]) * (2 if slopes else 1)
        if self.n_rows > NF_MAX_ROWS:
            raise ValueError(f"{name}: more terms than the engine holds ({self.n_rows} > {NF_MAX_ROWS})")
        self.keep = [terms]

    def __dealloc__(self):
        free(self.cells)

    def polynomial(self, long double[:, ::1] basis):
        self.data.polynomial.degree, self.data.polynomial.basis = len(basis) - 1, &basis[0, 0]
        self.keep.append(basis)
        return self

    def kinks(self, long double[::1] at, long double[::1] jump, offset, slope, double[::1] root,
              double[::1] inverse_root):
        self.data.kinks.n, self.data.kinks.at, self.data.kinks.jump = len(at), &at[0], &jump[0]
        self.data.kinks.offset, self.data.kinks.slope = offset, slope
        self.data.kinks.root, self.data.kinks.inverse_root = &root[0], &inverse_root[0]
        self.keep += [at, jump, root, inverse_root]
        return self

    def panels(self, double first, double per_unit, double[:, :, ::1] coef, double[:, :, ::1] moment, double zero,
               double zero_slope, bint jumps_at_zero):
        """coef (n, degree, rows - 2), moment (n, 2, degree)"""
        cdef nf_panels *panels = &self.data.panels
        panels.first, panels.per_unit, panels.n, panels.degree = first, per_unit, coef.shape[0], coef.shape[1]
        panels.most_inverse = 2.0 ** (-first / per_unit)
        panels.coef, panels.moment, panels.near, panels.n_angle = &coef[0, 0, 0], &moment[0, 0, 0], NULL, 1
        panels.parts = 1
        panels.zero[0], panels.zero[1], panels.jumps_at_zero = zero, zero_slope, jumps_at_zero
        panels.powers = NULL
        self.keep += [coef, moment]
        return self

    def powers(self, const double[::1] at, const double[::1] side, const double[:, :, ::1] coef, double window,
               bint exact, double start, double upto):
        """coef (n, 3, order + 2)"""
        if coef.shape[2] > NF_MAX_POWERS:
            raise ValueError(f"coef: at most {NF_MAX_POWERS} powers, got {coef.shape[2]}")
        self.powers_data = nf_powers(len(at), coef.shape[2] - 2, exact, window, start, upto, &at[0], &side[0],
                                     &coef[0, 0, 0])
        if self.name == "kinks":
            self.data.kinks.powers = &self.powers_data
        else:
            self.data.panels.powers = &self.powers_data
        self.keep += [at, side, coef]
        return self

    def near(self, cells, int parts, double[::1] edge, bint root):
        """cells: for sign of ρ, panel of q1, panel of q2 and panel of y (terms, coef) with coef (parts, parts, size), or
        None.
        """
        cdef nf_panels *panels = &self.data.panels
        cdef double[:, :, ::1] coef
        cdef int64_t i, k, n_angle = len(edge) - 1, n = 2 * <int64_t>panels.n * panels.n * n_angle
        if parts < 1 or n_angle < 1 or len(cells) != n:
            raise ValueError(f"cells: expected {n} for {panels.n} panels of q, {n_angle} of y, got {len(cells)}; {parts=}")
        panels.near = NULL
        free(self.cells)
        self.cells = <nf_cell *>calloc(n, sizeof(nf_cell))
        if self.cells == NULL:
            raise MemoryError
        for i, cell in enumerate(cells):
            if cell is None:
                continue
            terms, coef = cell
            _check_cell(terms, coef.shape, parts)
            self.cells[i].coef, self.cells[i].size, self.cells[i].fours = &coef[0, 0, 0], coef.shape[2], len(terms)
            for k in range(len(terms)):
                self.cells[i].terms[k] = terms[k]
        panels.near, panels.edge, panels.root = self.cells, &edge[0], root
        panels.n_angle, panels.parts = n_angle, parts
        self.keep += [list(cells), edge]
        return self


cdef class Program:
    """A kernel program. code: a sequence of (instruction name, its parameters, the four numbers of its layer).

    Instructions whose rows vary have no parameters; `bind` gives them their data, in order, before they run.
    dot: the instruction whose derivative is the output nngp_dot, or -1.
    """

    cdef nf_program program
    cdef nf_instr *code
    cdef series_data *data
    cdef list keep
    cdef dict missing_blocks

    def __cinit__(self, code, int dot=-1):
        cdef long double[::1] params, layer
        cdef int depth = 0
        self.code = <nf_instr *>calloc(max(len(code), 1), sizeof(nf_instr))
        self.data = <series_data *>calloc(max(len(code), 1), sizeof(series_data))
        if self.code == NULL or self.data == NULL:
            raise MemoryError
        self.keep, self.missing_blocks = [], {}
        self.program.code = self.code
        self.program.n = len(code)
        self.program.last_dual = dot
        for k, (name, values, layer_values) in enumerate(code):
            op, n_params, n_rows = INSTRUCTIONS[name]
            if len(values) != n_params:
                raise ValueError(f"instruction {name!r} takes {n_params} parameters, got {len(values)}")
            params = np.array([*values, 0], dtype=np.longdouble)  # never empty: a view needs an element
            layer = np.array(layer_values, dtype=np.longdouble)
            self.code[k].op = op
            for i in range(n_params):
                self.code[k].param[i] = params[i]
            for i in range(4):
                self.code[k].layer[i] = layer[i]
            self.code[k].n_rows = max(n_rows, 0)
            depth += nf_stacks(op)
            self.program.nesting = max(self.program.nesting, depth)
            if depth > NF_MAX_NESTING:
                raise ValueError(f"net: expected at most {NF_MAX_NESTING} branches, side by side or nested")
        self.place_rows()

    def __dealloc__(self):
        free(self.code)
        free(self.data)

    cdef place_rows(self):
        self.program.n_rows = 0
        for k in range(self.program.n):
            self.code[k].row = self.program.n_rows
            self.program.n_rows += self.code[k].n_rows

    def bind(self, int k, Series series):
        """Give instruction k its data."""
        memcpy(&self.data[k], &series.data, sizeof(series_data))
        self.code[k].data = &self.data[k]
        self.code[k].n_rows = series.n_rows
        self.keep.append(series)
        self.place_rows()
        if series.name == "series":
            missing = np.zeros((series.data.panels.n, series.data.panels.n), dtype=np.uint8)
            self.data[k].panels.missing = <unsigned char *><int64_t>missing.ctypes.data
            self.missing_blocks[k] = missing

    def missing(self):
        """Instruction -> pairs of panels that needed |ρ| beyond the reach of the series, and had no table for it."""
        return {
            k: {(int(p), int(q)) for p, q in np.argwhere(blocks)}
            for k, blocks in self.missing_blocks.items()
            if blocks.any()
        }

    cdef void forget_missing(self) noexcept:
        cdef int k
        for k in range(self.program.n):
            if self.code[k].op == NF_SERIES:
                memset(self.data[k].panels.missing, 0, self.data[k].panels.n * self.data[k].panels.n)

    cdef bint is_missing_any(self) noexcept:
        cdef int k
        for k in range(self.program.n):
            if self.code[k].op == NF_SERIES:
                if memchr(self.data[k].panels.missing, 1, self.data[k].panels.n * self.data[k].panels.n) != NULL:
                    return True
        return False

    @property
    def n_rows(self):
        return self.program.n_rows

    def __len__(self):
        return self.program.n


def norms(const cython.floating[:, :] x, int n_threads):
    """Squared norms (n,) of the rows of x (n, d), float64; NaN and inf propagate."""
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


def start(Program program, squared_norms):
    """State of the points before the first instruction, for `points`: (numbers, n) in long double.

    The first five rows are the outputs nngp, ntk, nngp_dot, then the largest intermediate values of nngp and ntk.
    """
    state = np.zeros((NF_STACK + 2 * program.program.nesting, len(squared_norms)), dtype=np.longdouble)
    state[0] = squared_norms
    return state


def points(Program program, long double[:, ::1] state, int first, int last, dtype, int n_threads, bint with_table,
           progress):
    """Instructions first .. last on the diagonal; changes state and returns the point table (blocks, n_rows, LANES) of
    dtype, an empty one unless with_table.
    """
    cdef int64_t n = state.shape[1]
    cdef int64_t begin = 0, step = max(256, POLL_WORK // (64 * max(program.program.n + program.program.n_rows, 1)))
    cdef int64_t count
    shape = (-(-n // NF_LANES), max(program.n_rows, 1), LANES) if with_table else (1, 1, 1)
    table = np.zeros(shape, dtype=dtype)
    cdef char[:, :, ::1] bytes_view = table.view(np.int8)
    cdef nf_dtype c_dtype = NF_FLOAT32 if np.dtype(dtype).itemsize == 4 else NF_FLOAT64
    cdef void *to = &bytes_view[0, 0, 0] if with_table else NULL
    while begin < n:
        count = min(step, n - begin)
        with nogil:
            nf_points(c_dtype, &program.program, first, last, begin, count, &state[0, begin], n, to, n_threads)
        check_signals()
        begin += count
        if progress is not None:
            progress(begin, n)
    return table


def dual(Program program, const double[::1] q1, const double[::1] q2, const double[::1] c):
    """E[φ(u)φ(v)] and E[φ'(u)φ'(v)] (n,) for the only instruction of a program."""
    cdef int64_t begin = 0, n = len(q1), step = 1000, count
    cdef double[::1] value = np.empty(n), slope = np.empty(n)
    while begin < n:
        count = min(step, n - begin)
        with nogil:
            nf_dual(program.code, count, &q1[begin], &q2[begin], &c[begin], &value[begin], &slope[begin])
        check_signals()
        begin += count
    return np.asarray(value), np.asarray(slope)


def trace(Program program, double q, double delta):
    """Variance and 1 - |ρ| (instructions + 1, 2) before each instruction and at the end, for two points of variance q
    whose correlation is 1 - delta, to relative precision.  Tables near |ρ| = 1 that the program lacks are not missed.
    """
    cdef nf_pair pair = nf_pair([q, q], 0, q * delta, 0, 1)
    cdef long double outputs[NF_PLANES]
    cdef double[:, ::1] numbers = np.empty((program.program.n + 1, 2))
    nf_pair_run(&program.program, &pair, outputs, &numbers[0, 0])
    program.forget_missing()
    return np.asarray(numbers)


def pair(Program program, x, y, str output, const double[:, ::1] ranges):
    """Output "nngp" or "ntk" of two points x, y (d,) of one dtype, contiguous: to relative precision, and of (y, x) to
    the last bit.

    ranges (series, 3): instruction, then the variances from and up to which its data hold. NaN if those of x or y are
    not among them, if a table near |ρ| = 1 is missing (see `Program.missing`), or if numbers are not finite in the dtype.
    """
    cdef bint single = x.itemsize == 4
    cdef bint is_missing
    cdef nf_dtype dtype = NF_FLOAT32 if single else NF_FLOAT64
    cdef double most = np.finfo(np.float32).max if single else np.finfo(np.float64).max
    cdef void *p = address(x)
    cdef void *r = address(y)
    cdef int d = len(x), wanted = OUTPUTS.index(output), done = 0, k, i, row
    cdef double q[2]
    cdef double value
    cdef long double state[2 * (NF_STACK + 2 * NF_MAX_NESTING)]
    cdef long double outputs[NF_PLANES]
    cdef nf_pair points
    nf_norms(dtype, p, 1, d, d, &q[0], 1)
    nf_norms(dtype, r, 1, d, d, &q[1], 1)
    if q[0] < q[1] or (q[0] == q[1] and memcmp(p, r, d * (4 if single else 8)) < 0):
        p, r, q[0], q[1] = r, p, q[1], q[0]
    memset(state, 0, sizeof(state))
    state[2 * NF_Q], state[2 * NF_Q + 1] = q[0], q[1]
    for row in range(ranges.shape[0] + 1):
        k = <int>ranges[row, 0] if row < ranges.shape[0] else program.program.n
        nf_points(NF_FLOAT64, &program.program, done, k, 0, 2, state, 2, NULL, 1)
        done = k
        for i in range(2 if row < ranges.shape[0] else 0):
            value = <double>state[2 * NF_Q + i]
            if value > 0 and not ranges[row, 1] <= value <= ranges[row, 2]:
                return NAN
    for i in range(2):
        if not (state[2 * NF_PEAK_Q + i] <= most and (wanted != NF_NTK or state[2 * NF_PEAK_THETA + i] <= most)):
            return NAN
    nf_pair_start(dtype, p, r, d, q[0], q[1], &points)
    with cython.critical_section(program):  # its record of what is missing, which threads share
        program.forget_missing()
        nf_pair_run(&program.program, &points, outputs, NULL)
        is_missing = program.is_missing_any()
    value = <float>outputs[wanted] if single else <double>outputs[wanted]
    return NAN if is_missing or not isfinite(value) else value


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


def rates(Program program, const double[::1] squared_norms, int n_threads):
    """At every instruction k, for the pairs (x_i, x_i): q and Θ before it, V = E[φ²] and D = E[φ'²], and dV/dlog q and
    dD/dlog q; (instructions, 6, n) in long double.
    """
    cdef int64_t n = len(squared_norms)
    cdef long double[:, :, ::1] numbers = np.empty((program.program.n, NF_RATES, n), dtype=np.longdouble)
    with nogil:
        nf_rates(&program.program, n, &squared_norms[0], &numbers[0, 0, 0], n_threads)
    return np.asarray(numbers)


# ---- maps and sinks ------------------------------------------------------------------------------------------


cdef void *address(array, bint writable=False) except NULL:
    """The address of the first element of an array; the holder of the address must keep the array alive."""
    cdef Py_buffer view
    PyObject_GetBuffer(array, &view, PyBUF_STRIDED_RO | (PyBUF_WRITABLE if writable else 0))
    cdef void *first = view.buf
    PyBuffer_Release(&view)
    return first


cdef nf_points_view points_view(array) except *:
    """The stride of a single row may be anything: BLAS gets one that it accepts."""
    n, d = array.shape
    return nf_points_view(address(array), d if n == 1 else array.strides[0] // array.itemsize)


cdef class Grid:
    """An n x m matrix divided into rectangles of `tile` rows and columns, numbered from 0. symmetric: only those on and
    above the diagonal are computed.  width: columns of a rectangle, if it is not square.
    """

    cdef nf_grid c

    def __init__(self, int64_t n, int64_t m, int tile, bint symmetric, dtype, int width=0):
        self.c = nf_grid(n, m, tile, symmetric, NF_FLOAT32 if np.dtype(dtype).itemsize == 4 else NF_FLOAT64, width)

    @property
    def tiles(self):
        return nf_grid_tiles(&self.c)


cdef class Map:
    """Fills the rectangles of a grid with the planes of one or more outputs."""

    cdef nf_map c
    cdef object keep


cdef class LimitMap(Map):
    """The limit kernels of the rows of x (n, d) against those of y (m, d).

    get: names from OUTPUTS.  diagonals (3, n): exact values in the symmetric case, else None.  Tables in float64 of
    points in float32: the program acts in float64.
    """

    cdef nf_limit limit

    def __init__(self, Program program, x, x_table, y, y_table, diagonals, get):
        set_limit(&self.limit, program, x, x_table, y, y_table)
        self.limit.wide = x_table.itemsize > x.itemsize
        for p in range(NF_PLANES):
            self.limit.diagonal[p] = NULL if diagonals is None else address(diagonals[p])
        self.keep = program, x, x_table, y, y_table, diagonals
        self.c.open, self.c.rows, self.c.self = nf_limit_open, nf_limit_rows, &self.limit
        self.c.work_bytes = nf_edges_bytes(NF_FLOAT32 if x.itemsize == 4 else NF_FLOAT64, x.shape[1])
        for name in get:
            self.c.planes |= 1 << OUTPUTS.index(name)

    def nearby(self, x_norms, x_inverse, y_norms, y_inverse, double shift, double bound):
        """Compute pairs with |x.y + shift| x_inverse y_inverse > bound from their differences (pair.c)."""
        self.limit.rows.norms = <const double *>address(x_norms)
        self.limit.rows.inverse = address(x_inverse)
        self.limit.columns.norms = <const double *>address(y_norms)
        self.limit.columns.inverse = address(y_inverse)
        self.limit.shift, self.limit.bound = shift, bound
        self.keep = self.keep, x_norms, x_inverse, y_norms, y_inverse
        return self


cdef set_limit(nf_limit *limit, Program program, x, x_table, y, y_table):
    limit.program, limit.d, limit.blas = &program.program, x.shape[1], blas_of(x.itemsize == 4)
    limit.rows = nf_side(points_view(x), NULL, address(x_table), NULL)
    limit.columns = nf_side(points_view(y), NULL, address(y_table), NULL)


cdef class GradientMap(Map):
    """Derivatives of one output.

    Derivatives of Σ_ij weights[i, j] output[i, j], without the diagonal of a symmetric matrix (`weighted`, for a
    GradientSink), or of every entry with respect to every parameter, written into an array (`matrices`).
    """

    cdef nf_gradient gradient

    def __init__(self, Program program, x, x_table, y, y_table, str output):
        set_limit(&self.gradient.limit, program, x, x_table, y, y_table)
        self.gradient.output = OUTPUTS.index(output)
        self.keep = [program, x, x_table, y, y_table]
        self.c.open, self.c.rows, self.c.self = nf_limit_open, nf_gradient_rows, &self.gradient
        self.c.planes = 1 << NF_NNGP
        self.c.work_bytes = nf_gradient_bytes(&self.gradient.limit, NF_FLOAT32 if x.itemsize == 4 else NF_FLOAT64)

    def weighted(self, weights, GradientSink sink):
        """weights (n, m): of the dtype of the grid, rows contiguous.  sink: the one that this map is run with."""
        self.gradient.weights, self.gradient.ld_weights = address(weights), weights.strides[0] // weights.itemsize
        self.gradient.sums, sink.sums.limit = &sink.sums, &self.gradient.limit
        self.keep += [weights, sink]
        return self

    def matrices(self, const int[::1] first, const double[:, :, ::1] layer, const double[:, :, ::1] of_row,
                 const double[:, :, ::1] of_column, out):
        """Write the derivatives with respect to each parameter p into out (parameters, n, m); for a symmetric matrix
        only the entries above the diagonal.

        layer (parameters, instructions, 4): rates of the numbers of each layer, the first of them at instruction
        first[p].  of_row (parameters, instructions, n) and of_column: rates of log q of the points before each
        instruction.
        """
        self.gradient.n_parameters, self.gradient.first, self.gradient.layer = len(first), &first[0], &layer[0, 0, 0]
        self.gradient.of_row, self.gradient.of_column = &of_row[0, 0, 0], &of_column[0, 0, 0]
        self.gradient.matrices = address(out, True)
        self.keep += [first, layer, of_row, of_column, out]
        return self


cdef class TangentMap(Map):
    """Σ (weight a·a' + bias) (Σ_k b_k·b'_k) over terms: the empirical kernels.

    terms: tuples (a, a', b, b', weight, bias) of arrays a (n, d_a), a' (m, d_a), b (k, n, d_b), b' (k, m, d_b) in the
    dtype of the grid, rows contiguous; a and a' may be None (weight counts as 0), and so may b and b' (the factor is
    1). On a symmetric grid a is a' and b is b'.
    """

    cdef nf_tangent tangent
    cdef nf_term *terms

    def __cinit__(self, terms, bint single):
        self.terms = <nf_term *>calloc(len(terms), sizeof(nf_term))
        if self.terms == NULL:
            raise MemoryError("no memory for the terms")

    def __init__(self, terms, bint single):
        cdef nf_term *term
        for k, (rows, columns, b_rows, b_others, weight, bias) in enumerate(terms):
            term = &self.terms[k]
            term.weight, term.bias = weight, bias
            if rows is not None:
                term.d_a, term.a_rows, term.a_columns = rows.shape[1], points_view(rows), points_view(columns)
            if b_rows is not None:
                term.n_b, term.d_b = b_rows.shape[0], b_rows.shape[2]
                term.b_rows, term.b_columns = points_view(b_rows[0]), points_view(b_others[0])
                term.b_rows_step = b_rows.strides[0] // b_rows.itemsize
                term.b_columns_step = b_others.strides[0] // b_others.itemsize
        self.tangent = nf_tangent(len(terms), self.terms, blas_of(single))
        self.keep = list(terms)
        self.c.open, self.c.rows, self.c.self = nf_tangent_open, nf_tangent_rows, &self.tangent
        self.c.planes, self.c.n_scratch = 1, NF_SCRATCH

    def __dealloc__(self):
        free(self.terms)


cdef class FiniteWidthMap(Map):
    """Statistics of networks of finite width to order 1/n, float64 only: see nf_finite_width.

    x (n, d), x_numbers (1 + NF_WIDTH_NUMBERS hidden + 1, n padded to LANES), and the same for y.  first (4,): A, B, C, D
    of the first layer.  hidden (layers, 5): nf_hidden.  get: names from STATISTICS.
    """

    cdef nf_finite_width map
    cdef double[:, ::1] hidden

    def __init__(self, x, double[:, ::1] x_numbers, y, double[:, ::1] y_numbers, first, double[:, ::1] hidden,
                 double n_outputs, get):
        for numbers, points in ((x_numbers, x), (y_numbers, y)):
            if numbers.shape[0] != NF_WIDTH_NUMBERS * len(hidden) + 2 or numbers.shape[1] < -(-len(points) // LANES) * LANES:
                raise ValueError(f"numbers: got shape {numbers.shape[0]}, {numbers.shape[1]}")
        self.map.rows = nf_width_side(points_view(x), &x_numbers[0, 0], x_numbers.shape[1])
        self.map.columns = nf_width_side(points_view(y), &y_numbers[0, 0], y_numbers.shape[1])
        self.map.blas, self.map.d, self.map.n_outputs = blas_of(False), x.shape[1], n_outputs
        for k in range(4):
            self.map.first[k] = first[k]
        self.hidden, self.map.n_hidden = hidden, len(hidden)
        self.map.hidden = <const nf_hidden *>&self.hidden[0, 0] if len(hidden) else NULL
        self.keep = x, x_numbers, y, y_numbers
        self.c.open, self.c.rows, self.c.self = nf_width_open, nf_width_rows, &self.map
        self.c.work_bytes = nf_edges_bytes(NF_FLOAT64, x.shape[1])
        for name in get:
            self.c.planes |= 1 << STATISTICS.index(name)


cdef class Sink:
    """Takes finished rectangles. This one discards them, for maps that keep their results."""

    cdef nf_sink c
    cdef object keep

    cdef open(self, Grid grid, int64_t first, int n_threads):
        """Called before a run over the tiles starting at number `first`."""

    cdef close(self):
        """Called after a run."""


cdef class ArraySink(Sink):
    """Writes outputs into arrays (n, m) of any strides, mirrored if the grid is symmetric.

    outs: one array for each output of the map, in the order of OUTPUTS, None for outputs that the map does not have.
    """

    cdef nf_array array

    def __init__(self, outs):
        for p, out in enumerate(outs):
            if out is not None:
                self.array.base[p] = address(out, True)
                self.array.row_stride[p] = out.strides[0] // out.itemsize
                self.array.column_stride[p] = out.strides[1] // out.itemsize
                self.array.stream = self.array.stream or out.size * out.itemsize > 1 << 25
        self.keep = outs
        self.c.put, self.c.end, self.c.self = nf_array_put, nf_array_end, &self.array


cdef class VectorSink(Sink):
    """Multiplies one output by vectors (m, k), float64, in one pass; `result` is (n, k). Nothing else is kept."""

    cdef nf_vectors vectors
    cdef object v, sum
    cdef int n_vectors

    def __init__(self, str output, int64_t n, v):
        m, self.n_vectors = v.shape
        self.vectors.plane = OUTPUTS.index(output)
        self.vectors.width = 1 if self.n_vectors == 1 else NF_PANEL
        self.vectors.n_panels = -(-self.n_vectors // self.vectors.width)
        padded = np.zeros((m, self.vectors.n_panels * self.vectors.width))
        padded[:, : self.n_vectors] = v
        panels = padded.reshape(m, self.vectors.n_panels, self.vectors.width)
        self.v = np.ascontiguousarray(panels.swapaxes(0, 1))
        self.sum = np.zeros((self.vectors.n_panels, n, self.vectors.width))
        self.vectors.v, self.vectors.sum = <double *>address(self.v), <double *>address(self.sum)
        self.c.begin, self.c.put, self.c.end = nf_vectors_begin, nf_vectors_put, nf_vectors_end
        self.c.self = &self.vectors

    cdef size_t part_bytes(self, Grid grid):
        return nf_vectors_bytes(&self.vectors, &grid.c)

    cdef open(self, Grid grid, int64_t first, int n_threads):
        self.sum[...] = 0
        self.vectors.queue = nf_queue_new(n_threads, first, self.part_bytes(grid))
        if self.vectors.queue == NULL:
            raise MemoryError("no memory for the sums of the tiles")

    cdef close(self):
        nf_queue_free(self.vectors.queue)
        self.vectors.queue = NULL

    def result(self):
        return self.sum.swapaxes(0, 1).reshape(self.sum.shape[1], -1)[:, : self.n_vectors]


cdef class NormalSink(VectorSink):
    """Multiplies KᵀK for one output K by vectors (m, k), in one pass; `result` is (m, k). Its tiles are as wide as K."""

    def __init__(self, str output, v):
        super().__init__(output, len(v), v)
        self.c.begin, self.c.put, self.c.end = nf_normal_begin, NULL, nf_normal_end

    cdef size_t part_bytes(self, Grid grid):
        return nf_normal_bytes(&self.vectors, &grid.c)


cdef class GradientSink(Sink):
    """Adds up the derivatives of a GradientMap that is `weighted`.

    `layers` (instructions, 4): with respect to the four numbers of each layer.  `by_row` (instructions, n), `by_column`
    (instructions, m): to log q of the points of x and of y before each instruction.  With `inputs`, `of_rows` (n, d) and
    `of_columns` (m, d): the sums of the points of the other side, weighted by the derivatives with respect to inner
    products; one array if the grid is symmetric.
    """

    cdef nf_sums sums
    cdef bint inputs
    cdef readonly object layers, by_row, by_column, of_rows, of_columns

    def __init__(self, bint inputs=False):
        self.inputs = inputs
        self.c.begin, self.c.end, self.c.self = nf_sums_begin, nf_sums_end, &self.sums

    cdef open(self, Grid grid, int64_t first, int n_threads):
        length, d = self.sums.limit.program.n, self.sums.limit.d
        self.layers = np.zeros((length, 4))
        self.by_row, self.by_column = np.zeros((length, grid.c.n)), np.zeros((length, grid.c.m))
        self.sums.layers = <double *>address(self.layers, True)
        self.sums.by_row = <double *>address(self.by_row, True)
        self.sums.by_column = <double *>address(self.by_column, True)
        if self.inputs:
            self.of_rows = np.zeros((grid.c.n, d))
            self.of_columns = self.of_rows if grid.c.symmetric else np.zeros((grid.c.m, d))
            self.sums.of_rows = <double *>address(self.of_rows, True)
            self.sums.of_columns = <double *>address(self.of_columns, True)
        self.sums.queue = nf_queue_new(n_threads, first, nf_sums_bytes(&self.sums, &grid.c))
        if self.sums.queue == NULL:
            raise MemoryError("no memory for the sums of the tiles")

    cdef close(self):
        nf_queue_free(self.sums.queue)
        self.sums.queue = NULL


def run(Map map, Sink sink, Grid grid, int64_t first, int64_t last, int n_threads, progress):
    """Tiles number first .. last of the grid, from the map to the sink.

    progress: None or a callable (done, total).  The GIL is released except for the polls.
    """
    cdef nf_watch watch
    cdef int status
    watch.poll, watch.self, watch.interval = poll, NULL if progress is None else <void *>progress, 0.03
    sink.open(grid, first, n_threads)
    try:
        with nogil:
            status = nf_run(&grid.c, map.c, sink.c, first, last, &watch, n_threads)
    finally:
        sink.close()
    if status == NF_STOPPED:
        raise_pending()
    if status == NF_NO_MEMORY:
        raise MemoryError("no memory for the scratch tiles")
