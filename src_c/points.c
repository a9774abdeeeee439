/* points.c: the program on the diagonal, and the numbers of each point that the pairs need.
 *
 * The instructions are those of duals.h, here in long double and one lane wide: 50 layers deep the diagonal keeps
 * 1e-14 in double because its own recursion is finer than that.
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
#define NF_EPSILON LDBL_EPSILON
#include "vecmath.h"
#include "duals.h"
#include "series.h"
#include "program.h"

#define NF_INFO(NAME, name, function, params, rows) {#name, params, rows},
const nf_op_info nf_ops[NF_N_OPS] = {NF_STRUCTURE(NF_INFO) NF_DUALS(NF_INFO)};

#define NF_FITS(NAME, name, function, params, rows)                                                                    \
    _Static_assert(params <= NF_MAX_PARAMS && rows <= NF_MAX_ROWS, "NF_MAX_PARAMS, NF_MAX_ROWS: " #name);
NF_DUALS(NF_FITS)

/* ---- the numbers of the Hermite series ------------------------------------------------------------------- */

/* A standard deviation for the point of variance 0: the slope of phi at 0 is a_1 over it. */
#define SOME_STD 1e-15L

/* Where a_k goes among the numbers of a point: even ones first. */
static int place(const nf_terms *terms, int k)
{
    return 2 + k / 2 + (k & 1 ? terms->even : 0);
}

static int wanted(const nf_terms *terms, int k)
{
    return k / 2 < (k & 1 ? terms->odd : terms->even);
}

/* The point of variance 0: phi(0) and, over SOME_STD, phi'(0), each the mean of both sides where it jumps. */
static void numbers_at_zero(const nf_instr *in, const nf_terms *terms, long double value, long double slope, int rows,
                            long double *number)
{
    for (int k = 2; rows && k < in->n_rows; k++)
        number[k] = 0;
    if (rows && wanted(terms, 0))
        number[place(terms, 0)] = value;
    if (rows && wanted(terms, 1))
        number[place(terms, 1)] = slope * SOME_STD;
    if (rows && terms->slopes && wanted(terms, 0))
        number[place(terms, 0) + terms->even + terms->odd] = slope;
    number[1] = 1 / SOME_STD;
    number[in->n_rows] = value * value;
    number[in->n_rows + 1] = slope * slope;
}

static void polynomial_point(const nf_instr *in, long double q, int rows, long double *number)
{
    const nf_polynomial *phi = in->data;
    const long double s = q > 0 ? sqrtl(q) : SOME_STD;
    long double value = 0, slope = 0;
    number[1] = 1 / s;
    for (int k = 2; rows && k < in->n_rows; k++)
        number[k] = 0; /* there may be more terms than coefficients */
    for (int k = 0; k <= phi->degree; k++) {
        const long double *basis = phi->basis + k * (phi->degree + 1);
        long double a = 0;
        for (int j = phi->degree; j >= k; j--)
            a = a * s + basis[j];
        for (int j = 0; j < k; j++)
            a *= s;
        value += a * a;
        slope += k * a * a;
        if (rows && wanted(&phi->terms, k))
            number[place(&phi->terms, k)] = a;
    }
    number[in->n_rows] = value;
    number[in->n_rows + 1] = slope / (s * s);
}

/* int_low^high p f, for a polynomial f = (u + v z)^2 of one sign and an interval so short that p is smooth on it: in
 * closed form its terms would cancel. */
static long double short_piece(long double u, long double v, long double low, long double high)
{
    static const long double x[3] = {0.238619186083196908630501721681L, 0.661209386466264513661399595020L,
                                     0.932469514203152027812301554494L};
    static const long double w[3] = {0.467913934572691047389870343990L, 0.360761573048138607569833513838L,
                                     0.171324492379170345040296142173L};
    const long double half = (high - low) / 2, middle = (high + low) / 2;
    long double sum = 0;
    for (int k = 0; k < 6; k++) {
        const long double z = middle + (k & 1 ? half : -half) * x[k / 2], f = u + v * z;
        sum += w[k / 2] * f * f * expl(-z * z / 2);
    }
    return sum * half / sqrtl(2 * NF_PI);
}

