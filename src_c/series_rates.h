/* series_rates.h: the rates of the instruction that sums a Hermite series.
 *
 * Included once per precision, after series.h.
 *
 * V = sum_k a_k(q1) a_k(q2) rho^k, from the a_k in the table.  As 2 q da_k/dq = k a_k + w_k a_(k+2), where
 * w_k^2 = (k+1)(k+2), with R = sum_k w_k a_(k+2)(q1) a_k(q2) rho^k, at fixed c
 *     dK'/dc = V''/q1 q2,   q1 dK/dq1 = R/2,   q1 dK'/dq1 = R'/2 sqrt(q1 q2)
 * where ' of V and R is the derivative with respect to rho.  As in series.h the sums run over x = rho^2, one parity
 * at a time, with as many terms as the largest |rho| needs.
 */
enum { NF_(TOGETHER) = 2 }; /* vectors */
typedef struct {
    NF_(vector) value[NF_(TOGETHER)], first[NF_(TOGETHER)], row[NF_(TOGETHER)], column[NF_(TOGETHER)];
    NF_(vector) second[NF_(TOGETHER)], row_first[NF_(TOGETHER)], column_first[NF_(TOGETHER)];
} NF_(rate_sums);

/* One parity: sums by Horner's rule with their derivatives with respect to x (half of the second), n terms of `count`
 * vectors of lanes.  whole: also what the rates of the slope need. */
NF_INLINE NF_(rate_sums)
    NF_(rates_of)(const int whole, const int count, int n, const NF_T (*a)[3], const NF_T *col, const NF_(vector) *x)
{
    NF_(rate_sums) s = {0};
    NF_(vector) after[NF_(TOGETHER)] = {0};
    for (int m = n - 1; m >= 0; m--)
        for (int v = 0; v < count; v++) {
            const NF_(vector) b = *(const NF_(vector) *)(col + m * NF_NEXT + v * NF_(VECTOR));
            if (whole) {
                s.second[v] = s.second[v] * x[v] + s.first[v];
                s.row_first[v] = s.row_first[v] * x[v] + s.row[v];
                s.column_first[v] = s.column_first[v] * x[v] + s.column[v];
            }
            s.first[v] = s.first[v] * x[v] + s.value[v];
            s.value[v] = s.value[v] * x[v] + a[m][0] * b;
            s.row[v] = s.row[v] * x[v] + a[m][1] * b;
            s.column[v] = s.column[v] * x[v] + a[m][2] * after[v];
            after[v] = b;
        }
    return s;
}

/* With as many terms as the bin needs */
NF_INLINE void NF_(series_sums)(const int whole, const nf_instr *in, const NF_T *row, const NF_T *col, const NF_T *rho,
                                int bin, NF_(partials) *restrict p)
{
    const nf_terms *terms = in->data;
    NF_T a[2][NF_MAX_ROWS / 2][3]; /* a_k, w_k a_(k+2) and w_k a_k of the row */
    const int *n = terms->terms + 2 * bin;
    const NF_T *numbers[2] = {row + 2 * NF_NEXT, row + (2 + terms->even) * NF_NEXT};
    const NF_T *columns[2] = {col + 2 * NF_NEXT, col + (2 + terms->even) * NF_NEXT};
    for (int parity = 0; parity < 2; parity++)
        for (int m = 0; m < n[parity]; m++) {
            const int k = 2 * m + parity;
            const NF_T w = sqrt((NF_T)(k + 1) * (k + 2)), here = numbers[parity][m * NF_NEXT];
            a[parity][m][0] = here;
            a[parity][m][1] = m + 1 < n[parity] ? w * numbers[parity][(m + 1) * NF_NEXT] : 0;
            a[parity][m][2] = w * here;
        }
    const int count = whole ? 1 : NF_(TOGETHER); /* as many as registers hold */
    for (int start = 0; start < NF_WIDTH; start += count * NF_(VECTOR)) {
        NF_(vector) x[NF_(TOGETHER)];
#define NF_AT(array) (*(NF_(vector) *)((array) + i))
        for (int v = 0, i = start; v < count; v++, i += NF_(VECTOR))
            x[v] = NF_AT(rho) * NF_AT(rho);
        const NF_(rate_sums) e = NF_(rates_of)(whole, count, n[0], a[0], columns[0] + start, x);
        const NF_(rate_sums) o = NF_(rates_of)(whole, count, n[1], a[1], columns[1] + start, x);
        for (int v = 0, i = start; v < count; v++, i += NF_(VECTOR)) {
            const NF_(vector) r = NF_AT(rho), over = row[0] * *(const NF_(vector) *)(col + i), none = {0};
            const NF_(vector) scale = *(const NF_(vector) *)(col + NF_NEXT + i), half = NF_C(0.5) * over;
            NF_AT(p->value) = e.value[v] + r * o.value[v];
            NF_AT(p->slope) = NF_AT(p->price) =
                (2 * r * e.first[v] + o.value[v] + 2 * x[v] * o.first[v]) * row[NF_NEXT] * scale;
            NF_AT(p->value_row) = NF_C(0.5) * (e.row[v] + r * o.row[v]);
            NF_AT(p->value_column) = NF_C(0.5) * (e.column[v] + r * o.column[v]);
            NF_AT(p->bend) = NF_AT(p->slope_row) = NF_AT(p->slope_column) = none;
            if (!whole)
                continue;
            NF_AT(p->bend) =
                (2 * e.first[v] + 8 * x[v] * e.second[v] + r * (6 * o.first[v] + 8 * x[v] * o.second[v])) * over * over;
            NF_AT(p->slope_row) = half * (2 * r * e.row_first[v] + o.row[v] + 2 * x[v] * o.row_first[v]);
            NF_AT(p->slope_column) = half * (2 * r * e.column_first[v] + o.column[v] + 2 * x[v] * o.column_first[v]);
        }
#undef NF_AT
    }
}

