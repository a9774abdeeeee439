/* kinked.c: E[(phi(u) - phi(v))^2] for near pairs and phi of polynomials up to degree 2 between kinks and jumps.
 *
 * u, v = m +- D/2 with m ~ N(0, M) and D = kappa m + s z, z ~ N(0, 1) independent of m.  Where no kink is between them,
 * phi(u) - phi(v) = phi'(m) D; where there is one, at a, in a window of m as wide as D, it is that and
 *     e_a = sum_r J_r y^r,     y = u - a if m < a, else v - a     (for u > v; else the same of v, u with the other sign)
 * where J_r are the jumps of phi, phi' and phi''/2 at a.  So the expectation is that of (phi'(m) D)^2, one integral, and of
 * 2 phi'(m) D e + e^2 with e = sum_a e_a over the windows.  No terms cancel, so that double is enough however near u and
 * v are, and whatever the ratio of their variances.
 */
#include <math.h>

#include "ntkfast.h"

enum { NODES = 6, FEW = 3, MOST_KINKS = 16 }; /* of half a Gauss-Legendre rule, and of one for narrow windows */
#define REACH 8.5                             /* standard deviations */

static const double gauss_x[NODES] = {0.12523340851146891547, 0.36783149899818019375, 0.58731795428661744730,
                                      0.76990267419430468704, 0.90411725637047485668, 0.98156063424671925069};
static const double gauss_w[NODES] = {0.24914704581340278500, 0.23349253653835480876, 0.20316742672306592175,
                                      0.16007832854334622633, 0.10693932599531843096, 0.04717533638651182719};
static const double few_x[FEW] = {0.23861918608319690863, 0.66120938646626451366, 0.93246951420315202781};
static const double few_w[FEW] = {0.46791393457269104739, 0.36076157304813860757, 0.17132449237917034504};

typedef struct {
    const nf_powers *phi;
    int n; /* kinks */
    double at[MOST_KINKS], jump[MOST_KINKS][3];
    double M, kappa, s;
} kinked;

static double density(double x)
{
    return 0.39894228040143267794 * exp(-0.5 * x * x);
}

/* phi'(at[a] + offset); a < 0: at offset */
static double slope_at(const kinked *k, int a, double offset)
{
    const nf_powers *phi = k->phi;
    double sum = 0;
    for (int m = 0; m < phi->n; m++) {
        const double *c = phi->coef + (3 * m + 1) * (phi->order + 2), side = phi->side[m];
        const double x = ((a < 0 ? 0 : k->at[a]) - phi->at[m]) + offset, y = side != 0 ? side * x : x;
        if (side == 0 || y > 0)
            sum += c[0] + y * c[1];
    }
    return sum;
}

/* e_b at m = at[a] + offset, for u - v = D */
static double beyond(const kinked *k, int a, int b, double offset, double half)
{
    const double m = (k->at[a] - k->at[b]) + offset, *J = k->jump[b], sign = half < 0 ? -1 : 1;
    if (!(fabs(m) < fabs(half)))
        return 0;
    const double y = m < 0 ? m + fabs(half) : m - fabs(half);
    return sign * (J[0] + y * (J[1] + y * J[2]));
}

/* Sorts a few numbers */
static void sort(double *x, int n)
{
    for (int i = 1; i < n; i++)
        for (int j = i; j > 0 && x[j - 1] > x[j]; j--) {
            const double t = x[j];
            x[j] = x[j - 1], x[j - 1] = t;
        }
}

/* The integral over m of (2 phi' D e + e^2) at this z: over the window of each kink in turn, m = at[a] + offset */
static double windows(const kinked *k, double z)
{
    const double kappa = k->kappa, sz = k->s * z, root = sqrt(k->M);
    double total = 0;
    for (int a = 0; a < k->n; a++) {
        double edge[3 * MOST_KINKS + 2];
        int n = 0;
        const double t = k->at[a], half = 0.5 * (kappa * t + sz);
        const double first = -half / (1 + 0.5 * kappa), last = half / (1 - 0.5 * kappa); /* where u is t, and v */
        const double low = fmin(first, last), high = fmax(first, last);
        if (!(low < high) || fabs(t) - (high - low) > REACH * root)
            continue;
        edge[n++] = low, edge[n++] = 0, edge[n++] = high;
        for (int b = 0; b < k->n; b++) {
            const double apart = k->at[b] - t, other = 0.5 * (kappa * k->at[b] + sz);
            const double more[3] = {apart - other / (1 + 0.5 * kappa), apart, apart + other / (1 - 0.5 * kappa)};
            for (int i = 0; b != a && i < 3; i++)
                if (low < more[i] && more[i] < high)
                    edge[n++] = more[i];
        }
        sort(edge, n);
        for (int i = 0; i + 1 < n; i++) {
            const double middle = 0.5 * (edge[i] + edge[i + 1]), width = 0.5 * (edge[i + 1] - edge[i]);
            const int narrow = width < 0.1 * root;
            const double *nodes = narrow ? few_x : gauss_x, *weights = narrow ? few_w : gauss_w;
            double sum = 0;
            for (int g = 0; width > 0 && g < 2 * (narrow ? FEW : NODES); g++) {
                const double offset = middle + (g & 1 ? width : -width) * nodes[g / 2], m = t + offset;
                const double D = 2 * half + kappa * offset; /* kappa m + s z */
                const double own = beyond(k, a, a, offset, 0.5 * D);
                double e = own;
                for (int b = 0; b < k->n; b++)
                    if (b != a)
                        e += beyond(k, a, b, offset, 0.5 * D);
                sum += weights[g / 2] * own * (2 * slope_at(k, a, offset) * D + e) * density(m / root);
            }
            total += width * sum / root;
        }
    }
    return total;
}

