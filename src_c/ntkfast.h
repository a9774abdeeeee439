/* ntkfast.h: the whole C interface of the engine.
 *
 * A kernel program is a list of instructions that act on the pair state (sigma, theta) of one entry of an N x M
 * matrix.  Besides the pair, every dual needs a few numbers of each of the two points: they are computed once
 * (nf_points) and kept in a point table, one row per number, one column per point.
 *
 *     nf_norms   squared norms of the rows of X                         N x d        -> N
 *     nf_points  the program on the diagonal, in long double            N x program  -> point table, diagonals
 *     nf_dual    one dual at given variances and covariances
 *     nf_run     the tile driver: a map fills rectangles, a sink takes them
 *     nf_limit   the map of the limit kernels: GEMM, then the program over the rectangle
 *     nf_tangent the map of the empirical kernels: two GEMMs per term, their Hadamard product
 *     nf_gradient the map of their derivatives: backwards through the program
 *     nf_sums    the sink that adds these up over the matrix
 *     nf_array   the sink that writes into a strided array, mirrored when the matrix is symmetric
 *     nf_vectors the sink that multiplies with vectors and keeps no matrix
 *     nf_normal  the sink that multiplies with K'K, of whole rows
 *
 * No Python, no NumPy, no BLAS header: GEMM is passed in as a pointer.  Equations: Jacot, Gabriel, Hongler (2018),
 * Proposition 1 and Theorem 1.
 */
#ifndef NTKFAST_H
#define NTKFAST_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    NF_OK = 0,
    NF_STOPPED = 1,   /* the watch asked to stop (Ctrl-C) or the sink refused a tile */
    NF_NO_MEMORY = 2, /* the scratch memory of the tiles could not be allocated */
} nf_status;

typedef enum { NF_FLOAT32 = 0, NF_FLOAT64 = 1 } nf_dtype;

/* ---- programs ------------------------------------------------------------------------------------------- */

/* The registry: one line per instruction.  X(NAME, name, function, parameters, rows of the point table)
 * `function` acts on one chunk of pairs (duals.h, series.h); the rows of a dual for one point come from name_point
 * (duals.h, series_points.h).  Its first row is 1/sqrt(q), q = Sigma(x,x), filled by nf_points.  VARIES: the data of
 * the instruction determine the number of rows.  Branches work on a stack of pair states: PUSH copies the state onto
 * it, SWAP exchanges the state with the top, and ADD and MULTIPLY pop the top (s, t),
 *     ADD w:     theta <- theta + w t,              sigma <- sigma + w s
 *     MULTIPLY:  theta <- theta s + sigma t,        sigma <- sigma s */
#define NF_STRUCTURE(X)                                                                                                \
    X(AFFINE, affine, affine, 0, 0)                                                                                    \
    X(PUSH, push, affine, 0, 0)                                                                                        \
    X(SWAP, swap, affine, 0, 0)                                                                                        \
    X(ADD, add, affine, 1, 0)                                                                                          \
    X(MULTIPLY, multiply, affine, 0, 0)                                                                                \
    X(DROPOUT, dropout, dropout, 1, 0)
#define NF_DUALS(X)                                                                                                    \
    X(LAYER_NORM, layer_norm, layer_norm, 0, 1)                                                                        \
    X(EXP_NORMALIZED, exp_normalized, exp_normalized, 2, 2)                                                            \
    X(PIECEWISE_LINEAR, piecewise_linear, piecewise_linear, 2, 2)                                                      \
    X(ARC_COSINE, arc_cosine, arc_cosine, 3, 2)                                                                        \
    X(ERF, erf, erf, 3, 4)                                                                                             \
    X(GELU, gelu, gelu, 0, 5)                                                                                          \
    X(SINE, sine, sine, 3, 2)                                                                                          \
    X(HYPERBOLIC, hyperbolic, hyperbolic, 3, 2)                                                                        \
    X(EXPONENTIAL, exponential, exponential, 2, 2)                                                                     \
    X(GAUSSIAN, gaussian, gaussian, 2, 4)                                                                              \
    X(POLYNOMIAL, polynomial, series, 0, NF_VARIES)                                                                    \
    X(KINKS, kinks, series, 0, NF_VARIES)                                                                              \
    X(SERIES, series, series, 0, NF_VARIES)

