/* smoke.c: the engine without Python, against an independent recursion in scalar long double.
 *
 * Run by `make test`, `make asan` and `make plain`.  GEMM is naive and strided; outputs are guarded, so that a write
 * outside the matrix is a failure here even without a sanitizer.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ntkfast.h"

static int n_checks, n_failed;
static int every = 1; /* one row in so many is compared with the recursion */

static void check(int holds, const char *what, const char *of, int64_t n, int64_t m, int threads)
{
    n_checks++;
    if (!holds && n_failed++ < 20)
        printf("smoke: FAILED %s, %s, %lld x %lld, %d threads\n", what, of, (long long)n, (long long)m, threads);
}

/* ---- BLAS: C = A B (+ C), column-major, each factor transposed or not ------------------------------------- */

#define GEMM(T, name)                                                                                                  \
    static void name(char *ta, char *tb, int *m, int *n, int *k, void *alpha, void *a_, int *lda, void *b_, int *ldb,  \
                     void *beta, void *c_, int *ldc)                                                                   \
    {                                                                                                                  \
        const T *a = a_, *b = b_;                                                                                      \
        T *c = c_;                                                                                                     \
        const int64_t a_step = *ta == 'T' ? 1 : *lda, b_step = *tb == 'T' ? *ldb : 1;                                  \
        const int64_t a_next = *ta == 'T' ? *lda : 1, b_next = *tb == 'T' ? 1 : *ldb;                                  \
        if (*(T *)alpha != 1)                                                                                          \
            abort();                                                                                                   \
        for (int j = 0; j < *n; j++)                                                                                   \
            for (int i = 0; i < *m; i++) {                                                                             \
                T sum = *(T *)beta != 0 ? c[(int64_t)j * *ldc + i] : 0;                                                \
                for (int l = 0; l < *k; l++)                                                                           \
                    sum += a[i * a_next + l * a_step] * b[j * b_next + l * b_step];                                    \
                c[(int64_t)j * *ldc + i] = sum;                                                                        \
            }                                                                                                          \
    }
GEMM(float, gemm_f32)
GEMM(double, gemm_f64)

/* C = A^T A (+ C) below the diagonal, column-major */
#define SYRK(T, name)                                                                                                  \
    static void name(char *uplo, char *trans, int *n, int *k, void *alpha, void *a_, int *lda, void *beta, void *c_,   \
                     int *ldc)                                                                                         \
    {                                                                                                                  \
        const T *a = a_;                                                                                               \
        T *c = c_;                                                                                                     \
        if (*uplo != 'L' || *trans != 'T' || *(T *)alpha != 1)                                                         \
            abort();                                                                                                   \
        for (int j = 0; j < *n; j++)                                                                                   \
            for (int i = j; i < *n; i++) {                                                                             \
                T sum = *(T *)beta != 0 ? c[(int64_t)j * *ldc + i] : 0;                                                \
                for (int l = 0; l < *k; l++)                                                                           \
                    sum += a[(int64_t)i * *lda + l] * a[(int64_t)j * *lda + l];                                        \
                c[(int64_t)j * *ldc + i] = sum;                                                                        \
            }                                                                                                          \
    }
SYRK(float, syrk_f32)
SYRK(double, syrk_f64)
static const nf_blas blas[2] = {{gemm_f32, syrk_f32}, {gemm_f64, syrk_f64}};

/* ---- the programs: depth 4, beta = 0.1; the reference is one function for one pair ------------------------ */

enum { DEPTH = 4, DIMENSION = 7 };
#define BETA2 (0.1L * 0.1L)
#define PI 3.14159265358979323846264338327950288L

/* The data of two series with known duals: x^2 in Hermite polynomials, and max(x, 0) as a kink at 0. */
enum { N_TERMS = 128 };
static double roots[2 * N_TERMS], inverse_roots[2 * N_TERMS];
static int square_terms[NF_BINS][2], kink_terms[NF_BINS][2];
static const long double square_basis[9] = {0, 0, 1, 0, 0, 0, 0, 0, 1.41421356237309504880L};
static const long double kink_at[1] = {0}, kink_jump[1] = {1};
static const nf_polynomial square = {.terms = {2, 0, 0, 1, &square_terms[0][0]}, .degree = 2, .basis = square_basis};
static const double kink_place[1] = {0}, kink_side[1] = {1}, kink_coef[9] = {0, 1, 0, 1, 0, 0, 0, 1, 0};
static const nf_powers kink_powers = {
    .n = 1, .order = 1, .exact = 1, .upto = INFINITY, .at = kink_place, .side = kink_side, .coef = kink_coef};
static const nf_kinks kink = {.terms = {N_TERMS, N_TERMS, 0, 0.85, &kink_terms[0][0]},
                              .n = 1,
                              .at = kink_at,
                              .jump = kink_jump,
                              .root = roots,
                              .inverse_root = inverse_roots,
                              .powers = &kink_powers};

static void make_series(void)
{
    for (int k = 0; k < 2 * N_TERMS; k++) {
        roots[k] = sqrt(k);
        inverse_roots[k] = k ? 1 / sqrt(k) : 0;
    }
    for (int b = 0; b < NF_BINS; b++) {
        square_terms[b][0] = 2;
        kink_terms[b][0] = kink_terms[b][1] = N_TERMS;
    }
}

static const int duals[] = {NF_PIECEWISE_LINEAR, NF_ERF,        NF_ARC_COSINE, NF_SINE,          NF_EXPONENTIAL,
                            NF_GAUSSIAN,         NF_POLYNOMIAL, NF_KINKS,      NF_EXP_NORMALIZED};

/* Factors w^2 and beta^2 of the layers */
static long double weight[DEPTH] = {1, 1, 1, 1}, bias[DEPTH] = {BETA2, BETA2, BETA2, BETA2};

/* First layer: sigma = w^2 x.x'/n_0 + beta^2, theta = that.  Hidden layers: one dual each, theta = w^2 theta dot +
 * sigma. */
