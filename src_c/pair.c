/* pair.c: one pair of points to relative precision, however near they are to each other or to antipodes.
 *
 * sigma, rounded, has lost 1 - |rho| of a pair with |rho| near 1.  Here a pair is carried as its two variances, their
 * difference, and its gap sqrt(q1 q2) - |c|, all from differences of the points and then from layer to layer without
 * cancellation, in long double.  With V(delta) = K(1) - K(1 - delta) at the variances of the pair, and its radial part
 * R = sqrt(K11 K22) - K(1), which is 0 for equal variances and for homogeneous phi, the gap after a dual is V + R:
 *     V = sqrt(q1 q2) int_0^delta K'(1 - t) dt             (Price), by Gauss-Legendre in sqrt(t): no terms cancel, and
 *                                                          the square root with which kinks begin at rho = 1 is smooth
 *     R = sqrt(K11 K22) (eta^2 r2 + eta^4 r4 + ...)        eta = log(q1/q2), interpolated from differences that are not
 *                                                          too small
 * Both have closed forms for erf and for piecewise linear phi.
 * Where phi has kinks away from 0, windows of z in which only one of both points is past a kink spoil both: kinked.c.
 * This costs microseconds a layer, and is meant for few pairs: nf_limit looks for those that need it.  Dense, piecewise
 * linear and erf layers, which many pairs meet, lose no digits with functions of double, and are much faster.
 */
#include <float.h>
#include <math.h>
#include <string.h>
#include <tgmath.h>

#include "ntkfast.h"

#define NF_WIDTH 1
#define NF_NEXT 1
#define NF_SIMD
#define NF_VECTOR_BYTES 16
#include "near.h"

#define NF_T long double
#define NF_(name) name##_pairwise
#define NF_PRECISION 80
#define NF_PAIRWISE
#define NF_DIAGONAL 0
#define NF_TINY 0
#define NF_LARGE LDBL_MAX
#define NF_EPSILON LDBL_EPSILON
#include "vecmath.h"
#include "duals.h"

/* The numbers of a point, after what the instructions read of the pair: [1] is 1 - |rho|, [0] is E[(u-v)^2]. */
enum { HEAD = 2 };
typedef struct {
    long double head[HEAD], number[NF_MAX_ROWS + 2];
} point;

/* E[phi phi] and E[phi' phi'] by Hermite series, or by what there is beyond their reach */
NF_INLINE void NF_(series)(NF_ARGS)
{
    const nf_terms *terms = in->data;
    const int n[2] = {terms->even, terms->odd}, apart = terms->slopes ? terms->even + terms->odd : 0;
    const long double r = NF_ABS_RHO(0), rho = copysign(r, sigma[0]), scale = row[1] * col[1];
    double value = 0, slope = 0;
    (void)theta, (void)rates;
    const nf_near_point x = {(double)row[0], terms->even ? (double)row[2] : 0, 0};
    const nf_near_point y = {(double)col[0], terms->even ? (double)col[2] : 0, 0};
    if (r <= terms->reach || !near_field(in, x, y, (double)rho, (double)row[-1], &value, &slope)) {
        long double sum[2] = {0}, rate[2] = {0}, slopes[2] = {0};
        for (int odd = 0, at = 2; odd < 2; at += n[odd], odd++)
            for (int k = n[odd] - 1; k >= 0; k--) {
                const long double term = row[at + k] * col[at + k];
                sum[odd] = sum[odd] * rho * rho + term;
                rate[odd] = rate[odd] * rho * rho + (2 * k + odd) * term;
                slopes[odd] = slopes[odd] * rho * rho + row[at + apart + k] * col[at + apart + k];
            }
        const long double even_rate = rho != 0 ? rate[0] / rho : 0;
        p->value[0] = sum[0] + rho * sum[1];
        p->price[0] = (even_rate + rate[1]) * scale;
        p->slope[0] = apart ? slopes[0] + rho * slopes[1] : p->price[0];
        return;
    }
    p->value[0] = value;
    p->slope[0] = p->price[0] = slope;
}

typedef void differentiation(NF_PAIR, NF_(partials) *restrict p);
#define NF_DIFFERENTIATE(NAME, name, function, params, rows)                                                           \
    static void differentiate_##name(NF_PAIR, NF_(partials) *restrict p)                                               \
    {                                                                                                                  \
        NF_(function)(1, in, row, col, sigma, NULL, p);                                                                \
    }
NF_DUALS(NF_DIFFERENTIATE)
#define NF_POINTER(NAME, name, function, params, rows) [NF_##NAME] = differentiate_##name,
static differentiation *const partials_of[NF_N_OPS] = {NF_DUALS(NF_POINTER)};