/* By parts, twice:  a_k = sqrt(q) sum_j c_j h_(k-2)(t_j/sqrt q) p(t_j/sqrt q)/sqrt(k(k-1)) for k >= 2, p the density */
static void kinks_point(const nf_instr *in, long double q, int rows, long double *number)
{
    const nf_kinks *phi = in->data;
    const nf_terms *terms = &phi->terms;
    const long double s = q > 0 ? sqrtl(q) : SOME_STD;
    long double mean = phi->offset, slope = phi->slope, square = 0, slope_square = 0;
    const int n = 2 * (terms->even > terms->odd ? terms->even : terms->odd);
    number[1] = 1 / s;
    if (!(q > 0)) {
        for (int j = 0; j < phi->n; j++) {
            const long double t = phi->at[j], share = t < 0 ? 1 : t > 0 ? 0 : 0.5L;
            mean -= share * t * phi->jump[j];
            slope += share * phi->jump[j];
        }
        numbers_at_zero(in, terms, mean, slope, rows, number);
        return;
    }
    double sum[NF_MAX_ROWS] = {0};
    for (int j = 0; j < phi->n; j++) {
        const long double a = phi->at[j] / s, c = phi->jump[j], tail = erfcl(a / sqrtl(2)) / 2;
        const long double p = expl(-a * a / 2) / sqrtl(2 * NF_PI);
        double before = 0, h = 1, position = (double)a;
        const double weight = (double)(s * c * p);
        mean += c * (s * p - phi->at[j] * tail);
        slope += c * tail;
        for (int k = 2; rows && k < n && weight != 0; k++) { /* h = h_(k-2)(a) */
            sum[k] += weight * h * phi->inverse_root[k] * phi->inverse_root[k - 1];
            const double next = (position * h - phi->root[k - 2] * before) * phi->inverse_root[k - 1];
            before = h;
            h = next;
        }
    }
    /* E phi^2 and E phi'^2: phi is offset_i + slope_i x between the kinks, which are sorted */
    long double offset_here = phi->offset, slope_here = phi->slope, low = -INFINITY;
    for (int j = 0; j <= phi->n; j++) {
        const long double high = j < phi->n ? phi->at[j] / s : INFINITY, b = slope_here * s;
        const long double p_low = isinf(low) ? 0 : expl(-low * low / 2), p_high = isinf(high) ? 0 : expl(-high * high / 2);
        const long double mass = low > 0 ? erfcl(low / sqrtl(2)) - erfcl(high / sqrtl(2))
                                         : erfcl(-high / sqrtl(2)) - erfcl(-low / sqrtl(2));
        const long double first = (p_low - p_high) / sqrtl(2 * NF_PI);
        const long double ends = (p_low > 0 ? low * p_low : 0) - (p_high > 0 ? high * p_high : 0);
        const long double second = mass / 2 + ends / sqrtl(2 * NF_PI);
        if (high - low < 0.01L)
            square += short_piece(offset_here, b, low, high);
        else
            square += offset_here * offset_here * mass / 2 + 2 * offset_here * b * first + b * b * second;
        slope_square += slope_here * slope_here * mass / 2;
        if (j < phi->n) {
            offset_here -= phi->jump[j] * phi->at[j];
            slope_here += phi->jump[j];
            low = high;
        }
    }
    for (int k = 2; rows && k < n; k++)
        if (wanted(terms, k))
            number[place(terms, k)] = sum[k];
    if (rows && wanted(terms, 0))
        number[place(terms, 0)] = mean;
    if (rows && wanted(terms, 1))
        number[place(terms, 1)] = s * slope;
    number[in->n_rows] = square;
    number[in->n_rows + 1] = slope_square;
}

/* sum_k c[k] T_k(x), by Clenshaw */
static long double chebyshev_sum(int n, const double *c, long double x)
{
    long double b1 = 0, b2 = 0;
    for (int k = n - 1; k > 0; k--) {
        const long double b = c[k] + 2 * x * b1 - b2;
        b2 = b1;
        b1 = b;
    }
    return c[0] + x * b1 - b2;
}