static nf_program make_program(nf_instr *code, int dual, int n_0)
{
    static const long double params[NF_N_OPS][NF_MAX_PARAMS] = {
        [NF_PIECEWISE_LINEAR] = {0, 1},      [NF_ERF] = {1.2L, 0.7L, 0.3L},   [NF_ARC_COSINE] = {2, 1, 0},
        [NF_SINE] = {1.1L, 0.6L, 0.5L},      [NF_EXPONENTIAL] = {0.7L, 0.4L}, [NF_GAUSSIAN] = {1.1L, -0.6L},
        [NF_EXP_NORMALIZED] = {0.7L, -0.4L},
    };
    nf_program p = {.code = code, .n = DEPTH, .last_dual = DEPTH - 1};
    const long double scale = weight[0] / n_0;
    code[0] = (nf_instr){.op = NF_AFFINE, .layer = {scale, bias[0], scale, bias[0]}};
    for (int k = 1; k < DEPTH; k++) {
        code[k] = (nf_instr){.op = dual, .row = p.n_rows, .n_rows = nf_ops[dual].n_rows};
        for (int l = 0; l < 4; l++)
            code[k].layer[l] = l & 1 ? bias[k] : weight[k];
        memcpy(code[k].param, params[dual], sizeof params[dual]);
        if (dual == NF_POLYNOMIAL)
            code[k].data = &square, code[k].n_rows = 4;
        if (dual == NF_KINKS)
            code[k].data = &kink, code[k].n_rows = 2 + 2 * N_TERMS;
        p.n_rows += code[k].n_rows;
    }
    return p;
}

/* E[phi(u)phi(v)] and E[phi'(u)phi'(v)] from the textbook, not from duals.h: Cho & Saul (2009), Williams (1997) */
static void expect(int dual, long double q1, long double q2, long double s, long double *value, long double *slope)
{
    if (dual == NF_ERF) {
        const long double a = 1.2L, b = 0.7L, c = 0.3L, b2 = 2 * b * b, u = (1 + b2 * q1) * (1 + b2 * q2);
        *value = 2 * a * a / PI * asinl(b2 * s / sqrtl(u)) + c * c;
        *slope = 4 * a * a * b * b / PI / sqrtl(u - b2 * b2 * s * s);
    } else if (dual == NF_ARC_COSINE) {
        const long double q = sqrtl(q1 * q2), rho = fminl(1, fmaxl(-1, s / q)), angle = acosl(rho);
        *value = q * q * (3 * rho * sqrtl(1 - rho * rho) + (1 + 2 * rho * rho) * (PI - angle)) / (2 * PI);
        *slope = 4 * q * (sqrtl(1 - rho * rho) + rho * (PI - angle)) / (2 * PI);
    } else if (dual == NF_SINE) {
        const long double a2 = 1.1L * 1.1L, b2 = 0.6L * 0.6L, mean = (q1 + q2) / 2;
        const long double minus = expl(-b2 * (mean - s)), plus = 0.5L * expl(-b2 * (mean + s));
        *value = a2 / 2 * (minus - plus);
        *slope = a2 * b2 / 2 * (minus + plus);
    } else if (dual == NF_EXPONENTIAL) {
        *value = 0.7L * 0.7L * expl(0.4L * 0.4L * ((q1 + q2) / 2 + s));
        *slope = 0.4L * 0.4L * *value;
    } else if (dual == NF_GAUSSIAN) {
        const long double b = 1.2L, D = (1 + b * q1) * (1 + b * q2) - b * b * s * s;
        *value = 1.1L * 1.1L / sqrtl(D);
        *slope = b * b * s / D * *value;
    } else if (dual == NF_EXP_NORMALIZED) {
        *slope = 0.7L * expl(0.7L * (s / sqrtl(q1 * q2) - 0.4L));
        *value = sqrtl(q1 * q2) * *slope / 0.7L;
    } else if (dual == NF_POLYNOMIAL) {
        *value = q1 * q2 + 2 * s * s;
        *slope = 4 * s;
    } else {
        const long double q = sqrtl(q1 * q2), rho = fminl(1, fmaxl(-1, s / q)), angle = acosl(rho);
        *value = q * (sqrtl(1 - rho * rho) + rho * (PI - angle)) / (2 * PI);
        *slope = (PI - angle) / (2 * PI);
    }
}

/* out: NNGP, NTK, dot of the pair whose |x|^2, |y|^2, x.y are given; same: x is y */
static void recursion(int dual, int n_0, long double xx, long double yy, long double xy, int same, long double *out)
{
    const long double w = weight[0] / n_0;
    long double q1 = w * xx + bias[0], q2 = w * yy + bias[0], s = w * xy + bias[0], t = s, unused, dot = 0;
    for (int k = 1; k < DEPTH; k++) {
        long double v1, v2, v;
        expect(dual, q1, q1, q1, &v1, &unused);
        expect(dual, q2, q2, q2, &v2, &unused);
        expect(dual, q1, q2, same ? q1 : s, &v, &dot);
        q1 = weight[k] * v1 + bias[k], q2 = weight[k] * v2 + bias[k], s = weight[k] * v + bias[k];
        dot *= weight[k];
        t = t * dot + s;
    }
    out[NF_NNGP] = s, out[NF_NTK] = t, out[NF_DOT] = dot;
}

/* ---- one problem ----------------------------------------------------------------------------------------- */

static double get(nf_dtype dtype, const void *x, int64_t at)
{
    return dtype == NF_FLOAT32 ? (double)((const float *)x)[at] : ((const double *)x)[at];
}

static void set(nf_dtype dtype, void *x, int64_t at, double value)
{
    if (dtype == NF_FLOAT32)
        ((float *)x)[at] = (float)value;
    else
        ((double *)x)[at] = value;
}

static void *array(int64_t n)
{
    void *x = calloc((size_t)(n > 0 ? n : 1), sizeof(double));
    if (!x)
        abort();
    return x;
}

typedef struct {
    int64_t n, ld;
    void *x, *table, *diagonal[NF_PLANES];
    int wide; /* the table is of doubles */
} side;

static int64_t padded(int64_t n)
{
    return (n + NF_LANES - 1) / NF_LANES * NF_LANES;
}

/* Deterministic points in [-1, 1]; the first is (1, 0, ...) and the third, if there is one, is the second. */
static side make_wide_side(nf_dtype dtype, int wide, const nf_program *program, int64_t n, int d, unsigned seed,
                           int threads)
{
    side s = {.n = n, .ld = d + 3, .wide = wide};
    s.x = array(n * s.ld);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < d; k++) {
            seed = seed * 1664525u + 1013904223u;
            const double value = (double)(seed >> 8) / (1 << 23) - 1;
            set(dtype, s.x, i * s.ld + k, i == 0 ? k == 0 : i == 2 ? get(dtype, s.x, s.ld + k) : value);
        }
    double *norm = array(n);
    long double *q = calloc(NF_STACK * (size_t)n, sizeof *q), *state[NF_PLANES] = {q, q + n, q + 2 * n};
    s.table = array(program->n_rows * padded(n));
    nf_norms(dtype, s.x, n, d, s.ld, norm, threads);
    for (int64_t i = 0; i < n; i++)
        q[i] = norm[i];
    nf_points(wide ? NF_FLOAT64 : dtype, program, 0, program->n, 0, n, q, n, s.table, threads);
    for (int p = 0; p < NF_PLANES; p++) {
        s.diagonal[p] = array(n);
        for (int64_t i = 0; i < n; i++)
            set(dtype, s.diagonal[p], i, (double)state[p][i]);
    }
    free(norm), free(q);
    return s;
}