static int is_series(const nf_instr *in)
{
    return in->op == NF_SERIES || in->op == NF_KINKS || in->op == NF_POLYNOMIAL;
}

/* phi as truncated powers whose pairs kinked.c knows, else NULL */
static const nf_powers *kinked(const nf_instr *in)
{
    const nf_powers *phi = in->op == NF_KINKS    ? ((const nf_kinks *)in->data)->powers
                           : in->op == NF_SERIES ? ((const nf_panels *)in->data)->powers
                                                 : NULL;
    return nf_kinked(phi) ? phi : NULL;
}

/* 1 if phi is even, -1 if it is odd, else 0 */
static int parity(const nf_instr *in)
{
    const long double *param = in->param;
    const nf_terms *terms = in->data;
    switch (in->op) {
    case NF_LAYER_NORM:
        return -1;
    case NF_PIECEWISE_LINEAR:
        return (param[0] == -param[1]) - (param[0] == param[1]);
    case NF_ARC_COSINE: /* the sign function: 4 J_0/2 pi - 1 */
        return -(param[0] == 0 && param[1] + 4 * param[2] == 0);
    case NF_ERF:
        return -(param[2] == 0);
    case NF_SINE:
        return (param[2] == -1) - (param[2] == 1);
    case NF_HYPERBOLIC:
        return (param[1] == 0) - (param[0] == 0);
    case NF_GAUSSIAN:
        return 1;
    case NF_SERIES:
    case NF_KINKS:
    case NF_POLYNOMIAL:
        if (kinked(in))
            return nf_kinked_parity(kinked(in));
        return (terms->odd == 0) - (terms->even == 0);
    }
    return 0;
}

/* phi(s x) = s^n phi(x) for s > 0, perhaps after division by the standard deviation */
static int is_homogeneous(const nf_instr *in)
{
    return in->op == NF_LAYER_NORM || in->op == NF_PIECEWISE_LINEAR ||
           (in->op == NF_ARC_COSINE && (in->param[0] == 0 || in->param[2] == 0));
}

/* The dual at rho = +-(1 - delta); apart: E[(u-v)^2] */
static NF_(partials) at(const nf_instr *in, point *x, const point *y, long double std, int sign, long double delta,
                        long double apart)
{
    NF_(partials) p;
    long double sigma = sign * std * (1 - delta);
    x->head[1] = delta;
    x->head[0] = apart;
    partials_of[in->op](in, x->number, y->number, &sigma, &p);
    return p;
}

/* Of V, what the series of a point leaves out */
static long double tail(const nf_instr *in, const point *x)
{
    const nf_terms *terms = in->data;
    long double rest = x->number[in->n_rows];
    for (int k = 0; k < terms->even + terms->odd; k++)
        rest -= x->number[2 + k] * x->number[2 + k];
    return fmaxl(rest, 0);
}

/* K(q1, q2, rho = 1) by the dual, or by the terms of its series and what they leave out, in proportion */
static long double aligned(const nf_instr *in, point *x, const point *y, long double q1, long double q2, int terms_only)
{
    const long double d = sqrtl(q1) - sqrtl(q2);
    if (!terms_only)
        return at(in, x, y, sqrtl(q1 * q2), 1, 0, d * d).value[0];
    const nf_terms *terms = in->data;
    long double sum = sqrtl(tail(in, x) * tail(in, y));
    for (int k = 0; k < terms->even + terms->odd; k++)
        sum += x->number[2 + k] * y->number[2 + k];
    return sum;
}

/* 1 - K(q1, q2, 1)/sqrt(K11 K22).  Of a series near rho = 1, tables are right to `tables` and the terms are smoother in
 * q; these, unless what they leave out is more than the tail of a kink at 0, which is in proportion at both points. */
static long double misaligned(const nf_instr *in, long double q1, long double q2)
{
    const long double tables = 1e-11L;
    long double result = 0;
    point x, y;
    nf_numbers(in, q1, x.number);
    nf_numbers(in, q2, y.number);
    for (int terms_only = 0; terms_only <= is_series(in); terms_only++) {
        const long double both = aligned(in, &x, &y, q1, q2, terms_only);
        const long double norms = aligned(in, &x, &x, q1, q1, terms_only) * aligned(in, &y, &y, q2, q2, terms_only);
        const long double found = norms > 0 ? 1 - both / sqrtl(norms) : 0;
        if (!terms_only || fabsl(found - result) < tables)
            result = found;
    }
    return result;
}