/* The integral of f(k, x) density(x) over all x, with ends of its smooth parts among `edge` */
static double integral(const kinked *k, double (*f)(const kinked *, double), double *edge, int n)
{
    const double longest = 2 * REACH / 6;
    double total = 0;
    edge[n++] = -REACH, edge[n++] = REACH;
    sort(edge, n);
    for (int i = 0; i + 1 < n; i++) {
        const int parts = (int)ceil((edge[i + 1] - edge[i]) / longest);
        const double width = parts ? 0.5 * (edge[i + 1] - edge[i]) / parts : 0;
        for (int p = 0; p < parts; p++)
            for (int g = 0; g < 2 * NODES; g++) {
                const double x = edge[i] + width * (2 * p + 1 + (g & 1 ? 1 : -1) * gauss_x[g / 2]);
                total += width * gauss_w[g / 2] * density(x) * f(k, x);
            }
    }
    return total;
}

static double plain(const kinked *k, double x)
{
    const double m = sqrt(k->M) * x, slope = slope_at(k, -1, m), drift = k->kappa * m;
    return slope * slope * (drift * drift + k->s * k->s);
}

int nf_kinked(const nf_powers *phi)
{
    return phi && phi->exact && phi->order <= 2 && phi->n <= MOST_KINKS;
}

int nf_kinked_parity(const nf_powers *phi)
{
    const int columns = phi->order + 2;
    int even = 1, odd = 1;
    for (int m = 0; m < phi->n; m++) {
        const double *c = phi->coef + 3 * m * columns, side = phi->side[m];
        int mirror = 0;
        while (mirror < phi->n && !(phi->at[mirror] == -phi->at[m] && phi->side[mirror] == -side))
            mirror++;
        for (int r = 0; r <= phi->order; r++) {
            const double other = mirror < phi->n ? phi->coef[3 * mirror * columns + r] : 0;
            const double reflected = side == 0 && r & 1 ? -other : other; /* of phi(-x) */
            even &= c[r] == reflected;
            odd &= c[r] == -reflected;
        }
    }
    return even - odd;
}

double nf_kinked_distance(const nf_powers *phi, double M, double kappa, double s)
{
    kinked k = {.phi = phi, .M = M, .kappa = kappa, .s = s};
    double edge[MOST_KINKS * MOST_KINKS + 2];
    int n = 0;
    for (int m = 0; m < phi->n; m++) {
        const double *c = phi->coef + 3 * m * (phi->order + 2), side = phi->side[m];
        if (side == 0)
            continue;
        for (int r = 0; r < 3; r++) /* c (t - x)+^r is a polynomial and -c (-1)^r (x - t)+^r */
            k.jump[k.n][r] = r > phi->order ? 0 : side > 0 ? c[r] : (r & 1 ? c[r] : -c[r]);
        k.at[k.n++] = phi->at[m];
    }
    for (int a = 0; a < k.n; a++)
        if (fabs(k.at[a]) < REACH * sqrt(M))
            edge[n++] = k.at[a] / sqrt(M);
    double total = integral(&k, plain, edge, n);
    n = 0;
    for (int a = 0; a < k.n; a++) /* where u is at one kink while v is at the same or another one */
        for (int b = 0; b < k.n; b++) {
            const double z = ((k.at[a] - k.at[b]) - 0.5 * kappa * (k.at[a] + k.at[b])) / s;
            if (fabs(z) < REACH)
                edge[n++] = z;
        }
    return total + integral(&k, windows, edge, n);
}