#define NF_ENUM(NAME, name, function, params, rows) NF_##NAME,
typedef enum { NF_STRUCTURE(NF_ENUM) NF_DUALS(NF_ENUM) NF_N_OPS } nf_op;
#undef NF_ENUM

enum { NF_VARIES = -1, NF_MAX_PARAMS = 3, NF_MAX_ROWS = 1024, NF_MAX_NESTING = 24 };

typedef struct {
    const char *name;
    int n_params, n_rows;
} nf_op_info;
extern const nf_op_info nf_ops[NF_N_OPS];

/* The change of the stack's height by the instruction. */
static inline int nf_stacks(int op)
{
    return (op == NF_PUSH) - (op == NF_ADD || op == NF_MULTIPLY);
}

static inline int nf_has_series(int op)
{
    return op == NF_POLYNOMIAL || op == NF_KINKS || op == NF_SERIES;
}

/* One instruction: its operation, then the affine layer (a, b, c, d) that follows it,
 *     a dual:   theta <- theta E[phi'(u) phi'(v)],  sigma <- E[phi(u) phi(v)];   AFFINE: nothing
 *     layer:    theta <- a theta + c sigma + d,  then  sigma <- a sigma + b
 * Before the first instruction sigma = x.x' and theta = 0.  row: first row in the point table.
 * data: an nf_polynomial, nf_kinks or nf_panels, by op. */
typedef struct {
    int op, row, n_rows;
    const void *data;
    long double param[NF_MAX_PARAMS], layer[4];
} nf_instr;

/* ---- Hermite series ------------------------------------------------------------------------------------- */

/* E[phi(u) phi(v)] = sum_k a_k(q1) a_k(q2) rho^k (Mehler's formula), with a_k(q) = E[phi(sqrt(q) z) h_k(z)], h_k the
 * normalised Hermite polynomials; E[phi' phi'] is its derivative with respect to the covariance.  Rows of a point:
 * 1/sqrt(q), the same again (for q = 0, that of a tiny q), the even a_k, the odd a_k; if `slopes`, also the even and
 * odd b_k of phi' itself, for a phi with jumps, whose Price derivative would contain delta functions.
 *
 * terms[2b] even and terms[2b+1] odd ones, multiples of NF_STEP, are enough for |rho| between b/NF_BINS and
 * (b+1)/NF_BINS, up to `reach`.  Beyond that is the near field: kinks have it in closed form, panels as tables. */
enum { NF_BINS = 64, NF_STEP = 2 };
typedef struct {
    int even, odd, slopes;
    double reach;
    const int *terms;
} nf_terms;

/* a_k = sum_j basis[k*(degree+1) + j] sqrt(q)^j, for k, j = 0 .. degree */
typedef struct {
    nf_terms terms;
    int degree;
    const long double *basis;
} nf_polynomial;

/* p(x) = sum_m sum_r coef[m][0][r] y^r exp(-window y^2/2) with y = max(side[m] (x - at[m]), 0), in coef[m][1] the same
 * for p' and in coef[m][2] for x p'(x).  side: 1 or -1;  0: powers of x on the whole line, at = 0, without a window.
 * coef: [n][3][order + 2], x p' being of order + 1.  exact: p is phi.  Double is enough for variances between `from` and `upto`. */
enum { NF_MAX_POWERS = 11 };
typedef struct {
    int n, order, exact; /* order + 1 < NF_MAX_POWERS */
    double window, from, upto;
    const double *at, *side, *coef;
} nf_powers;

/* phi(x) = offset + slope x + sum_j jump[j] max(x - at[j], 0) */
typedef struct {
    nf_terms terms;
    int n;
    const long double *at, *jump; /* sorted by `at` */
    long double offset, slope;
    const double *root, *inverse_root; /* sqrt(k) and 1/sqrt(k), k < 2 max(even, odd) */
    const nf_powers *powers;           /* the same function */
} nf_kinks;