/* R/sqrt(K11 K22), from log(q1/q2) */
static long double radial(const nf_instr *in, long double q1, long double q2, long double eta)
{
    enum { NODES = 4 };
    const long double step = 0.02L, middle = sqrtl(q1 * q2), square = eta * eta;
    long double sum = 0;
    if (is_homogeneous(in) || eta == 0)
        return 0;
    if (fabsl(eta) > NODES * step)
        return misaligned(in, q1, q2);
    for (int j = 1; j <= NODES; j++) { /* Lagrange's polynomials in eta^2 */
        const long double node = j * step, factor = expl(node / 2);
        long double weight = 1;
        for (int l = 1; l <= NODES; l++)
            if (l != j)
                weight *= (square - l * step * (l * step)) / (node * node - l * step * (l * step));
        sum += weight * misaligned(in, middle * factor, middle / factor) / (node * node);
    }
    return sum * square;
}

enum { GAUSS = 6 }; /* half of the nodes */
static const long double gauss_x[GAUSS] = {0.125233408511468915472441L, 0.367831498998180193752692L,
                                           0.587317954286617447296702L, 0.769902674194304687036894L,
                                           0.904117256370474856678466L, 0.981560634246719250690549L};
static const long double gauss_w[GAUSS] = {0.249147045813402785000562L, 0.23349253653835480876085L,
                                           0.203167426723065921749064L, 0.160078328543346226334653L,
                                           0.106939325995318430960255L, 0.047175336386511827194616L};

/* theta and sin(theta) - theta cos(theta) of 1 - cos(theta) = delta <= 1, without cancellation: power series below 0.1 */
static inline double angle_from(double delta, double *excess)
{
    /* asin(s)/s and, with t = theta^2, (sin(theta) - theta cos(theta))/theta^3 = sum_k (-1)^k (2k+2)/(2k+3)! t^k */
    static const double a[] = {1,
                               1.0 / 6,
                               3.0 / 40,
                               15.0 / 336,
                               105.0 / 3456,
                               945.0 / 42240,
                               10395.0 / 599040,
                               135135.0 / 9676800,
                               2027025.0 / 175472640,
                               34459425.0 / 3530096640,
                               654729075.0 / 78033715200,
                               13749310575.0 / 1880240947200};
    static const double c[] = {1.0 / 3, -1.0 / 30, 1.0 / 840, -1.0 / 45360, 1.0 / 3991680, -1.0 / 518918400};
    const double half = 0.5 * delta, s = sqrt(half);
    if (delta > 0.1) {
        const double theta = 2 * asin(s);
        *excess = 2 * s * sqrt(1 - half) - theta * (1 - delta);
        return theta;
    }
    const double h2 = half * half, h4 = h2 * h2;
    const double low = (a[0] + a[1] * half) + h2 * (a[2] + a[3] * half),
                 middle = (a[4] + a[5] * half) + h2 * (a[6] + a[7] * half);
    const double high = (a[8] + a[9] * half) + h2 * (a[10] + a[11] * half);
    const double theta = 2 * s * (low + h4 * (middle + h4 * high)), t = theta * theta, t2 = t * t;
    *excess = theta * t * ((c[0] + c[1] * t) + t2 * ((c[2] + c[3] * t) + t2 * (c[4] + c[5] * t)));
    return theta;
}

/* Instructions k, k + 1, ... as far as they are dense layers and phi = min(a x, 0) + max(b x, 0), for rho > 0; returns
 * where they end.  They are met by many pairs and lose no digits, so that double is enough. */
static int through_lines(const nf_program *program, int k, nf_pair *pair, long double *out)
{
    const double least = 1e-140, most = 1e140; /* products of two variances fit */
    double q1 = (double)pair->q[0], q2 = (double)pair->q[1], std = sqrt(q1 * q2), gap = (double)pair->gap;
    double difference = (double)pair->difference, theta = (double)pair->theta;
    const int first = k;
    if (pair->sign < 0 || !(gap > 0) || !(gap < std))
        return k;
    for (; k < program->n; k++) {
        const nf_instr *in = &program->code[k];
        double slope = 1;
        if ((in->op != NF_PIECEWISE_LINEAR && in->op != NF_AFFINE) || !(fmin(q1, q2) > least && fmax(q1, q2) < most))
            break;
        if (in->op == NF_PIECEWISE_LINEAR) {
            const double a = (double)in->param[0], b = (double)in->param[1], squares = (a * a + b * b) / 2;
            const double odd = (a - b) * (a - b) / (2 * (double)NF_PI), delta = gap / std;
            double excess;
            slope = squares - odd * angle_from(delta, &excess);
            gap = squares * gap - odd * std * excess;
            q1 *= squares, q2 *= squares, std *= squares, difference *= squares;
        }
        const double scale = (double)in->layer[0], bias = (double)in->layer[1];
        theta = scale * slope * theta + ((double)in->layer[2] * (std - gap) + (double)in->layer[3]);
        q1 *= scale, q2 *= scale, std *= scale, gap *= scale, difference *= scale;
        if (bias != 0) { /* as in `add` */
            const double before = std, sum = q1 + q2 + 2 * std;
            q1 += bias, q2 += bias;
            std = sqrt(q1 * q2);
            if (difference != 0)
                gap += difference / sum * difference * (bias / (std + before + bias));
        }
        if (k == program->last_dual)
            out[NF_DOT] = scale * slope;
    }
    if (k > first)
        *pair = (nf_pair){.q = {q1, q2}, .difference = difference, .gap = gap, .theta = theta, .sign = 1};
    return k;
}