static side make_side(nf_dtype dtype, const nf_program *program, int64_t n, int d, unsigned seed, int threads)
{
    return make_wide_side(dtype, 0, program, n, d, seed, threads);
}

static void free_side(side *s)
{
    for (int p = 0; p < NF_PLANES; p++)
        free(s->diagonal[p]);
    free(s->x), free(s->table);
}

static int poll_stop(void *self, int64_t done, int64_t total)
{
    (void)done, (void)total;
    return ++*(int *)self;
}

/* The layout of out[i, j] in memory, in elements; every layout leaves guards between and around the entries */
typedef enum { C_ORDER, F_ORDER, STRIDED, N_ORDERS } order;
static const char *const order_names[N_ORDERS] = {"rows", "columns", "strided"};
#define GUARD (-77.0)

typedef struct {
    int64_t rs, cs, size;
    void *base[NF_PLANES];
} output;

static nf_status run(nf_dtype dtype, const nf_program *program, int d, const side *x, const side *y, int stream,
                     unsigned planes, output *out, const nf_watch *watch, int threads)
{
    const int symmetric = x == y;
    const nf_grid grid = {x->n, y->n, NF_LANES, symmetric, dtype, 0};
    nf_limit limit = {.program = program, .d = d, .wide = x->wide, .blas = blas[dtype]};
    limit.rows = (nf_side){.points = {x->x, x->ld}, .table = x->table};
    limit.columns = (nf_side){.points = {y->x, y->ld}, .table = y->table};
    nf_array sink = {.stream = stream};
    for (int p = 0; p < NF_PLANES; p++) {
        limit.diagonal[p] = symmetric ? x->diagonal[p] : NULL;
        sink.base[p] = (char *)out->base[p] + (dtype == NF_FLOAT32 ? 4 : 8); /* unaligned to any vector */
        sink.row_stride[p] = out->rs, sink.column_stride[p] = out->cs;
    }
    return nf_run(&grid, (nf_map){nf_limit_open, nf_limit_rows, &limit, planes, 0, nf_edges_bytes(dtype, d)},
                  (nf_sink){NULL, nf_array_put, nf_array_end, &sink}, 0, nf_grid_tiles(&grid), watch, threads);
}

static output make_output(nf_dtype dtype, int64_t n, int64_t m, order how)
{
    output out = {.rs = how == C_ORDER ? m + 5 : 1, .cs = how == C_ORDER ? 1 : n + 5};
    if (how == STRIDED)
        out.rs = 2 * m + 3, out.cs = 2;
    out.size = n * out.rs + m * out.cs + 2;
    for (int p = 0; p < NF_PLANES; p++) {
        out.base[p] = array(out.size);
        for (int64_t k = 0; k < out.size; k++)
            set(dtype, out.base[p], k, GUARD);
    }
    return out;
}

static void free_output(output *out)
{
    for (int p = 0; p < NF_PLANES; p++)
        free(out->base[p]);
}

static int same_bits(nf_dtype dtype, const output *a, const output *b)
{
    int same = 1;
    for (int p = 0; p < NF_PLANES; p++)
        same &= !memcmp(a->base[p], b->base[p], (size_t)a->size * (dtype == NF_FLOAT32 ? 4 : 8));
    return same;
}

/* The largest error over all entries and outputs, relative to max(1, |reference|); guards: nothing else was written. */
static double worst(nf_dtype dtype, int dual, int d, const side *x, const side *y, const output *out, int64_t *written)
{
    double error = 0;
    *written = 0;
    for (int64_t i = 0; i < x->n; i += every)
        for (int64_t j = 0; j < y->n; j++) {
            long double xx = 0, yy = 0, xy = 0, want[NF_PLANES];
            int same = 1;
            for (int k = 0; k < d; k++) {
                const long double u = get(dtype, x->x, i * x->ld + k), v = get(dtype, y->x, j * y->ld + k);
                xx += u * u, yy += v * v, xy += u * v;
                same &= u == v;
            }
            recursion(dual, d, xx, yy, xy, same, want);
            if (same && (x != y || i != j)) /* acos turns eps into sqrt(eps) near 1: only the diagonal is exact */
                want[NF_NTK] = NAN;
            for (int p = 0; p < NF_PLANES; p++) {
                const double got = get(dtype, out->base[p], 1 + i * out->rs + j * out->cs);
                const double e = (double)(fabsl(got - want[p]) / fmaxl(1, fabsl(want[p])));
                if (p == NF_NNGP || !isnan(want[NF_NTK]))
                    error = e <= error ? error : e; /* a NaN stays and fails */
            }
        }
    for (int p = 0; p < NF_PLANES; p++)
        for (int64_t k = 0; k < out->size; k++)
            *written += get(dtype, out->base[p], k) != GUARD;
    return error;
}