/* Beyond the reach the tables and the truncated powers are differentiated.  They depend on (q1, q2, rho): at fixed c,
 * rho/2 times the derivative with respect to rho, which is c/2 times that with respect to c, is subtracted from those
 * with respect to log q. */
NF_INLINE void NF_(beyond_panels)(const int whole, NF_PAIR, const NF_T *rho, NF_(partials) *restrict p)
{
    nf_near_lanes lanes;
    nf_near sum;
    const nf_near_point x = NF_(near_lanes)(in, row, col, rho, &lanes);
    near_sums(whole ? NEAR_OF_SLOPE : NEAR_OF_VALUE, in->data, x, &lanes, &sum);
    for (int k = 0; k < lanes.n; k++) {
        const int i = lanes.lane[k];
        const double sign = copysign(1.0, lanes.rho[k]), half = 0.5 * sigma[i];
        if (!sum.found[k])
            continue;
        p->value[i] = (NF_T)sum.of[0][k];
        p->slope[i] = p->price[i] = (NF_T)sum.of[1][k];
        p->value_row[i] = (NF_T)(sum.row[0][k] - half * sum.of[1][k]);
        p->value_column[i] = (NF_T)(sum.column[0][k] - half * sum.of[1][k]);
        if (!whole)
            continue;
        const double bend = sign * sum.rho[1][k] * x.inverse * lanes.inverse[k];
        p->bend[i] = (NF_T)bend;
        p->slope_row[i] = (NF_T)(sum.row[1][k] - half * bend);
        p->slope_column[i] = (NF_T)(sum.column[1][k] - half * bend);
    }
}

/* For kinks, from their closed forms */
static void NF_(beyond_kinks)(const nf_instr *in, const NF_T *row, const NF_T *col, const NF_T *rho,
                              NF_(partials) *restrict p)
{
    const nf_kinks *phi = in->data;
    for (int i = 0; i < NF_WIDTH; i++) {
        const double r = fabs(rho[i]);
        if (!(r > phi->terms.reach))
            continue;
        const double sine = sqrt((1 - r) * (1 + r));
        double value, slope, of_row[3], of_column[3];
        powers_of_pair(phi->powers, row[0], col[i], rho[i], 1 - r, &value, &slope);
        kinks_rates(phi, row[0], col[i], rho[i], sine, of_row);
        kinks_rates(phi, col[i], row[0], rho[i], sine, of_column);
        p->value[i] = (NF_T)value;
        p->slope[i] = p->price[i] = (NF_T)slope;
        p->value_row[i] = (NF_T)of_row[0];
        p->slope_row[i] = (NF_T)of_row[1];
        p->bend[i] = (NF_T)of_row[2];
        p->value_column[i] = (NF_T)of_column[0];
        p->slope_column[i] = (NF_T)of_column[1];
    }
}

/* whole: of the slope too, else its rates may be 0 */
NF_INLINE void NF_(sums_and_beyond)(const int whole, NF_PAIR, NF_(partials) *restrict p)
{
    NF_T rho[NF_WIDTH];
    int beyond;
    const int bin = NF_(correlations)(in, row, col, sigma, rho, &beyond);
    NF_(series_sums)(whole, in, row, col, rho, bin, p);
    if (beyond && in->op == NF_SERIES)
        NF_(beyond_panels)(whole, in, row, col, sigma, rho, p);
    else if (beyond && in->op == NF_KINKS)
        NF_(beyond_kinks)(in, row, col, rho, p);
}

static void NF_(series_rates)(NF_PAIR, NF_(partials) *restrict p)
{
    NF_(sums_and_beyond)(1, in, row, col, sigma, p);
}

/* For outputs that do not depend on the slope */
static void NF_(series_value_rates)(NF_PAIR, NF_(partials) *restrict p)
{
    NF_(sums_and_beyond)(0, in, row, col, sigma, p);
}