/* The pair after phi = min(a x, 0) + max(b x, 0) for rho > 0, in closed form */
static long double after_lines(const nf_instr *in, nf_pair *pair, long double std, long double delta)
{
    const long double a = in->param[0], b = in->param[1], squares = (a * a + b * b) / 2;
    const long double odd = (a - b) * (a - b) / (2 * NF_PI);
    double excess;
    const double theta = angle_from((double)delta, &excess);
    pair->q[0] *= squares;
    pair->q[1] *= squares;
    pair->difference *= squares;
    pair->gap = std * (squares * delta - odd * excess);
    return squares - odd * theta;
}

/* The pair after phi = a erf(b x) + k for rho > 0 and variances within a factor of 2, in closed form.  With Q = b^2 q and
 * p = sqrt(1 + 4 Q), K of a point is 2 a^2/pi alpha + k^2, tan(alpha) = 2 Q/p, and K(rho) has the angle asin((1 - delta) e)
 * with the numbers of duals.h.  Half the difference of both alphas is atan(d/(1 + m)), d = p1 - p2, m = p1 p2.  Their mean
 * exceeds asin(e) by the difference of two arctangents, of T1 = (m - 1)/(p1 + p2) and T2, for which
 * T1^2 - T2^2 = d^2 ((m + 1)^2 + d^2)/(2 (2m + d^2) (4m + d^2)): nothing cancels, so that double is enough for the angles,
 * but in R, where phi is nearly linear. */
static long double after_erf(const nf_instr *in, nf_pair *pair, long double delta)
{
    const long double a = in->param[0], b2 = in->param[1] * in->param[1], k2 = in->param[2] * in->param[2];
    const long double scale = 2 * a * a / NF_PI, Q1 = b2 * pair->q[0], Q2 = b2 * pair->q[1];
    const long double p1 = sqrtl(1 + 4 * Q1), p2 = sqrtl(1 + 4 * Q2), d = 4 * b2 * pair->difference / (p1 + p2);
    const long double m = p1 * p2, sum = 4 * (Q1 + Q2), T1 = (sum + 16 * Q1 * Q2) / ((m + 1) * (p1 + p2));
    const long double g2 = 1 / ((1 + 2 * Q1) * (1 + 2 * Q2)), less = (1 + sum / 2) * g2, e2 = 4 * Q1 * Q2 * g2;
    const long double T2 = sqrtl(e2 / less), d2 = d * d;
    const long double squares = d2 * ((m + 1) * (m + 1) + d2) / (2 * (2 * m + d2) * (4 * m + d2));
    const long double more = e2 * delta * (2 - delta), cosine = sqrtl(less + more), e = sqrtl(e2);
    const long double lost = asin((double)fminl(more / (e * cosine + (1 - delta) * e * sqrtl(less)), 1));
    long double half = d / (1 + m), aligned = squares / ((T1 + T2) * (1 + T1 * T2));
    half = sum < 4 ? atanl(half) : atan((double)half);
    aligned = sum < 4 ? atanl(aligned) : atan((double)aligned);
    pair->q[0] = scale * atan((double)(2 * Q1 / p1)) + k2;
    pair->q[1] = scale * atan((double)(2 * Q2 / p2)) + k2;
    pair->difference = 2 * scale * half;
    const long double means = (pair->q[0] + pair->q[1]) / 2 + sqrtl(pair->q[0] * pair->q[1]);
    pair->gap = fmaxl(scale * (lost + (aligned - scale * half * half / means)), 0); /* V + R */
    return 2 * scale * b2 * sqrtl(g2) / cosine;
}