static void problem(nf_dtype dtype, int wide, int dual, int64_t n, int64_t m)
{
    char what[80];
    nf_instr code[DEPTH];
    const nf_program program = make_program(code, dual, DIMENSION);
    side x = make_wide_side(dtype, wide, &program, n, DIMENSION, 1, 3), rectangular = {0};
    side *y = m ? (rectangular = make_wide_side(dtype, wide, &program, m, DIMENSION, 2, 1), &rectangular) : &x;
    const double tolerance = dtype == NF_FLOAT32 ? 4e-6 : dual == NF_KINKS ? 1e-12 : 2e-14;
    for (order how = 0; how < N_ORDERS; how++) {
        output first = {0};
        for (int k = 0; k < 4; k++) { /* streaming off, on; 1, 3 threads */
            const int stream = k & 1, threads = k & 2 ? 3 : 1;
            output out = make_output(dtype, n, y->n, how);
            const nf_status status = run(dtype, &program, DIMENSION, &x, y, stream, 7, &out, NULL, threads);
            snprintf(what, sizeof what, "f%d%s %s %s stream %d", dtype == NF_FLOAT32 ? 32 : 64, wide ? " wide" : "",
                     nf_ops[dual].name, order_names[how], stream);
            check(status == NF_OK, "status", what, n, y->n, threads);
            if (k == 0) {
                int64_t written;
                const double error = worst(dtype, dual, DIMENSION, &x, y, &out, &written);
                if (!(error < tolerance))
                    printf("smoke: error %.3g\n", error);
                check(error < tolerance, "values", what, n, y->n, threads);
                check(written == NF_PLANES * n * y->n, "guards", what, n, y->n, threads);
                first = out;
            } else {
                check(same_bits(dtype, &first, &out), "bits", what, n, y->n, threads);
                free_output(&out);
            }
        }
        free_output(&first);
    }
    output some = make_output(dtype, n, y->n, C_ORDER); /* one output alone: the others remain untouched */
    run(dtype, &program, DIMENSION, &x, y, 0, 1u << NF_NTK, &some, NULL, 1);
    check(get(dtype, some.base[NF_NTK], 1) != GUARD, "written", "ntk alone", n, y->n, 1);
    check(get(dtype, some.base[NF_NNGP], 1) == GUARD, "untouched", "ntk alone", n, y->n, 1);
    free_output(&some);
    if (nf_grid_tiles(&(nf_grid){n, y->n, NF_LANES, y == &x, dtype, 0}) > 1) {
        int polls = 0;
        const nf_watch watch = {poll_stop, &polls, -1};
        output out = make_output(dtype, n, y->n, C_ORDER);
        check(run(dtype, &program, DIMENSION, &x, y, 0, 7, &out, &watch, 1) == NF_STOPPED, "stop", "poll", n, y->n, 1);
        check(polls == 1, "polled once", "poll", n, y->n, 1);
        free_output(&out);
    }
    free_side(&x);
    if (m)
        free_side(&rectangular);
}

/* ---- empirical kernels ------------------------------------------------------------------------------------ */

static void *random_array(nf_dtype dtype, int64_t n, unsigned seed)
{
    void *x = array(n);
    for (int64_t k = 0; k < n; k++) {
        seed = seed * 1664525u + 1013904223u;
        set(dtype, x, k, (double)(seed >> 8) / (1 << 23) - 1);
    }
    return x;
}

static long double inner(nf_dtype dtype, const void *x, int64_t i, const void *y, int64_t j, int64_t d)
{
    long double sum = 0;
    for (int64_t k = 0; k < d; k++)
        sum += (long double)get(dtype, x, i + k) * get(dtype, y, j + k);
    return sum;
}

/* Three terms: both factors (b of two arrays); the first alone; the bias and the second.  The first has so many
 * features that its product is computed in pieces. */
static void tangent_problem(nf_dtype dtype, int64_t n, int64_t m, int long_product)
{
    const int64_t d_a = long_product ? NF_FEATURES + 3 : 9, d_b = 6, rows = m ? m : n;
    void *a = random_array(dtype, n * d_a, 1), *b = random_array(dtype, 2 * n * d_b, 2);
    void *a2 = m ? random_array(dtype, m * d_a, 3) : a, *b2 = m ? random_array(dtype, 2 * m * d_b, 4) : b;
    nf_term terms[3] = {
        {{a, d_a}, {a2, d_a}, {b, d_b}, {b2, d_b}, d_a, d_b, 2, n * d_b, rows * d_b, 0.5, 0.25},
        {{a, d_a}, {a2, d_a}, {0}, {0}, 5, 0, 0, 0, 0, 0.125, 2},
        {{0}, {0}, {b, d_b}, {b2, d_b}, 0, d_b, 1, 0, 0, 7, 3},
    };
    const nf_tangent tangent = {3, terms, blas[dtype]};
    const nf_grid grid = {n, rows, NF_LANES, !m, dtype, 0};
    for (order how = 0; how < N_ORDERS; how++) {
        output out = make_output(dtype, n, rows, how);
        nf_array sink = {.base[0] = (char *)out.base[0] + (dtype == NF_FLOAT32 ? 4 : 8),
                         .row_stride[0] = out.rs,
                         .column_stride[0] = out.cs};
        const nf_status status =
            nf_run(&grid, (nf_map){nf_tangent_open, nf_tangent_rows, &tangent, 1, NF_SCRATCH, 0},
                   (nf_sink){NULL, nf_array_put, nf_array_end, &sink}, 0, nf_grid_tiles(&grid), NULL, 3);
        check(status == NF_OK, "status", "tangent", n, rows, 3);
        int64_t written = 0;
        for (int64_t k = 0; k < out.size; k++)
            written += get(dtype, out.base[0], k) != GUARD;
        check(written == n * rows, "guards", "tangent", n, rows, 3);
        long double error = 0, scale = 0;
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < rows; j++) {
                const long double bb = inner(dtype, b, i * d_b, b2, j * d_b, d_b);
                const long double both = bb + inner(dtype, b, (n + i) * d_b, b2, (rows + j) * d_b, d_b);
                const long double exact = (0.5L * inner(dtype, a, i * d_a, a2, j * d_a, d_a) + 0.25L) * both +
                                          0.125L * inner(dtype, a, i * d_a, a2, j * d_a, 5) + 2 + 3 * bb;
                error = fmaxl(error, fabsl(get(dtype, out.base[0], 1 + i * out.rs + j * out.cs) - exact));
                scale = fmaxl(scale, fabsl(exact));
            }
        check(error <= scale * (dtype == NF_FLOAT32 ? 1e-4L : 1e-13L), "values", "tangent", n, rows, 3);
        free_output(&out);
    }
    free(a), free(b);
    if (m)
        free(a2), free(b2);
}

/* ---- derivatives ------------------------------------------------------------------------------------------ */

enum { N_PARAMETERS = 2 * DEPTH }; /* w^2 and beta^2 of each layer */

/* rates[p][k][i]: of log q of point i before instruction k; last[p][i]: of the kernel of i with itself */
static void along(nf_dtype dtype, const nf_program *program, const side *s, int d, int output, double *rates,
                  double *last)
{
    double *q = array(s->n);
    long double *numbers = calloc((size_t)(program->n * NF_RATES) * (size_t)s->n, sizeof *numbers);
    for (int64_t i = 0; i < s->n; i++)
        q[i] = (double)inner(dtype, s->x, i * s->ld, s->x, i * s->ld, d);
    nf_rates(program, s->n, q, numbers, 2);
    for (int64_t i = 0; i < s->n; i++)
        for (int p = 0; p < N_PARAMETERS; p++) {
            long double by_q = 0, by_t = 0;
            for (int k = 0; k < DEPTH; k++) {
                const long double *at = numbers + k * NF_RATES * s->n + i, *layer = program->code[k].layer;
                const long double rate = by_q / at[0], theta = at[s->n], value = at[2 * s->n], slope = at[3 * s->n];
                rates[(p * DEPTH + k) * s->n + i] = (double)rate;
                by_t = layer[0] * (by_t * slope + theta * rate * at[5 * s->n]) + layer[2] * rate * at[4 * s->n];
                by_q = layer[0] * rate * at[4 * s->n];
                if (p / 2 == k) {
                    const long double over = k ? 1 : 1.0L / d;
                    by_q += p & 1 ? 1 : over * value;
                    by_t += p & 1 ? 1 : over * (theta * slope + value);
                }
            }
            last[p * s->n + i] = (double)(output == NF_NTK ? by_t : by_q);
        }
    free(q), free(numbers);
}

