/* points.c: the program on the diagonal, and the point table: the numbers of each point that the pairs need.
 *
 * The instructions are those of duals.h, here in long double and one lane wide: 50 layers deep the diagonal is accurate
 * to 1e-14 in double because its recursion runs in higher precision.
 */
#include <float.h>
#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "ntkfast.h"

#define NF_T long double
#define NF_(name) name##_point_wise
#define NF_PRECISION 80
#define NF_WIDTH 1
#define NF_NEXT 1
#define NF_SIMD
#define NF_TINY 0
#define NF_LARGE LDBL_MAX
#define NF_DIAGONAL 1
#define NF_EPSILON LDBL_EPSILON
#include "vecmath.h"
#include "duals.h"
#include "series.h"
#include "series_points.h"
#include "program.h"

#define NF_INFO(NAME, name, function, params, rows) {#name, params, rows},
const nf_op_info nf_ops[NF_N_OPS] = {NF_STRUCTURE(NF_INFO) NF_DUALS(NF_INFO)};

#define NF_FITS(NAME, name, function, params, rows)                                                                    \
    _Static_assert(params <= NF_MAX_PARAMS && rows <= NF_MAX_ROWS, "NF_MAX_PARAMS, NF_MAX_ROWS: " #name);
NF_DUALS(NF_FITS)

typedef void nf_point(const nf_instr *in, long double q, int rows, long double *number);
#define NF_POINT(NAME, name, function, params, rows) [NF_##NAME] = name##_point,
static nf_point *const point_functions[NF_N_OPS] = {NF_DUALS(NF_POINT)};

/* rows == 0: only what the diagonal needs, without the coefficients of the series */
static void numbers_of(const nf_instr *in, long double q, int rows, long double *number)
{
    number[0] = q > 0 ? 1 / sqrtl(q) : 0;
    point_functions[in->op](in, q, rows, number);
}

void nf_numbers(const nf_instr *in, long double q, long double *number)
{
    numbers_of(in, q, 1, number);
}

void nf_point_dual(const nf_instr *in, long double q, long double *value, long double *slope, long double *rate)
{
    long double number[NF_MAX_ROWS + 2];
    NF_(partials) p;
    numbers_of(in, q, 0, number);
    NF_(partials_of)[in->op](in, number, number, &q, &p);
    *value = p.value[0];
    *slope = p.slope[0];
    *rate = p.value_row[0] + p.value_column[0] + q * p.price[0];
    if (in->op == NF_ERF || in->op == NF_GAUSSIAN) { /* for large q the sum cancels; e^2 and g, as in duals.h */
        const long double e2 = number[1] * number[1], a = in->param[0];
        *rate = in->op == NF_ERF ? 2 * a * a / NF_PI * e2 * number[2] / sqrtl(1 + e2) : -*value * e2 / (1 + e2);
    }
}

static void store(nf_dtype dtype, void *table, int64_t at, long double value)
{
    if (dtype == NF_FLOAT32)
        ((float *)table)[at] = (float)value;
    else
        ((double *)table)[at] = (double)value;
}

/* PUSH, SWAP, ADD and MULTIPLY on (s, t); the stack is `height` pairs of numbers, all of them ld apart. */
static void branch(const nf_instr *in, int *height, long double *stack, int64_t ld, long double *s, long double *t)
{
    if (in->op != NF_PUSH && *height == 0)
        return;
    long double *top_s = stack + 2 * (*height - (in->op != NF_PUSH)) * ld, *top_t = top_s + ld;
    const long double sigma = *s, theta = *t;
    *height += nf_stacks(in->op);
    switch (in->op) {
    case NF_PUSH:
        *top_s = sigma, *top_t = theta;
        break;
    case NF_SWAP:
        *s = *top_s, *t = *top_t;
        *top_s = sigma, *top_t = theta;
        break;
    case NF_ADD:
        *s = sigma + in->param[0] * *top_s;
        *t = theta + in->param[0] * *top_t;
        break;
    case NF_MULTIPLY:
        *s = sigma * *top_s;
        *t = theta * *top_s + sigma * *top_t;
        break;
    }
}

/* state: of this point, its numbers ld apart */
static void one_point(nf_dtype dtype, const nf_program *program, int first, int last, long double *state, int64_t ld,
                      int height, void *table, int64_t i)
{
    const long double least_std = dtype == NF_FLOAT32 ? FLT_MIN : DBL_MIN;
    long double s = state[NF_Q * ld], t = state[NF_THETA * ld];
    long double peak_q = fmaxl(state[NF_PEAK_Q * ld], s), peak_theta = state[NF_PEAK_THETA * ld];
    long double number[NF_MAX_ROWS + 2];
    for (int k = first; k < last; k++) {
        const nf_instr *in = &program->code[k];
        number[0] = 0;
        branch(in, &height, state + NF_STACK * ld, ld, &s, &t);
        if (point_functions[in->op]) {
            if (s < least_std * least_std)
                s = 0;
            numbers_of(in, s, table != NULL, number);
            for (int p = 0; p < NF_MAX_PARAMS; p++) /* the constants of the duals are computed from these */
                peak_q = fmaxl(peak_q, 4 * in->param[p] * in->param[p]);
            for (int r = 0; table && r < in->n_rows; r++)
                store(dtype, table, nf_table_at(program, i) + (in->row + r) * NF_LANES, number[r]);
        }
        if (k == program->last_dual)
            NF_(slope_of)(in, number, number, &s, &state[NF_SLOPE * ld]);
        NF_(instructions)[in->op](in, number, number, &s, &t);
        const long double before = (s - in->layer[1]) / in->layer[0]; /* sigma between the dual and its layer */
        peak_q = fmaxl(peak_q, fmaxl(fmaxl(before, s), fmaxl(in->layer[0], in->layer[1])));
        peak_theta = fmaxl(peak_theta, fmaxl(t, fmaxl(in->layer[2], in->layer[3])));
    }
    if (isnan(s) || isnan(t)) /* inf - inf; fmaxl ignores NaN */
        peak_q = peak_theta = INFINITY;
    state[NF_Q * ld] = s;
    state[NF_THETA * ld] = t;
    state[NF_PEAK_Q * ld] = peak_q;
    state[NF_PEAK_THETA * ld] = peak_theta;
}

void nf_points(nf_dtype dtype, const nf_program *program, int first, int last, int64_t start, int64_t n,
               long double *state, int64_t ld_state, void *table, int n_threads)
{
    int height = 0;
    for (int k = 0; k < first; k++)
        height += nf_stacks(program->code[k].op);
    if (n_threads < 2 || n <= 64) {
        for (int64_t i = 0; i < n; i++)
            one_point(dtype, program, first, last, state + i, ld_state, height, table, start + i);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 64) num_threads(n_threads)
#endif
    for (int64_t i = 0; i < n; i++)
        one_point(dtype, program, first, last, state + i, ld_state, height, table, start + i);
}

/* The whole program on the diagonal again, for nf_rates; `numbers` of this point are n apart. */
static void one_point_rates(const nf_program *program, long double q, long double *numbers, int64_t n)
{
    long double t = 0, number[NF_MAX_ROWS + 2], stack[2 * NF_MAX_NESTING];
    int height = 0;
    for (int k = 0; k < program->n; k++) {
        const nf_instr *in = &program->code[k];
        NF_(partials) p;
        number[0] = 0;
        branch(in, &height, stack, 1, &q, &t);
        if (point_functions[in->op]) {
            q = q < (long double)DBL_MIN * DBL_MIN ? 0 : q;
            numbers_of(in, q, 0, number);
        }
        NF_(partials_of)[in->op](in, number, number, &q, &p);
        const long double by_value = p.value_row[0] + p.value_column[0] + q * p.price[0];
        const long double by_slope = p.slope_row[0] + p.slope_column[0] + q * p.bend[0];
        const long double all[NF_RATES] = {q, t, p.value[0], p.slope[0], by_value, by_slope};
        for (int r = 0; r < NF_RATES; r++)
            numbers[(k * NF_RATES + r) * n] = all[r];
        t = in->layer[0] * p.slope[0] * t + in->layer[2] * p.value[0] + in->layer[3];
        q = in->layer[0] * p.value[0] + in->layer[1];
    }
}

void nf_rates(const nf_program *program, int64_t n, const double *q, long double *numbers, int n_threads)
{
    if (n_threads < 2 || n <= 64) {
        for (int64_t i = 0; i < n; i++)
            one_point_rates(program, q[i], numbers + i, n);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 64) num_threads(n_threads)
#endif
    for (int64_t i = 0; i < n; i++)
        one_point_rates(program, q[i], numbers + i, n);
}