static void series_point(const nf_instr *in, long double q, int rows, long double *number)
{
    const nf_panels *phi = in->data;
    const int n = in->n_rows - 2, step = phi->degree;
    const long double lowest = powl(4, (long double)phi->first / phi->per_unit);
    long double shrink = 1; /* below the lowest panel phi is affine: phi(x) - phi(0) goes like sqrt(q) */
    if (!(q > 0)) {
        numbers_at_zero(in, &phi->terms, phi->zero[0], phi->zero[1], rows, number);
        return;
    }
    number[1] = number[0];
    if (q < lowest) {
        shrink = phi->jumps_at_zero ? 1 : sqrtl(q / lowest);
        q = lowest;
    }
    const long double where = phi->per_unit * log2l(q) / 2 - phi->first;
    int panel = (int)where;
    panel = panel < phi->n ? panel : phi->n - 1;
    const long double xi = fminl(2 * (where - panel) - 1, 1);
    double sum[NF_MAX_ROWS] = {0}, before = 1, chebyshev = (double)xi;
    const double *coef = phi->coef + (int64_t)panel * step * n;
    const int n_rows = rows ? n : 1; /* the diagonal needs a_0 */
    for (int k = 0; k < n_rows; k++)
        sum[k] = coef[k] + coef[n + k] * chebyshev;
    for (int j = 2; j < step; j++) {
        const double next = 2 * (double)xi * chebyshev - before;
        before = chebyshev;
        chebyshev = next;
        for (int k = 0; k < n_rows; k++)
            sum[k] += coef[(int64_t)j * n + k] * chebyshev;
    }
    for (int k = 0; k < n_rows; k++)
        number[2 + k] = sum[k] * shrink;
    const double *moment = phi->moment + (int64_t)panel * 2 * step;
    long double square = chebyshev_sum(step, moment, xi);
    if (shrink < 1 && phi->terms.even > 0) {
        const long double mean = number[2] / shrink;
        const long double zero = phi->zero[0];
        square = zero * zero + 2 * zero * (mean - zero) * shrink +
                 (square - zero * (2 * mean - zero)) * shrink * shrink;
        number[2] = zero + (mean - zero) * shrink;
    } else {
        square *= shrink * shrink;
    }
    if (rows && shrink < 1 && phi->terms.slopes) /* phi' does not shrink */
        for (int k = phi->terms.even + phi->terms.odd; k < n; k++)
            number[2 + k] /= shrink;
    number[in->n_rows] = square;
    number[in->n_rows + 1] = chebyshev_sum(step, moment + step, xi);
}

/* ---- rates of V = E[phi^2] and D = E[phi'^2] by log q, from q and the numbers of a point: rate[0], rate[1] --------- */

typedef void nf_rate(const nf_instr *in, long double q, const long double *number, long double *rate);

/* q da_k/dq by the powers of sqrt(q) in a_k */
static void polynomial_rate(const nf_instr *in, long double q, const long double *number, long double *rate)
{
    const nf_polynomial *phi = in->data;
    const long double s = sqrtl(q);
    (void)number;
    rate[0] = rate[1] = 0;
    for (int k = 0; k <= phi->degree; k++) {
        const long double *basis = phi->basis + k * (phi->degree + 1);
        long double a = 0, change = 0, power = 1;
        for (int j = 0; j <= phi->degree; j++) {
            a += basis[j] * power;
            change += 0.5L * j * basis[j] * power;
            power *= s;
        }
        rate[0] += 2 * a * change;
        rate[1] += q > 0 ? k * a * (2 * change - a) / q : 0;
    }
}

/* dV/dq = E[phi'^2 + phi phi''],  dD/dq = E[(phi'^2)'']/2 by parts: the density at the kinks */
static void kinks_rate(const nf_instr *in, long double q, const long double *number, long double *rate)
{
    const nf_kinks *phi = in->data;
    const long double s = sqrtl(q);
    long double slope = phi->slope;
    rate[0] = q * number[in->n_rows + 1];
    rate[1] = 0;
    for (int i = 0; q > 0 && i < phi->n; i++) {
        const long double t = phi->at[i], p = expl(-t * t / (2 * q)) / (s * sqrtl(2 * NF_PI)), jump = phi->jump[i];
        long double value = phi->offset + phi->slope * t;
        for (int j = 0; j < i; j++)
            value += phi->jump[j] * (t - phi->at[j]);
        rate[0] += q * jump * p * value;
        rate[1] += 0.5L * jump * (2 * slope + jump) * t * p;
        slope += jump;
    }
}