/* A table near |rho| = 1 for a pair of panels and a panel of y: of every pair of parts of the two panels, `size` numbers,
 * Chebyshev coefficients of E[phi phi] and E[phi' phi'] in xi1, y and xi2.  Those of degree i in xi1 and j in xi2 are
 * sorted by i + j, then by i.  For each four degrees in y, `fours` of them, the first terms[k] of these are kept, a
 * multiple of NF_NEAR_STEP: [terms[k]][2][4].  The largest i + j is below NF_MAX_NEAR. */
enum { NF_MAX_NEAR = 16, NF_NEAR_STEP = 2, NF_NEAR_TERMS = NF_MAX_NEAR * (NF_MAX_NEAR + 1) / 2 };
typedef struct {
    const double *coef; /* NULL: there is no table */
    int64_t size;
    int fours, terms[NF_MAX_NEAR / 4];
} nf_cell;

/* The a_k as Chebyshev series in log q, on panels of equal length.  Panel p: per_unit * log4(q) in
 * [first+p, first+p+1], xi in [-1, 1] on it; below all panels, where 1/sqrt(q) > most_inverse, phi counts as affine on
 * both sides of 0, or as constant on both if it jumps there.
 * coef: [n][degree][rows - 2];  moment: [n][2][degree], E phi^2 and E phi'^2;  zero: phi(0), phi'(0).
 * near: NULL, or tables for (sign of rho, panel of q1, panel of q2, panel of y), where panels of q are divided into
 * `parts` of equal length, and panel k of y is between edge[k] and edge[k+1]; y = 1 - |rho| or, if `root`,
 * sqrt(2 (1 - |rho|)), in which the dual of kinks is smooth.  missing: [n][n], set to 1 where a pair of points needed a
 * table that does not exist; the series is used in its place.
 * powers: NULL, or what the closed form near |rho| = 1 adds to the tables; if exact, there are none. */
typedef struct {
    nf_terms terms;
    double first, per_unit, most_inverse;
    int n, degree;
    const double *coef, *moment;
    double zero[2];
    int jumps_at_zero, root;
    const nf_cell *near;
    const double *edge;
    int n_angle, parts;
    unsigned char *missing;
    const nf_powers *powers;
} nf_panels;

typedef struct {
    const nf_instr *code;
    int n, n_rows; /* instructions; rows of the point table, all instructions together */
    int nesting;   /* the largest height of the stack */
    int last_dual; /* a E[phi' phi'] of this instruction is the output "dot"; -1: there is none */
} nf_program;

/* ---- points --------------------------------------------------------------------------------------------- */

/* Point tables are read NF_LANES points at a time, so these are contiguous: blocks [n_rows][NF_LANES], the last one
 * padded.  Number r of point i is at nf_table_at(program, i) + r * NF_LANES. */
enum { NF_LANES = 128 };
static inline int64_t nf_table_at(const nf_program *program, int64_t i)
{
    return i / NF_LANES * program->n_rows * NF_LANES + i % NF_LANES;
}

/* out[i] = sum_k x[i,k]^2, accumulated in double.  x: n x d, rows ld elements apart.  NaN and inf propagate. */
void nf_norms(nf_dtype dtype, const void *x, int64_t n, int64_t d, int64_t ld, double *out, int n_threads);

/* What nf_points carries, one row of n numbers each: */
typedef enum { NF_Q = 0, NF_THETA, NF_SLOPE, NF_PEAK_Q, NF_PEAK_THETA, NF_STACK } nf_state;

/* Instructions first .. last of the program at the pairs (x_i, x_i), whose correlation is exactly 1, in long double.
 * state: rows ld_state apart, NF_STACK + 2 nesting of them; continued from what they hold: |x_i|^2 in NF_Q, else 0,
 * before the first instruction.  After the last: Sigma, Theta and "dot" of (x_i, x_i), and the largest intermediate
 * numbers; if these fit dtype, no pair of the points overflows.  table: of dtype, where the first of these points is
 * number `start`; NULL: not needed.
 * A standard deviation below the smallest normal number of dtype counts as zero: its point correlates with nothing.
 * Two points whose variances are both below it lose their correlation, since sigma is carried in dtype. */