/* V(delta) */
static long double loss(const nf_instr *in, point *x, const point *y, long double std, long double delta,
                        long double radius)
{
    const int series = is_series(in);
    if (in->op == NF_ERF) { /* a difference of two arcsines, s = e and (1 - delta) e with the numbers of duals.h */
        const long double e = x->number[1] * y->number[1], g = x->number[2] * y->number[2], a = in->param[0];
        const long double more = e * e * delta * (2 - delta), less = (x->number[3] + y->number[3]) - g * g;
        const long double sum = e * sqrtl(less + more) + (1 - delta) * e * sqrtl(less);
        return sum > 0 ? 2 * a * a / NF_PI * asinl(fminl(more / sum, 1)) : 0;
    }
    if (delta > (series ? 1e-2L : 1e-5L)) /* in double, and in long double, this loses nothing that matters */
        return at(in, x, y, std, 1, 0, radius).value[0] -
               at(in, x, y, std, 1, delta, radius + 2 * std * delta).value[0];
    if (!series && !is_homogeneous(in)) { /* where the dual changes over less than delta, V is no small difference */
        const NF_(partials) near = at(in, x, y, std, 1, 0, radius);
        const NF_(partials) far = at(in, x, y, std, 1, delta, radius + 2 * std * delta);
        if (!(far.price[0] > 0.99L * near.price[0]))
            return near.value[0] - far.value[0];
    }
    long double sum = 0;
    for (int k = 0; k < 2 * GAUSS; k++) {
        const long double s = 0.5L * (1 + (k & 1 ? gauss_x[k / 2] : -gauss_x[k / 2])), part = delta * s * s;
        sum += gauss_w[k / 2] * s * at(in, x, y, std, 1, part, radius + 2 * std * part).price[0];
    }
    return std * delta * sum;
}

/* For phi'' = k phi the dual is A exp(k E[(u-v)^2]/2) + B exp(k E[(u+v)^2]/2).  0: phi is not one of these */
static int exponentials(const nf_instr *in, long double *k, long double *A, long double *B)
{
    const long double *param = in->param;
    switch (in->op) {
    case NF_SINE:
        *k = -param[1] * param[1];
        *A = param[0] * param[0] / 2;
        *B = -*A * param[2];
        return 1;
    case NF_HYPERBOLIC:
        *k = param[2] * param[2];
        *A = (param[0] * param[0] - param[1] * param[1]) / 2;
        *B = (param[0] * param[0] + param[1] * param[1]) / 2;
        return 1;
    case NF_EXPONENTIAL:
        *k = param[1] * param[1];
        *A = 0;
        *B = param[0] * param[0];
        return 1;
    }
    return 0;
}

/* exp(2 k q1) - exp(2 k q2), and exp(2 k q1) + exp(2 k q2) - 2 exp(k (q1 + q2 - apart/2)) */
static long double exponential_difference(long double k, const nf_pair *pair)
{
    const long double x = 2 * k * pair->difference;
    return fabsl(x) < 1 ? expl(2 * k * pair->q[1]) * expm1l(x) : expl(2 * k * pair->q[0]) - expl(2 * k * pair->q[1]);
}

static long double exponential_distance(long double k, const nf_pair *pair, long double apart)
{
    const long double sum = k * (pair->q[0] + pair->q[1]), x = k * pair->difference, y = k * apart / 2;
    const long double half = sinhl(fminl(fabsl(x), 1) / 2);
    if (fabsl(x) < 1 && fabsl(y) < 1)
        return 2 * expl(sum) * (2 * half * half - expm1l(-y));
    return expl(2 * k * pair->q[0]) + expl(2 * k * pair->q[1]) - 2 * expl(sum - y);
}

/* log(q1/q2) */
static long double log_ratio(const nf_pair *pair)
{
    return pair->q[0] > pair->q[1] ? log1pl(pair->difference / pair->q[1]) : -log1pl(-pair->difference / pair->q[0]);
}

/* (sqrt(q1) - sqrt(q2)) */
static long double root_difference(const nf_pair *pair)
{
    const long double sum = sqrtl(pair->q[0]) + sqrtl(pair->q[1]);
    return sum > 0 ? pair->difference / sum : 0;
}

/* E[(u - sign v)^2] */
static long double distance(const nf_pair *pair, int sign)
{
    const long double d = root_difference(pair);
    return sign == pair->sign ? d * d + 2 * pair->gap
                              : pair->q[0] + pair->q[1] + 2 * (sqrtl(pair->q[0] * pair->q[1]) - pair->gap);
}

/* K11 - K22 as the integral of dK/dlog q, where the difference would cancel; slope: E[phi'^2] at q1 */
static long double difference_of(const nf_instr *in, const nf_pair *pair, long double eta, const long double *K,
                                 long double slope)
{
    /* not if one of them is 0, nor where phi saturates: dK/dlog q is then a small difference of numbers like q slope */
    if (!(fabsl(eta) < 0.1L) || !(fabsl(eta) * pair->q[0] * slope < K[0]))
        return K[0] - K[1];
    const long double middle = sqrtl(pair->q[0] * pair->q[1]);
    long double sum = 0;
    for (int k = 0; k < 2 * GAUSS && eta != 0; k++) {
        long double value, unused, rate;
        nf_point_dual(in, middle * expl(0.5L * eta * (k & 1 ? gauss_x[k / 2] : -gauss_x[k / 2])), &value, &unused,
                      &rate);
        sum += 0.5L * gauss_w[k / 2] * rate;
    }
    return eta * sum;
}