static void go_back(const nf_grid *grid, nf_gradient *map, nf_sink sink, int threads)
{
    const size_t work = nf_gradient_bytes(&map->limit, grid->dtype);
    const nf_map back = {nf_limit_open, nf_gradient_rows, map, 1u << NF_NNGP, 0, work};
    const nf_status status = nf_run(grid, back, sink, 0, nf_grid_tiles(grid), NULL, threads);
    check(status == NF_OK, "status", "gradient", grid->n, grid->m, threads);
}

/* The points of one side, weighted by derivatives with respect to inner products, against differences of the scalar
 * recursion; not those of points that have their like on the other side, where there may be no derivative */
static void check_points(nf_dtype dtype, int dual, int output, const side *x, const side *y, int64_t m,
                         const void *weights, const double *of_rows, const double *of_columns)
{
    enum { D = DIMENSION };
    const long double h = 1e-6L;
    const int64_t n = x->n;
    double *rows = array(n * D), *columns = m ? array(m * D) : rows, *to = array(n + y->n);
    long double error = 0, scale = 1;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < y->n; j++) {
            const long double xx = inner(dtype, x->x, i * x->ld, x->x, i * x->ld, D);
            const long double yy = inner(dtype, y->x, j * y->ld, y->x, j * y->ld, D);
            const long double xy = inner(dtype, x->x, i * x->ld, y->x, j * y->ld, D);
            long double up[NF_PLANES], down[NF_PLANES];
            if (!m && i == j)
                continue;
            if (xx == yy && xy == xx)
                to[i] = to[n + j] = 1;
            recursion(dual, D, xx, yy, xy + h, 0, up);
            recursion(dual, D, xx, yy, xy - h, 0, down);
            const double by = (double)((up[output] - down[output]) / (2 * h)) * get(dtype, weights, i * y->n + j);
            for (int k = 0; k < D; k++) {
                rows[i * D + k] += by * get(dtype, y->x, j * y->ld + k);
                columns[j * D + k] += by * get(dtype, x->x, i * x->ld + k);
            }
        }
    for (int64_t i = 0; i < n * D; i++)
        if (!to[i / D] && !(!m && to[n + i / D]))
            error = fmaxl(error, fabsl(rows[i] - of_rows[i])), scale = fmaxl(scale, fabsl(rows[i]));
    for (int64_t j = 0; j < m * D; j++)
        if (!to[n + j / D])
            error = fmaxl(error, fabsl(columns[j] - of_columns[j])), scale = fmaxl(scale, fabsl(columns[j]));
    const int holds = error <= scale * (dtype == NF_FLOAT32 ? 1e-3L : 1e-7L);
    if (!holds)
        printf("smoke: error %.3Lg of %.3Lg\n", error, scale);
    check(holds, "points", nf_ops[dual].name, n, m, 1);
    if (m)
        free(columns);
    free(rows), free(to);
}

/* Matrices of derivatives against differences of the scalar recursion, and weighted sums against the matrices */
static void gradient_problem(nf_dtype dtype, int dual, int64_t n, int64_t m, int output)
{
    nf_instr code[DEPTH];
    const nf_program program = make_program(code, dual, DIMENSION);
    side x = make_side(dtype, &program, n, DIMENSION, 1, 1), other = {0};
    side *y = m ? (other = make_side(dtype, &program, m, DIMENSION, 2, 1), &other) : &x;
    const int64_t size = n * y->n,
                  sizes[5] = {DEPTH * NF_SUMS_HEAD, DEPTH * n, DEPTH * y->n, n * DIMENSION, m * DIMENSION};
    double *of_row = array(N_PARAMETERS * DEPTH * n), *of_column = array(N_PARAMETERS * DEPTH * y->n);
    double *last = array(N_PARAMETERS * n), *unused = array(N_PARAMETERS * y->n),
           layer[N_PARAMETERS][DEPTH][4] = {{{0}}};
    void *matrices = array(N_PARAMETERS * size), *weights = random_array(dtype, size, 7);
    int first[N_PARAMETERS];
    for (int p = 0; p < N_PARAMETERS; p++) {
        double *changed = layer[p][p / 2];
        first[p] = p / 2;
        changed[p & 1] = changed[2 + (p & 1)] = p ? 1 : 1.0 / DIMENSION;
    }
    along(dtype, &program, &x, DIMENSION, output, of_row, last);
    along(dtype, &program, y, DIMENSION, output, of_column, unused);
    nf_gradient map = {.limit = {.program = &program,
                                 .d = DIMENSION,
                                 .rows = {.points = {x.x, x.ld}, .table = x.table},
                                 .columns = {.points = {y->x, y->ld}, .table = y->table},
                                 .blas = blas[dtype]},
                       .output = output,
                       .n_parameters = N_PARAMETERS,
                       .first = first,
                       .layer = &layer[0][0][0],
                       .of_row = of_row,
                       .of_column = of_column,
                       .matrices = matrices};
    const nf_grid grid = {n, y->n, NF_LANES, !m, dtype, 0};
    go_back(&grid, &map, (nf_sink){0}, 2);

    const long double h = 1e-5L;
    long double error = 0, scale = 1, total[N_PARAMETERS] = {0}, size_of[N_PARAMETERS] = {0};
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < y->n; j++) {
            const long double xx = inner(dtype, x.x, i * x.ld, x.x, i * x.ld, DIMENSION);
            const long double yy = inner(dtype, y->x, j * y->ld, y->x, j * y->ld, DIMENSION);
            const long double xy = inner(dtype, x.x, i * x.ld, y->x, j * y->ld, DIMENSION);
            const int same = xx == yy && xy == xx, below = !m && j < i;
            for (int p = 0; p < N_PARAMETERS; p++) {
                long double up[NF_PLANES], down[NF_PLANES], *number = p & 1 ? &bias[p / 2] : &weight[p / 2];
                const long double before = *number;
                *number = before + h;
                recursion(dual, DIMENSION, xx, yy, xy, same, up);
                *number = before - h;
                recursion(dual, DIMENSION, xx, yy, xy, same, down);
                *number = before;
                const long double want = (up[output] - down[output]) / (2 * h);
                const double found = !m && i == j ? last[p * n + i]
                                     : below      ? get(dtype, matrices, (p * n + j) * y->n + i)
                                                  : get(dtype, matrices, (p * n + i) * y->n + j);
                if (!(same && (m || i != j))) /* where rounding determines the distance of rho from 1 */
                    error = fmaxl(error, fabsl(found - want)), scale = fmaxl(scale, fabsl(want));
                total[p] += get(dtype, weights, i * y->n + j) * found;
                size_of[p] += fabsl(get(dtype, weights, i * y->n + j) * found);
            }
        }
    const int holds = error <= scale * (dtype == NF_FLOAT32 ? 1e-4L : 1e-8L);
    if (!holds)
        printf("smoke: error %.3Lg of %.3Lg\n", error, scale);
    check(holds, "derivatives", nf_ops[dual].name, n, m, 2);

    double *sums[2][5];
    map.weights = weights, map.ld_weights = y->n;
    for (int t = 0; t < 2; t++) {
        for (int k = 0; k < 5; k++)
            sums[t][k] = array(sizes[k] + 1);
        nf_sums sink = {&map.limit, sums[t][0], sums[t][1], sums[t][2], sums[t][3], sums[t][m ? 4 : 3], NULL};
        sink.queue = nf_queue_new(t ? 3 : 1, 0, nf_sums_bytes(&sink, &grid));
        map.sums = &sink;
        go_back(&grid, &map, (nf_sink){nf_sums_begin, NULL, nf_sums_end, &sink}, t ? 3 : 1);
        nf_queue_free(sink.queue);
    }
    for (int k = 0; k < 5; k++)
        check(!memcmp(sums[0][k], sums[1][k], (size_t)sizes[k] * sizeof(double)), "bits", "gradient", n, m, 3);
    for (int p = 0; p < N_PARAMETERS; p++) {
        long double sum = 0;
        for (int64_t k = 0; k < sizes[0]; k++)
            sum += layer[p][k / 4][k % 4] * sums[0][0][k];
        for (int64_t k = 0; k < sizes[1]; k++)
            sum += sums[0][1][k] * of_row[p * DEPTH * n + k];
        for (int64_t k = 0; k < sizes[2]; k++)
            sum += sums[0][2][k] * of_column[p * DEPTH * y->n + k];
        for (int64_t i = 0; !m && i < n; i++)
            sum += get(dtype, weights, i * n + i) * last[p * n + i];
        check(fabsl(sum - total[p]) <= (dtype == NF_FLOAT32 ? 1e-3L : 1e-7L) * (size_of[p] + 1e-9L), "sum",
              nf_ops[dual].name, n, m, p);
    }
    check_points(dtype, dual, output, &x, y, m, weights, sums[0][3], sums[0][4]);
    for (int k = 0; k < 5; k++)
        free(sums[0][k]), free(sums[1][k]);
    free(of_row), free(of_column), free(last), free(unused), free(matrices), free(weights);
    free_side(&x);
    if (m)
        free_side(&other);
}