void nf_points(nf_dtype dtype, const nf_program *program, int first, int last, int64_t start, int64_t n,
               long double *state, int64_t ld_state, void *table, int n_threads);

/* The same pairs (x_i, x_i), for derivatives: numbers[k][r][i] at instruction k, its NF_RATES numbers r being Sigma and
 * Theta before it (after its sum or product, if it has one), V = E[phi^2] and D = E[phi'^2], and q dV/dq and q dD/dq.
 * q: |x_i|^2, n of them.  float64. */
enum { NF_RATES = 6 };
void nf_rates(const nf_program *program, int64_t n, const double *q, long double *numbers, int n_threads);

/* For pair.c.  The numbers of a point of variance q; E[phi^2], E[phi'^2] and the derivative of the former with respect
 * to log q. */
void nf_numbers(const nf_instr *in, long double q, long double *number);
void nf_point_dual(const nf_instr *in, long double q, long double *value, long double *slope, long double *rate);

/* A pair of points to relative precision: its variances, their difference q1 - q2, sqrt(q1 q2) - |c| and the sign of
 * the covariance c; and Theta. */
typedef struct {
    long double q[2], difference, gap, theta;
    int sign;
} nf_pair;

/* x.y of two points with d features, and |x|^2, |y|^2 as computed by nf_norms. */
void nf_pair_start(nf_dtype dtype, const void *x, const void *y, int d, double q1, double q2, nf_pair *pair);
/* The program.  out[p]: output p.  trace: NULL, or [n + 1][2] for sqrt(q1 q2) and 1 - |rho| before each instruction
 * and at the end. */
void nf_pair_run(const nf_program *program, nf_pair *pair, long double *out, double *trace);

/* E[(phi(u) - phi(v))^2] to relative precision for u, v = m +- (kappa m + s z)/2, m ~ N(0, M), z ~ N(0, 1): kinked.c.
 * For phi of which nf_kinked is true.  nf_kinked_parity: 1 if phi is even, -1 if it is odd, else 0. */
int nf_kinked(const nf_powers *phi);
int nf_kinked_parity(const nf_powers *phi);
double nf_kinked_distance(const nf_powers *phi, double M, double kappa, double s);

/* One dual without its layer at n triples: value = E[phi(u)phi(v)] and slope = E[phi'(u)phi'(v)] for (u, v) Gaussian
 * of variances q1, q2 and covariance c.  The arithmetic is that of the tiles in double. */
void nf_dual(const nf_instr *in, int64_t n, const double *q1, const double *q2, const double *c, double *value,
             double *slope);

/* ---- tiles ---------------------------------------------------------------------------------------------- */

/* The outputs a pair has; a plane is one rectangle of one of them.  A tile has room for NF_MOST_PLANES. */
enum { NF_NNGP = 0, NF_NTK = 1, NF_DOT = 2, NF_PLANES = 3, NF_MOST_PLANES = 5 };

enum { NF_SCRATCH = 2 }; /* scratch planes of a tile at most */

/* The matrix and its division into tiles.  symmetric: n == m and only tiles on and above the diagonal are computed.
 * width: columns of a tile, likewise, of a matrix that is not symmetric; 0: as many as rows.
 * The division depends only on the problem, never on threads, so that results do not depend on threads either. */
typedef struct {
    int64_t n, m;
    int tile; /* rows and columns of one rectangle: a multiple of NF_LANES, or of NF_EDGE and `width` of NF_LANES */
    int symmetric;
    nf_dtype dtype;
    int width;
} nf_grid;

static inline int nf_grid_width(const nf_grid *grid)
{
    return grid->width ? grid->width : grid->tile;
}

/* One rectangle: rows i0 .. i0+ni, columns j0 .. j0+nj, planes of ld elements per row (NULL: not requested), and as
 * many scratch planes and bytes of `work` as the map needs.  number: its place in the order of the grid.  status: of
 * the whole run, for a sink that waits; not NF_OK: the run is over. */
typedef struct {
    const nf_grid *grid;
    int64_t number, i0, j0;
    int ni, nj, ld;
    void *plane[NF_MOST_PLANES], *scratch[NF_SCRATCH], *work;
    const _Atomic int *status;
} nf_tile;