/* d/dx sum_k c[k] T_k(x) = sum_k k c[k] U_(k-1)(x), by Clenshaw */
static long double chebyshev_slope(int n, const double *c, long double x)
{
    long double b1 = 0, b2 = 0;
    for (int k = n - 1; k > 0; k--) {
        const long double b = k * c[k] + 2 * x * b1 - b2;
        b2 = b1;
        b1 = b;
    }
    return b1;
}

static void series_rate(const nf_instr *in, long double q, const long double *number, long double *rate)
{
    const nf_panels *phi = in->data;
    const long double value = number[in->n_rows], zero = phi->zero[0];
    const long double where = q > 0 ? phi->per_unit * log2l(q) / 2 - phi->first : -1;
    int panel = (int)where;
    rate[0] = rate[1] = 0;
    if (where < 0) { /* below all panels, where phi - phi(0) goes like sqrt(q) */
        const long double mean = phi->terms.even > 0 ? number[2] - zero : 0;
        if (!phi->jumps_at_zero)
            rate[0] = value - zero * zero - zero * mean;
        return;
    }
    panel = panel < phi->n ? panel : phi->n - 1;
    const long double xi = fminl(2 * (where - panel) - 1, 1), scale = phi->per_unit / logl(2);
    const double *moment = phi->moment + (int64_t)panel * 2 * phi->degree;
    rate[0] = scale * chebyshev_slope(phi->degree, moment, xi);
    rate[1] = scale * chebyshev_slope(phi->degree, moment + phi->degree, xi);
}

#include "gradient.h"

/* ---- the diagonal ---------------------------------------------------------------------------------------- */

typedef void nf_point(const nf_instr *in, long double q, int rows, long double *number);
#define NF_POINT(NAME, name, function, params, rows) [NF_##NAME] = name##_point,
static nf_point *const point_functions[NF_N_OPS] = {NF_DUALS(NF_POINT)};

/* rows == 0: only what the diagonal needs, which spares the coefficients of the series */
static void numbers_of(const nf_instr *in, long double q, int rows, long double *number)
{
    number[0] = q > 0 ? 1 / sqrtl(q) : 0;
    point_functions[in->op](in, q, rows, number);
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

/* state: of this point, the next number ld further */
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
            for (int p = 0; p < NF_MAX_PARAMS; p++) /* the constants of the duals are made of these */
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
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 64) num_threads(n_threads) if (n > 64)
#endif
    for (int64_t i = 0; i < n; i++)
        one_point(dtype, program, first, last, state + i, ld_state, height, table, start + i);
}

void nf_dual(const nf_instr *in, int64_t n, const double *q1, const double *q2, const double *c, double *value,
             double *slope)
{
    const nf_isa *isa = nf_isa_in_use();
    nf_instr alone = *in;
    alone.layer[0] = 1, alone.layer[1] = alone.layer[2] = alone.layer[3] = 0;
    for (int64_t i = 0; i < n; i++) {
        long double number[NF_MAX_ROWS + 2];
        if (q1[i] == q2[i] && q1[i] == c[i]) { /* a point with itself */
            long double s = q1[i], t = 1;
            numbers_of(in, s, 0, number);
            NF_(instructions)[in->op](&alone, number, number, &s, &t);
            value[i] = (double)s;
            slope[i] = (double)t;
            continue;
        }
        double sigma[NF_LANES], theta[NF_LANES];
        static _Thread_local double row[NF_MAX_ROWS * NF_LANES], columns[NF_MAX_ROWS * NF_LANES];
        numbers_of(in, q1[i], 1, number);
        for (int r = 0; r < in->n_rows; r++)
            row[r * NF_LANES] = (double)number[r];
        numbers_of(in, q2[i], 1, number);
        for (int r = 0; r < in->n_rows; r++)
            for (int k = 0; k < NF_LANES; k++)
                columns[r * NF_LANES + k] = (double)number[r];
        for (int k = 0; k < NF_LANES; k++)
            sigma[k] = k ? 0 : c[i], theta[k] = 1;
        isa->dual(&alone, row, columns, sigma, theta);
        value[i] = sigma[0];
        slope[i] = theta[0];
    }
}

/* The program on the diagonal once more, in one go, for nf_rates; `numbers` of this point are n apart. */
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
    (void)n_threads;
#ifdef _OPENMP
#pragma omp parallel for schedule(static, 64) num_threads(n_threads) if (n > 64)
#endif
    for (int64_t i = 0; i < n; i++)
        one_point_rates(program, q[i], numbers + i, n);
}