/* c = sign (sqrt(q1 q2) - gap) */
static void set_covariance(nf_pair *pair, long double c)
{
    pair->sign = c < 0 ? -1 : 1;
    pair->gap = fmaxl(sqrtl(pair->q[0] * pair->q[1]) - fabsl(c), 0);
}

static long double covariance(const nf_pair *pair)
{
    return pair->sign * (sqrtl(pair->q[0] * pair->q[1]) - pair->gap);
}

/* The pair after phi; returns E[phi' phi'] */
static long double dual(const nf_instr *in, nf_pair *pair)
{
    const long double std = sqrtl(pair->q[0] * pair->q[1]), delta = std > 0 ? fminl(pair->gap / std, 1) : 1;
    const int turns = pair->sign < 0 ? parity(in) : 0, sign = turns ? 1 : pair->sign;
    if (in->op == NF_PIECEWISE_LINEAR && sign > 0 && std > 0) {
        const long double slope = after_lines(in, pair, std, delta);
        pair->sign = turns < 0 ? -1 : 1;
        return turns > 0 ? -slope : slope;
    }
    if (pair->gap == 0 && pair->difference == 0 && pair->sign > 0) { /* one point: what the diagonal has, and soon */
        long double slope, unused;
        nf_point_dual(in, pair->q[0], &pair->q[0], &slope, &unused);
        pair->q[1] = pair->q[0];
        return slope;
    }
    if (in->op == NF_ERF && sign > 0 && fabsl(pair->difference) < fminl(pair->q[0], pair->q[1])) {
        const long double slope = after_erf(in, pair, delta);
        pair->sign = turns < 0 ? -1 : 1;
        return turns > 0 ? -slope : slope;
    }
    const long double d = root_difference(pair), radius = d * d;
    const long double apart = distance(pair, turns ? pair->sign : 1);
    point x, y;
    nf_pair next;
    long double slopes[2], unused, k, A, B;
    nf_numbers(in, pair->q[0], x.number);
    nf_numbers(in, pair->q[1], y.number);
    NF_(partials) here = at(in, &x, &y, std, sign, delta, apart);
    for (int i = 0; i < 2; i++)
        nf_point_dual(in, pair->q[i], &next.q[i], &slopes[i], &unused);
    if (delta == 0 && pair->difference == 0 && sign > 0) /* antipodes: not the sum of a series that is cut off */
        here.slope[0] = slopes[0];
    const long double eta = log_ratio(pair);
    const int two = exponentials(in, &k, &A, &B);
    next.theta = pair->theta;
    next.difference = !two     ? difference_of(in, pair, eta, next.q, slopes[0])
                      : B != 0 ? B * exponential_difference(k, pair)
                               : 0;
    if (!(std > 0) || sign < 0) {
        set_covariance(&next, here.value[0]);
        *pair = next;
        return here.slope[0];
    }
    if (two) {
        const long double roots = root_difference(&next), plus = B != 0 ? B * exponential_distance(k, pair, apart) : 0;
        const long double std_after = sqrtl(next.q[0] * next.q[1]);
        if (roots * roots < std_after)
            next.gap = (plus - 2 * A * expm1l(k * apart / 2) - roots * roots) / 2;
        else /* variances so far apart that the difference of distances loses more than this one */
            next.gap = std_after - here.value[0];
    } else if (kinked(in) && delta <= 1e-2L && fabsl(eta) <= 0.5L) {
        const long double M = (2 * (pair->q[0] + pair->q[1]) - apart) / 4, s2 = pair->gap * (2 * std - pair->gap) / M;
        const double kappa = (double)(pair->difference / (2 * M)), s = (double)sqrtl(fmaxl(s2, 0));
        const long double roots = root_difference(&next);
        next.gap = (nf_kinked_distance(kinked(in), (double)M, kappa, s) - roots * roots) / 2;
    } else if (kinked(in)) { /* this loses nothing that matters */
        next.gap = sqrtl(next.q[0] * next.q[1]) - here.value[0];
    } else {
        next.gap = loss(in, &x, &y, std, delta, radius);
        next.gap += radial(in, pair->q[0], pair->q[1], eta) * sqrtl(next.q[0] * next.q[1]);
    }
    next.gap = fmaxl(next.gap, 0); /* of nearly parallel points it is a small difference */
    next.sign = turns < 0 ? -1 : 1;
    const long double next_std = sqrtl(next.q[0] * next.q[1]);
    if (next.gap > next_std) { /* past 0 */
        next.sign = -next.sign;
        next.gap = fmaxl(2 * next_std - next.gap, 0);
    }
    *pair = next;
    return turns > 0 ? -here.slope[0] : here.slope[0];
}