static inline int nf_on_diagonal(const nf_tile *tile)
{
    return tile->grid->symmetric && tile->i0 == tile->j0;
}

/* A map fills a rectangle: open(self, tile, step) computes the products of all of it, in steps 0, 1, ... until it
 * returns 0; rows(self, tile, first, last) finishes some of its rows.  planes: which of the NF_MOST_PLANES it fills
 * (bit mask). */
typedef struct {
    int (*open)(const void *self, nf_tile *tile, int step);
    void (*rows)(const void *self, nf_tile *tile, int first, int last);
    const void *self;
    unsigned planes;
    int n_scratch;
    size_t work_bytes;
} nf_map;

/* A sink takes it: begin(self, tile) before anything is computed; put(self, tile, first, last) takes rows while they
 * are in cache; end(self, tile) after all rows have been put.  Each may be NULL; nonzero: stop.  Maps and sinks are
 * called on any thread, but each tile is handled by one thread. */
typedef struct {
    int (*begin)(void *self, const nf_tile *tile);
    int (*put)(void *self, const nf_tile *tile, int first, int last);
    int (*end)(void *self, const nf_tile *tile);
    void *self;
} nf_sink;

/* poll(self, done, total) runs on the calling thread every `interval` seconds or so; nonzero: stop. */
typedef struct {
    int (*poll)(void *self, int64_t done, int64_t total);
    void *self;
    double interval;
} nf_watch;

int64_t nf_grid_tiles(const nf_grid *grid);

/* Tiles number first .. last of the grid, in any order.  It takes the memory of n_threads tiles. */
nf_status nf_run(const nf_grid *grid, nf_map map, nf_sink sink, int64_t first, int64_t last, const nf_watch *watch,
                 int n_threads);

/* ---- tiles in their order --------------------------------------------------------------------------------- */

/* Slots for what tiles leave behind, handed on in the order of the tiles from number `first` on, whatever the order in
 * which they are finished.  NULL: no memory. */
typedef struct nf_queue nf_queue;
nf_queue *nf_queue_new(int n_threads, int64_t first, size_t slot_bytes);
void nf_queue_free(nf_queue *queue);
/* The slot of this tile, zeroed; waits until it is free.  NULL: the run was stopped meanwhile. */
void *nf_queue_enter(nf_queue *queue, const nf_tile *tile);
void *nf_queue_slot(const nf_queue *queue, const nf_tile *tile); /* the same, after nf_queue_enter */
/* This tile is done: take(self, tile, slot) for all tiles that are next, one after the other. */
void nf_queue_leave(nf_queue *queue, const nf_tile *tile,
                    void (*take)(void *self, const nf_tile *tile, const void *slot), void *self);
/* to <- to + from, n numbers: what takers do with a slot. */
void nf_add(double *restrict to, const double *restrict from, int64_t n);

/* ---- inner products ------------------------------------------------------------------------------------- */

/* Fortran dgemm/sgemm, every argument by reference; cast to the type of the data. */
typedef void (*nf_gemm)(char *transa, char *transb, int *m, int *n, int *k, void *alpha, void *a, int *lda, void *b,
                        int *ldb, void *beta, void *c, int *ldc);

/* Fortran dsyrk/ssyrk, likewise. */
typedef void (*nf_syrk)(char *uplo, char *trans, int *n, int *k, void *alpha, void *a, int *lda, void *beta, void *c,
                        int *ldc);
typedef struct {
    nf_gemm gemm;
    nf_syrk syrk;
} nf_blas;

/* Points by rows, ld elements apart. */
typedef struct {
    const void *x;
    int64_t ld;
} nf_points_view;

/* to[i, j] = (to[i, j] if keep, else 0) + x_(i0+i) . y_(j0+j) over k features from `start`, for the pairs of a tile; on
 * the diagonal of a symmetric matrix, where both sides are the same points, for j >= i only.
 * BLAS rounds differently at the edges of a matrix whose size is no multiple of its blocks.  edges: nf_edges_bytes for
 * copies of the points there, with which both orders of a pair give the same bits; NULL: they need not. */