/* Products with vectors against the matrix, one vector and a panel of them, in one run and in two of a few tiles each;
 * the same bits for any number of threads */
static void vectors_problem(nf_dtype dtype, int64_t n, int64_t m, int width)
{
    nf_instr code[DEPTH];
    const nf_program program = make_program(code, NF_PIECEWISE_LINEAR, DIMENSION);
    side x = make_side(dtype, &program, n, DIMENSION, 1, 1), other = {0};
    side *y = m ? (other = make_side(dtype, &program, m, DIMENSION, 2, 1), &other) : &x;
    output out = make_output(dtype, n, y->n, C_ORDER);
    run(dtype, &program, DIMENSION, &x, y, 0, 1u << NF_NTK, &out, NULL, 2);
    const nf_grid grid = {n, y->n, NF_LANES, !m, dtype, 0};
    nf_limit limit = {.program = &program,
                      .d = DIMENSION,
                      .blas = blas[dtype],
                      .rows = {.points = {x.x, x.ld}, .table = x.table},
                      .columns = {.points = {y->x, y->ld}, .table = y->table},
                      .diagonal = {NULL, x.diagonal[NF_NTK], NULL}};
    double *v = random_array(NF_FLOAT64, 2 * y->n * width, 5), *sum[3];
    for (int k = 0; k < 3; k++) {
        sum[k] = array(2 * n * width);
        const int64_t tiles = nf_grid_tiles(&grid), cut = k == 2 ? tiles / 2 : tiles;
        for (int part = 0; part < 2; part++) {
            nf_vectors sink = {.plane = NF_NTK, .width = width, .n_panels = 2, .v = v, .sum = sum[k]};
            sink.queue = nf_queue_new(k + 1, part ? cut : 0, nf_vectors_bytes(&sink, &grid));
            const nf_status status = nf_run(
                &grid, (nf_map){nf_limit_open, nf_limit_rows, &limit, 1u << NF_NTK, 0, nf_edges_bytes(dtype, limit.d)},
                (nf_sink){nf_vectors_begin, nf_vectors_put, nf_vectors_end, &sink}, part ? cut : 0, part ? tiles : cut,
                NULL, k + 1);
            check(status == NF_OK, "status", "vectors", n, m, k + 1);
            nf_queue_free(sink.queue);
        }
        check(!memcmp(sum[0], sum[k], (size_t)(2 * n * width) * sizeof(double)), "bits", "vectors", n, m, k + 1);
    }
    for (int64_t p = 0; p < 2; p++)
        for (int64_t i = 0; i < n; i++)
            for (int w = 0; w < width; w++) {
                long double exact = 0, size = 0;
                for (int64_t j = 0; j < y->n; j++) {
                    const long double part = (long double)get(dtype, out.base[NF_NTK], 1 + i * out.rs + j * out.cs) *
                                             v[(p * y->n + j) * width + w];
                    exact += part, size += fabsl(part);
                }
                check(fabsl(sum[0][(p * n + i) * width + w] - exact) <= 1e-13L * size, "sum", "vectors", n, m, width);
            }
    for (int k = 0; k < 3; k++)
        free(sum[k]);
    free(v);
    free_output(&out);
    free_side(&x);
    if (m)
        free_side(&other);
}

