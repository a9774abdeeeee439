/* points.c: the program on the diagonal, and the numbers of each point that the pairs need.
 *
 * The instructions are those of duals.h, here in long double and one lane wide: 50 layers deep the diagonal keeps
 * 1e-14 in double because its own recursion is finer than that.
 */
#include <float.h>
#include <tgmath.h>

#include "ntkfast.h"

#define NF_T long double
#define NF_(name) name##_point_wise
#define NF_PRECISION 80
#define NF_WIDTH 1
#define NF_SIMD
#define NF_TINY 0
#include "vecmath.h"
#include "duals.h"

#define NF_INFO(NAME, function, params, rows) {#function, params, rows},
const nf_op_info nf_ops[NF_N_OPS] = {NF_AFFINE_LINE(NF_INFO) NF_DUALS(NF_INFO)};

#define NF_FITS(NAME, function, params, rows)                                                                          \
    _Static_assert(params <= NF_MAX_PARAMS && rows <= NF_MAX_ROWS, "NF_MAX_PARAMS, NF_MAX_ROWS: " #function);
NF_DUALS(NF_FITS)

typedef void nf_point(const nf_instr *in, long double q, long double *number);
#define NF_POINT(NAME, function, params, rows) [NF_##NAME] = function##_point,
static nf_point *const point_functions[NF_N_OPS] = {NF_DUALS(NF_POINT)};

static void store(nf_dtype dtype, void *table, int64_t at, long double value)
{
    if (!table)
        return;
    if (dtype == NF_FLOAT32)
        ((float *)table)[at] = (float)value;
    else
        ((double *)table)[at] = (double)value;
}

static void one_point(nf_dtype dtype, const nf_program *program, int64_t i, long double *q, long double *theta,
                      long double *dot, long double *peak_q, long double *peak_theta, void *table, int64_t ld)
{
    const long double least_std = dtype == NF_FLOAT32 ? FLT_MIN : DBL_MIN;
    long double t = *theta, s = *q;
    *peak_q = fmaxl(*peak_q, s);
    for (int k = 0; k < program->n; k++) {
        const nf_instr *in = &program->code[k];
        long double number[NF_MAX_ROWS] = {0};
        if (point_functions[in->op]) {
            if (s < least_std * least_std)
                s = 0;
            number[0] = s > 0 ? 1 / sqrtl(s) : 0;
            point_functions[in->op](in, s, number);
            for (int p = 0; p < NF_MAX_PARAMS; p++) /* the constants of the duals are made of these */
                *peak_q = fmaxl(*peak_q, 4 * in->param[p] * in->param[p]);
            for (int r = 0; r < nf_ops[in->op].n_rows; r++)
                store(dtype, table, (in->row + r) * ld + i, number[r]);
        }
        if (k == program->last_dual)
            NF_(slope_of)(in, number, 1, number, 1, &s, dot);
        NF_(instructions)[in->op](in, number, 1, number, 1, &s, &t);
        const long double before = (s - in->layer[1]) / in->layer[0]; /* sigma between the dual and its layer */
        *peak_q = fmaxl(*peak_q, fmaxl(fmaxl(before, s), fmaxl(in->layer[0], in->layer[1])));
        *peak_theta = fmaxl(*peak_theta, fmaxl(t, fmaxl(in->layer[2], in->layer[3])));
    }
    *q = s;
    *theta = t;
}

void nf_points(nf_dtype dtype, const nf_program *program, int64_t n, long double *q, long double *theta,
               long double *dot, long double *peak_q, long double *peak_theta, void *table, int64_t ld, int n_threads)
{
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 256) num_threads(n_threads)
#endif
    for (int64_t i = 0; i < n; i++)
        one_point(dtype, program, i, &q[i], &theta[i], &dot[i], &peak_q[i], &peak_theta[i], table, ld);
}