enum { NF_EDGE = 16 };
void nf_inner_products(nf_blas blas, const nf_tile *tile, nf_points_view rows, nf_points_view columns, int64_t start,
                       int k, int keep, void *edges, void *to);
size_t nf_edges_bytes(nf_dtype dtype, int64_t d); /* for up to d features */

/* of_rows <- P Y (ni x d) and of_columns <- P' X (nj x d), contiguous, where P is a plane of the tile and X and Y are
 * the points of its rows and columns. */
void nf_weighted_points(nf_blas blas, const nf_tile *tile, nf_points_view rows, nf_points_view columns, int d,
                        const void *plane, void *of_rows, void *of_columns);

/* The most features that one step multiplies over: Ctrl-C is checked between the steps of a long product. */
enum { NF_FEATURES = 1 << 15 };

/* For a tile on the diagonal of a symmetric matrix: copies the entries above the diagonal to below it, rows first ..
 * last. */
void nf_mirror(nf_dtype dtype, void *plane, int64_t ld, int first, int last);

/* ---- the limit kernels' map ----------------------------------------------------------------------------- */

/* One side of the matrix: its points (n x d), their squared norms, their table, and by what the covariance of the first
 * layer is multiplied to become a correlation (padded to a multiple of NF_LANES; NULL: pair.c is not used). */
typedef struct {
    nf_points_view points;
    const double *norms;
    const void *table, *inverse;
} nf_side;

/* Pairs with |x.y + shift| inverse_i inverse_j > bound are computed anew by pair.c, from their differences.
 * wide: tables and `inverse` are doubles and the program acts in double, whatever the points and the matrix are. */
typedef struct {
    const nf_program *program;
    int d, wide;
    nf_side rows, columns;
    nf_blas blas;
    double shift, bound;
    const void *diagonal[NF_PLANES]; /* symmetric: (n) exact values for the diagonal of each requested output */
} nf_limit;

/* work: nf_edges_bytes */
int nf_limit_open(const void *self, nf_tile *tile, int step);
void nf_limit_rows(const void *self, nf_tile *tile, int first, int last);
void nf_limit_pair(const nf_limit *map, const nf_tile *tile, int i, int j); /* entry (i, j) of the tile, by pair.c */

/* ---- the sink of weighted derivatives ---------------------------------------------------------------------- */

/* Adds up the weighted derivatives of nf_gradient:
 *     layers     [program->n][4]    with respect to (a, b, c, d)
 *     by_row     [program->n][n]    with respect to log q of each row's point
 *     by_column  [program->n][m]    with respect to log q of each column's point
 *     of_rows    [n][d]             sum_j P_ij y_j, P_ij the derivative with respect to the inner product x_i.y_j
 *     of_columns [m][d]             sum_i P_ij x_i; it may be the same array.  NULL, both of them: not needed
 * Results are added to all of them, in tile order.  The part of a tile has NF_SUMS_HEAD + 2 tile numbers for each
 * instruction: the first four, then by_row and by_column of the tile's points; after these of_rows and of_columns of
 * the tile's points, in the dtype of the grid.  limit: that of the map of the run. */
enum { NF_SUMS_HEAD = 4 };
typedef struct {
    const nf_limit *limit;
    double *layers, *by_row, *by_column, *of_rows, *of_columns;
    nf_queue *queue;
} nf_sums;

int nf_sums_begin(void *self, const nf_tile *tile);
int nf_sums_end(void *self, const nf_tile *tile);
size_t nf_sums_bytes(const nf_sums *sink, const nf_grid *grid); /* of the part of one tile */

/* ---- derivatives with respect to the layers' numbers ------------------------------------------------------ */

/* For each pair the program runs forwards and then backwards (backward.h), from the derivative of a number with respect
 * to the output to those with respect to the four numbers of every layer, and to log q of both points before every
 * dual.  It is a map whose rows are opened like those of nf_limit.
 *
 * weights != NULL (n x m): the derivatives of sum_ij weights[i,j] output[i,j], without the diagonal if symmetric; the
 * sink of the run must be `sums`.  If that needs them, P_ij replace the inner products in plane NF_NNGP.
 *
 * Else: matrices[p][i][j], the derivative of the output with respect to parameter p, under which the numbers of the layer
 * of instruction k change at the rates layer[p][k], and log q of the points before it at of_row[p][k][i] and
 * of_column[p][k][j]. Instruction first[p] is the first whose layer changes. */