/* K'K times vectors against the matrix: the same bits for any number of threads */
static void normal_problem(nf_dtype dtype, int64_t n, int64_t m, int width)
{
    nf_instr code[DEPTH];
    const nf_program program = make_program(code, NF_PIECEWISE_LINEAR, DIMENSION);
    side x = make_side(dtype, &program, n, DIMENSION, 1, 1), y = make_side(dtype, &program, m, DIMENSION, 2, 1);
    output out = make_output(dtype, n, m, C_ORDER);
    run(dtype, &program, DIMENSION, &x, &y, 0, 1u << NF_NTK, &out, NULL, 2);
    const nf_grid grid = {n, m, 2 * NF_EDGE, 0, dtype, (int)((m + NF_LANES - 1) / NF_LANES * NF_LANES)};
    nf_limit limit = {.program = &program,
                      .d = DIMENSION,
                      .blas = blas[dtype],
                      .rows = {.points = {x.x, x.ld}, .table = x.table},
                      .columns = {.points = {y.x, y.ld}, .table = y.table}};
    double *v = random_array(NF_FLOAT64, 2 * m * width, 5), *sum[7];
    for (int k = 0; k < 7; k++) {
        sum[k] = array(2 * m * width);
        nf_vectors sink = {.plane = NF_NTK, .width = width, .n_panels = 2, .v = v, .sum = sum[k]};
        sink.queue = nf_queue_new(k + 1, 0, nf_normal_bytes(&sink, &grid));
        const nf_status status = nf_run(
            &grid, (nf_map){nf_limit_open, nf_limit_rows, &limit, 1u << NF_NTK, 0, nf_edges_bytes(dtype, limit.d)},
            (nf_sink){nf_normal_begin, NULL, nf_normal_end, &sink}, 0, nf_grid_tiles(&grid), NULL, k + 1);
        check(status == NF_OK, "status", "normal", n, m, k + 1);
        nf_queue_free(sink.queue);
        check(!memcmp(sum[0], sum[k], (size_t)(2 * m * width) * sizeof(double)), "bits", "normal", n, m, k + 1);
    }
    long double *exact = calloc((size_t)(2 * m), sizeof *exact), *size = exact + m;
    for (int64_t p = 0; p < 2; p++)
        for (int w = 0; w < width; w++) {
            memset(exact, 0, (size_t)(2 * m) * sizeof *exact);
            for (int64_t i = 0; i < n; i++) {
                long double image = 0, image_size = 0;
                for (int64_t j = 0; j < m; j++) {
                    const double k = get(dtype, out.base[NF_NTK], 1 + i * out.rs + j * out.cs);
                    image += (long double)k * v[(p * m + j) * width + w];
                    image_size += fabsl((long double)k * v[(p * m + j) * width + w]);
                }
                for (int64_t j = 0; j < m; j++) {
                    const double k = get(dtype, out.base[NF_NTK], 1 + i * out.rs + j * out.cs);
                    exact[j] += k * image, size[j] += fabs(k) * image_size;
                }
            }
            for (int64_t j = 0; j < m; j++)
                check(fabsl(sum[0][(p * m + j) * width + w] - exact[j]) <= 1e-13L * size[j], "sum", "normal", n, m,
                      width);
        }
    free(exact);
    for (int k = 0; k < 7; k++)
        free(sum[k]);
    free(v);
    free_output(&out);
    free_side(&x);
    free_side(&y);
}

/* ---- finite width ---------------------------------------------------------------------------------------- */

enum { N_HIDDEN = 3, WIDTH = 100 };

/* Points of the plane: the two of a published check, then what needs care: copies of the first, at a distance of 1e-9,
 * opposite and parallel to it, and 0. */
enum { FIRST, SECOND, COPY, NEAR, OPPOSITE, PARALLEL, ZERO, N_SPECIAL };

static double *width_points(int64_t n)
{
    static const double pair[2][2] = {{-0.98952293396, -0.59924918413}, {-0.17877477490, 2.25368285179}};
    double *x = array(2 * n);
    for (int64_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++) {
            const double first = pair[0][k], values[N_SPECIAL] = {first,  pair[1][k], first, first + (k ? 1e-9 : -1e-9),
                                                                  -first, 3 * first,  0};
            x[2 * i + k] = i < N_SPECIAL ? values[i] : sin(1.0 + 3 * (double)i + k);
        }
    return x;
}

/* ReLU without biases, weights of variance 2/n, each layer trained at rate 1/n: q and the angle between copies stay. */
static void run_widths(const double *x, int64_t n, const double *y, int64_t m, double *out[NF_MOST_PLANES], int threads)
{
    const nf_hidden layer = {.above = sqrt(2), .trained = 0.5, .inverse_width = 1.0 / WIDTH};
    const nf_hidden hidden[N_HIDDEN] = {layer, layer, layer};
    const double *points[2] = {x, y};
    const int64_t count[2] = {n, m};
    double *numbers[2];
    nf_width_side sides[2];
    for (int s = 0; s < 2; s++) {
        const int64_t ld = padded(count[s]);
        numbers[s] = array(ld * (2 + NF_WIDTH_NUMBERS * N_HIDDEN));
        for (int64_t i = 0; i < count[s]; i++) {
            const double q = points[s][2 * i] * points[s][2 * i] + points[s][2 * i + 1] * points[s][2 * i + 1];
            const double inverse = q > 0 ? 1 / sqrt(q) : 0;
            numbers[s][i] = inverse;
            for (int l = 0; l < N_HIDDEN; l++) {
                numbers[s][(1 + 3 * l) * ld + i] = 1;
                numbers[s][(3 + 3 * l) * ld + i] = inverse;
            }
            numbers[s][(1 + 3 * N_HIDDEN) * ld + i] = sqrt(q);
        }
        sides[s] = (nf_width_side){{points[s], 2}, numbers[s], ld};
    }
    nf_finite_width map = {.rows = sides[0],
                           .columns = sides[1],
                           .blas = blas[NF_FLOAT64],
                           .d = 2,
                           .n_hidden = N_HIDDEN,
                           .first = {1, 0, 0.5, 0},
                           .n_outputs = 1,
                           .hidden = hidden};
    nf_array sink = {0};
    for (int p = 0; p < NF_MOST_PLANES; p++)
        sink.base[p] = out[p], sink.row_stride[p] = m, sink.column_stride[p] = 1;
    const nf_grid grid = {n, m, NF_LANES, x == y, NF_FLOAT64, 0};
    const nf_status status = nf_run(
        &grid,
        (nf_map){nf_width_open, nf_width_rows, &map, (1u << NF_MOST_PLANES) - 1, 0, nf_edges_bytes(NF_FLOAT64, 2)},
        (nf_sink){NULL, nf_array_put, nf_array_end, &sink}, 0, nf_grid_tiles(&grid), NULL, threads);
    check(status == NF_OK, "status", "widths", n, m, threads);
    free(numbers[0]), free(numbers[1]);
}