/* sigma <- sigma + weight s.  For covariances of one sign the gap grows by (sqrt(q1 t2) - sqrt(q2 t1))^2 over a sum. */
static void add(nf_pair *pair, long double weight, const nf_pair *other)
{
    const long double *q = pair->q, *t = other->q;
    const long double c = covariance(pair) + weight * covariance(other);
    nf_pair sum = *pair;
    for (int i = 0; i < 2; i++)
        sum.q[i] = q[i] + weight * t[i];
    sum.difference = pair->difference + weight * other->difference;
    if (pair->sign == other->sign) {
        const long double roots = sqrtl(q[0] * t[1]) + sqrtl(q[1] * t[0]);
        const long double d = roots > 0 ? (pair->difference * t[1] - q[1] * other->difference) / roots : 0;
        const long double all = sqrtl(sum.q[0] * sum.q[1]) + sqrtl(q[0] * q[1]) + weight * sqrtl(t[0] * t[1]);
        sum.gap = pair->gap + weight * other->gap + (all > 0 ? weight * d * d / all : 0);
    } else {
        /* the smaller |c| is taken off: no terms cancel, also where antiparallel points have different lengths */
        const long double std = sqrtl(q[0] * q[1]), other_std = weight * sqrtl(t[0] * t[1]);
        const long double all = sqrtl(sum.q[0] * sum.q[1]), mixed = weight * (q[0] * t[1] + q[1] * t[0]);
        sum.sign = c < 0 ? -1 : 1;
        if (sum.sign == pair->sign)
            sum.gap = (mixed + other_std * other_std) / (all + std) + pair->gap + fabsl(weight * covariance(other));
        else
            sum.gap = (mixed + std * std) / (all + other_std) + weight * other->gap + fabsl(covariance(pair));
    }
    sum.theta = pair->theta + weight * other->theta;
    *pair = sum;
}

static void multiply(nf_pair *pair, const nf_pair *other)
{
    const long double std = sqrtl(pair->q[0] * pair->q[1]), other_std = sqrtl(other->q[0] * other->q[1]);
    pair->theta = pair->theta * covariance(other) + covariance(pair) * other->theta;
    pair->gap = std * other->gap + other_std * pair->gap - pair->gap * other->gap;
    pair->difference = pair->difference * other->q[0] + pair->q[1] * other->difference;
    pair->sign *= other->sign;
    for (int i = 0; i < 2; i++)
        pair->q[i] *= other->q[i];
}

/* Masks that are independent for each point: variances grow, the covariance does not. */
static void drop(nf_pair *pair, long double scale)
{
    pair->gap += (scale - 1) * sqrtl(pair->q[0] * pair->q[1]);
    pair->difference *= scale;
    for (int i = 0; i < 2; i++)
        pair->q[i] *= scale;
}

static void scale_by(nf_pair *pair, long double a)
{
    for (int i = 0; i < 2; i++)
        pair->q[i] *= a;
    pair->difference *= a;
    pair->gap *= a;
}

static void note(const nf_pair *pair, double *trace)
{
    const long double std = sqrtl(pair->q[0] * pair->q[1]);
    trace[0] = (double)std;
    trace[1] = std > 0 ? (double)(pair->gap / std) : 1;
}

void nf_pair_run(const nf_program *program, nf_pair *pair, long double *out, double *trace)
{
    nf_pair stack[NF_MAX_NESTING];
    int height = 0;
    for (int k = 0; k < program->n; k++) {
        const nf_instr *in;
        long double slope = 1;
        if (trace)
            note(pair, trace + 2 * k);
        else if ((k = through_lines(program, k, pair, out)) == program->n)
            break;
        in = &program->code[k];
        if (in->op == NF_PUSH) {
            stack[height] = *pair;
        } else if (in->op == NF_SWAP) {
            const nf_pair top = stack[height - 1];
            stack[height - 1] = *pair;
            *pair = top;
        } else if (in->op == NF_ADD) {
            add(pair, in->param[0], &stack[height - 1]);
        } else if (in->op == NF_MULTIPLY) {
            multiply(pair, &stack[height - 1]);
        } else if (in->op == NF_DROPOUT) {
            drop(pair, in->param[0]);
        } else if (in->op != NF_AFFINE) {
            slope = dual(in, pair);
        }
        height += nf_stacks(in->op);
        const nf_pair bias = {.q = {in->layer[1], in->layer[1]}, .sign = 1};
        const long double value = covariance(pair);
        pair->theta = in->layer[0] * slope * pair->theta + in->layer[2] * value + in->layer[3];
        scale_by(pair, in->layer[0]);
        if (in->layer[1] != 0)
            add(pair, 1, &bias);
        if (k == program->last_dual)
            out[NF_DOT] = in->layer[0] * slope;
    }
    if (trace)
        note(pair, trace + 2 * program->n);
    out[NF_NNGP] = covariance(pair);
    out[NF_NTK] = pair->theta;
}