typedef struct {
    nf_limit limit;
    int output; /* NF_NNGP or NF_NTK */
    const void *weights;
    int64_t ld_weights;
    const nf_sums *sums;
    int n_parameters;
    const int *first;
    const double *layer, *of_row, *of_column;
    void *matrices;
} nf_gradient;

/* Chunks of NF_LANES numbers that the forward pass of a row leaves: once, and for each instruction. */
enum { NF_TAPE_HEAD = 2 + 2 * NF_MAX_NESTING, NF_TAPE_STEP = 9 };
size_t nf_gradient_bytes(const nf_limit *limit, nf_dtype dtype); /* of `work` */
void nf_gradient_rows(const void *self, nf_tile *tile, int first, int last);

/* ---- the map of finite width ---------------------------------------------------------------------------- */

/* Statistics of networks of finite width to order 1/n, for phi(x) = a min(x,0) + b max(x,0) (docs/beyond.md); in double
 * only.
 *
 * One hidden layer and the affine layer after it, K <- A K + B, H <- A K_dot H + C K + D.  below, above: a and b over
 * sqrt((a^2+b^2)/2);  trained: C/A;  shift: D;  inverse_width: 1/n. */
typedef struct {
    double below, above, trained, shift, inverse_width;
} nf_hidden;

/* Numbers of the points, each `ld` apart from the next, ld a multiple of NF_LANES:  1/sqrt(q) of the first layer, then for
 * each hidden layer
 *     alpha = sqrt(A (a^2+b^2)/2 q/q'),   sqrt(B/q'),   1/sqrt(q'),
 * and at the end sqrt(q) of the outputs (0 in place of inverses of 0, and 1 in place of alpha then). */
enum { NF_WIDTH_NUMBERS = 3 };
typedef struct {
    nf_points_view points;
    const double *numbers;
    int64_t ld;
} nf_width_side;

/* first: A, B, C, D of the first layer, whose K is A x.y + B.  The variance of the tangent kernel is that of the mean over
 * `n_outputs` outputs. */
enum { NF_NTK_MEAN, NF_NTK_STD, NF_NTK_CROSS_STD, NF_NNGP_MEAN, NF_NNGP_STD };
typedef struct {
    nf_width_side rows, columns;
    nf_blas blas;
    int d, n_hidden;
    double first[4], n_outputs;
    const nf_hidden *hidden;
} nf_finite_width;

/* work: nf_edges_bytes */
int nf_width_open(const void *self, nf_tile *tile, int step);
void nf_width_rows(const void *self, nf_tile *tile, int first, int last);

/* ---- the empirical kernels' map ------------------------------------------------------------------------- */

/* One term  (weight a_i . a'_j + bias) (b_i . b'_j): a has d_a features (0: no product, only the bias), b has d_b (0:
 * the factor is 1), and b.b' is the sum over `n_b` arrays, array k being k * b_rows_step or k * b_columns_step elements
 * after the first. */
typedef struct {
    nf_points_view a_rows, a_columns, b_rows, b_columns;
    int64_t d_a, d_b, n_b, b_rows_step, b_columns_step;
    double weight, bias;
} nf_term;

/* plane 0 = the sum of the terms (section 4 of the paper):  sum_l (weight_l alpha.alpha' + bias_l) (B . B') */
typedef struct {
    int n_terms;
    const nf_term *terms;
    nf_blas blas;
} nf_tangent;

int nf_tangent_open(const void *self, nf_tile *tile, int step);
void nf_tangent_rows(const void *self, nf_tile *tile, int first, int last);

/* ---- the array sink ------------------------------------------------------------------------------------- */

/* base[p]: element (0,0) of output p; strides in elements.  The tiles of a symmetric matrix are written mirrored as
 * well.  stream: bypass the caches, for outputs that are larger than they are. */