static void is_near(double found, double expected, double tolerance, const char *what, int64_t n, int64_t m)
{
    check(fabs(found - expected) <= tolerance * fmax(1, fabs(expected)), what, "widths", n, m, 1);
}

static void widths_problem(int64_t n)
{
    double *x = width_points(n), *out[3][NF_MOST_PLANES];
    for (int run = 0; run < 3; run++) { /* symmetric by one and three threads, and as a rectangle */
        double *y = run == 2 ? width_points(n) : x;
        for (int p = 0; p < NF_MOST_PLANES; p++)
            out[run][p] = array(n * n);
        run_widths(x, n, y, n, out[run], run == 1 ? 3 : 1);
        if (run == 2)
            free(y);
    }
    double **got = out[0];
    for (int p = 0; p < NF_MOST_PLANES; p++) {
        check(!memcmp(got[p], out[1][p], (size_t)(n * n) * sizeof(double)), "bits", "widths", n, n, 3);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) {
                const double value = got[p][i * n + j];
                check(value == got[p][j * n + i], "symmetric", "widths", n, n, p); /* no NaN either */
                is_near(out[2][p][i * n + j], value, 1e-13, "rectangle", n, n);
            }
    }
    /* E, and n Var, at (1, 1), (1, 2), (2, 2): numbers confirmed by Monte Carlo (docs/beyond.md) */
    static const double ntk[] = {2.676510, 0.998865 - 1.20562 / WIDTH, 10.222094};
    static const double nngp[] = {1.338255, 1.397022 - 2.40020 / WIDTH, 5.111047};
    static const double variance[] = {71.637, 13.4447, 1044.91};
    for (int e = 0; n > 1 && e < 3; e++) {
        const int64_t at = (e == 2) * n + (e > 0);
        is_near(got[NF_NTK_MEAN][at], ntk[e], 1e-6, "mean of the tangent kernel", n, n);
        is_near(got[NF_NNGP_MEAN][at], nngp[e], 1e-6, "mean of the covariance", n, n);
        is_near(WIDTH * got[NF_NTK_STD][at] * got[NF_NTK_STD][at], variance[e], 1e-5, "variance", n, n);
    }
    for (int p = 0; n >= N_SPECIAL && p < NF_MOST_PLANES; p++)
        for (int64_t j = 0; j < n; j++) {
            const double *column = got[p] + j, one = column[FIRST * n];
            is_near(column[COPY * n], one, 1e-12, "copy", n, j);
            is_near(column[NEAR * n], one, 1e-7, "near duplicate", n, j);
            is_near(column[PARALLEL * n], 3 * one, 1e-12, "parallel", n, j);
            check(column[ZERO * n] == 0, "zero", "widths", n, j, p);
        }
    for (int run = 0; run < 3; run++)
        for (int p = 0; p < NF_MOST_PLANES; p++)
            free(out[run][p]);
    free(x);
}

/* Theta^4((1,0),(1,0)) of the ReLU network with beta = 0.1 and n_0 = 2, known on paper: with sigma_1 = 1/2 + beta^2,
 * sigma <- sigma/2 + beta^2 and theta <- theta/2 + sigma. */
static void known_value(void)
{
    nf_instr code[DEPTH];
    const nf_program program = make_program(code, NF_PIECEWISE_LINEAR, 2);
    side x = make_side(NF_FLOAT64, &program, 1, 2, 1, 1);
    check(fabs(get(NF_FLOAT64, x.diagonal[NF_NTK], 0) - 0.2825) < 1e-15, "0.2825", "nf_points", 1, 1, 1);
    output out = make_output(NF_FLOAT64, 1, 1, C_ORDER);
    run(NF_FLOAT64, &program, 2, &x, &x, 0, 1u << NF_NTK, &out, NULL, 1);
    check(fabs(get(NF_FLOAT64, out.base[NF_NTK], 1) - 0.2825) < 1e-15, "0.2825", "nf_run", 1, 1, 1);
    free_output(&out);
    free_side(&x);
}

int main(int n_arguments, char **arguments)
{
    static const int sizes[] = {1, 5, 129, 300};
    const int few = n_arguments > 1 && !strcmp(arguments[1], "few"), n_sizes = few ? 3 : 4;
    every = few ? 8 : 1;
    if (!nf_isa_in_use()) {
        printf("smoke: NTKFAST_ISA names nothing that runs here\n");
        return 2;
    }
    make_series();
    known_value();
    for (int k = 0; k < n_sizes; k++)
        widths_problem(sizes[k]);
    for (int dtype = NF_FLOAT32; dtype <= NF_FLOAT64; dtype++) {
        tangent_problem((nf_dtype)dtype, 5, 7, 1);
        tangent_problem((nf_dtype)dtype, 130, 0, 0);
        tangent_problem((nf_dtype)dtype, 300, 129, 0);
        for (int width = 1; width <= NF_PANEL; width += NF_PANEL - 1) {
            vectors_problem((nf_dtype)dtype, 5, 0, width);
            vectors_problem((nf_dtype)dtype, 300, 0, width);
            vectors_problem((nf_dtype)dtype, 300, 133, width);
            normal_problem((nf_dtype)dtype, 5, 1, width);
            normal_problem((nf_dtype)dtype, 133, 70, width);
            normal_problem((nf_dtype)dtype, 45, 600, width);
        }
    }
    for (int dtype = NF_FLOAT32; dtype <= NF_FLOAT64; dtype++)
        for (size_t d = 0; d < sizeof duals / sizeof *duals; d++)
            for (int k = 0; k < n_sizes; k++) {
                for (int wide = 0; wide <= (dtype == NF_FLOAT32); wide++) {
                    problem((nf_dtype)dtype, wide, duals[d], sizes[k], 0);
                    problem((nf_dtype)dtype, wide, duals[d], sizes[k], sizes[n_sizes - 1 - k]);
                }
            }
    for (int dtype = NF_FLOAT32; dtype <= NF_FLOAT64; dtype++)
        for (size_t d = 0; d < sizeof duals / sizeof *duals; d++) {
            for (int k = 0; k < 3; k++)
                gradient_problem((nf_dtype)dtype, duals[d], k == 2 ? 130 : 5, k ? 7 : 0, k == 1 ? NF_NNGP : NF_NTK);
            if (!few || !d)
                gradient_problem((nf_dtype)dtype, duals[d], 140, 0, NF_NTK);
        }
    printf("smoke: %d checks %s (%s, OpenMP %s)\n", n_checks, n_failed ? "run" : "passed", nf_isa_in_use()->name,
           nf_has_openmp() ? "on" : "off");
    return n_failed != 0;
}