/* x1 y2 - x2 y1 to its last bit */
static double cross(double x1, double y1, double x2, double y2)
{
    const double product = x2 * y1;
    return fma(x1, y2, -product) + fma(-x2, y1, product);
}

/* A power of two by which a point of squared norm q comes near to 1, so that products of four components fit */
static double unit(double q)
{
    return q > 0 ? ldexp(1, -ilogb(sqrt(q))) : 1;
}

#define START(T)                                                                                                       \
    /* sin(theta)^2 of x and y: with w = x_m y - y_m x, of which no component cancels, the part of y orthogonal to x \
     * is that of w over x_m, the largest component of x */ \
    static double sine_square_##T(const T *x, const T *y, int d, const nf_pair *pair)                                  \
    {                                                                                                                  \
        const double of_x = unit((double)pair->q[0]), of_y = unit((double)pair->q[1]);                                 \
        const double square_x = (double)(pair->q[0] * of_x * of_x), square_y = (double)(pair->q[1] * of_y * of_y);     \
        double along = 0, across = 0;                                                                                  \
        int m = 0;                                                                                                     \
        for (int k = 1; k < d; k++)                                                                                    \
            m = fabs((double)x[k]) > fabs((double)x[m]) ? k : m;                                                       \
        const double xm = (double)x[m] * of_x, ym = (double)y[m] * of_y;                                               \
        for (int k = 0; k < d; k++)                                                                                    \
            along += cross(xm, ym, (double)x[k] * of_x, (double)y[k] * of_y) * ((double)x[k] * of_x) / square_x;       \
        for (int k = 0; k < d; k++) {                                                                                  \
            const double xk = (double)x[k] * of_x, w = cross(xm, ym, xk, (double)y[k] * of_y) - along * xk;            \
            across += w / xm * (w / xm);                                                                               \
        }                                                                                                              \
        return across / square_y;                                                                                      \
    }                                                                                                                  \
    static void start_##T(const T *x, const T *y, int d, nf_pair *pair)                                                \
    {                                                                                                                  \
        const double of_x = unit((double)pair->q[0]), of_y = unit((double)pair->q[1]), scale = fmin(of_x, of_y);       \
        const long double back = 1 / ((long double)scale * scale);                                                     \
        double near = 0, far = 0, difference = 0, product = 0;                                                         \
        for (int k = 0; k < d; k++) {                                                                                  \
            const double u = (double)x[k] * scale, v = (double)y[k] * scale, minus = u - v, plus = u + v;              \
            near += minus * minus;                                                                                     \
            far += plus * plus;                                                                                        \
            difference += minus * plus;                                                                                \
            product += (double)x[k] * of_x * ((double)y[k] * of_y);                                                    \
        }                                                                                                              \
        pair->sign = product < 0 ? -1 : 1;                                                                             \
        pair->difference = difference * back;                                                                          \
        if (!(pair->q[0] > 0) || !(pair->q[1] > 0)) {                                                                  \
            pair->difference = pair->q[0] - pair->q[1];                                                                \
            return;                                                                                                    \
        }                                                                                                              \
        const long double apart = (product < 0 ? far : near) * back, roots = root_difference(pair);                    \
        pair->gap = (apart - roots * roots) / 2;                                                                       \
        if (pair->gap > 1e-3L * apart || !(apart > 0))                                                                 \
            return;                                                                                                    \
        const long double square = sine_square_##T(x, y, d, pair); /* nearly parallel, of different lengths */         \
        pair->gap = sqrtl(pair->q[0] * pair->q[1]) * square / (1 + sqrtl(1 - fminl(square, 1)));                       \
    }
START(float)
START(double)

void nf_pair_start(nf_dtype dtype, const void *x, const void *y, int d, double q1, double q2, nf_pair *pair)
{
    *pair = (nf_pair){.q = {q1, q2}};
    if (dtype == NF_FLOAT32)
        start_float(x, y, d, pair);
    else
        start_double(x, y, d, pair);
}