typedef struct {
    int stream;
    void *base[NF_MOST_PLANES];
    int64_t row_stride[NF_MOST_PLANES], column_stride[NF_MOST_PLANES];
} nf_array;

int nf_array_put(void *self, const nf_tile *tile, int first, int last);
int nf_array_end(void *self, const nf_tile *tile);

/* ---- the sink of products with vectors -------------------------------------------------------------------- */

/* sum <- sum + K v for `n_panels` panels of `width` vectors side by side, 1 or NF_PANEL of them, in double: v is
 * [n_panels][m][width], sum [n_panels][n][width].  In a symmetric matrix a tile also serves for its mirror image.
 * Nothing of the size of the matrix is kept: each tile leaves its part in a slot, and the parts are added in tile
 * order, so that the bits do not depend on threads.  plane: which output. */
enum { NF_PANEL = 8 };
typedef struct {
    int plane, width, n_panels;
    const double *v;
    double *sum;
    nf_queue *queue;
} nf_vectors;

int nf_vectors_begin(void *self, const nf_tile *tile);
int nf_vectors_put(void *self, const nf_tile *tile, int first, int last);
int nf_vectors_end(void *self, const nf_tile *tile);
size_t nf_vectors_bytes(const nf_vectors *sink, const nf_grid *grid); /* for the part of one tile */

/* ---- the sink of products with K'K ------------------------------------------------------------------------- */

/* The same struct for sum <- sum + K' (K v), in one pass over K: sum is [n_panels][m][width], too.  All of a row is
 * multiplied with v before it is multiplied with the result, so that tiles must be as wide as the matrix. */
int nf_normal_begin(void *self, const nf_tile *tile);
int nf_normal_end(void *self, const nf_tile *tile);
size_t nf_normal_bytes(const nf_vectors *sink, const nf_grid *grid); /* for the part of one tile */

/* ---- instruction sets ----------------------------------------------------------------------------------- */

/* What is compiled once per instruction set (isa_*.c around kernels.h). */
typedef struct {
    const char *name;
    void (*norms[2])(const void *x, int64_t n, int64_t d, int64_t ld, double *out);
    /* Runs the program over some rows; tile->plane[k] for each requested output, x.x' in `inner` (may alias).
     * interpret_wide: of a map that is `wide`, on float32. */
    void (*interpret[2])(const nf_limit *map, const nf_tile *tile, int first, int last, const void *inner);
    void (*interpret_wide)(const nf_limit *map, const nf_tile *tile, int first, int last, const void *inner);
    void (*backward[2])(const nf_gradient *map, const nf_tile *tile, int first, int last, const void *inner);
    /* the rows of nf_finite_width, x.y in `inner` (may alias a plane) */
    void (*widths)(const nf_finite_width *map, const nf_tile *tile, int first, int last, const void *inner);
    /* One instruction over NF_LANES pairs: numbers of the row's point, of the columns', as in a table; sigma, theta. */
    void (*dual)(const nf_instr *in, const double *row, const double *columns, double *sigma, double *theta);
    void (*put[2])(const void *from, int64_t ld, int ni, int nj, void *to, int64_t row_stride, int64_t column_stride,
                   int stream);
    /* rows of a tile times vectors: see product.h */
    void (*product[2])(const void *rows, int64_t ld, int ni, int nj, int width, const double *v, double *row_sums,
                       const double *u, double *column_sums);
} nf_isa;

/* The table in use: the best that the CPU supports, or the one named by NTKFAST_ISA=base|avx2|avx512.
 * NULL: NTKFAST_ISA names one that is unknown, not compiled in or not supported by this CPU.
 * Call it once, from one thread, before anything else. */
const nf_isa *nf_isa_in_use(void);

/* Switches to the table of this name; returns the previous one, or NULL if this name is not available, in which case
 * nothing changes.  For tests only: not while any call of the engine runs, on any thread. */
const nf_isa *nf_isa_use(const char *name);

/* NULL-terminated: what is compiled in and supported here, best first. */
const char *const *nf_isa_available(void);

int nf_has_openmp(void);
int nf_max_threads(void); /* OpenMP's own limit (OMP_NUM_THREADS, affinity, threadpoolctl); 1 without OpenMP */

#endif
