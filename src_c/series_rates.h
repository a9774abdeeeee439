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
typedef struct {
    NF_(vector) value, first, second, row, row_first, column, column_first;
} NF_(rate_sums);

/* One parity: sums by Horner's rule with their derivatives with respect to x (half of the second), n terms of one
 * vector of lanes */
static inline NF_(rate_sums) NF_(rates_of)(int n, const NF_T (*a)[3], const NF_T *col, NF_(vector) x)
{
    NF_(rate_sums) s = {0};
    NF_(vector) after = {0};
    for (int m = n - 1; m >= 0; m--) {
        const NF_(vector) b = *(const NF_(vector) *)(col + m * NF_NEXT);
        s.second = s.second * x + s.first;
        s.first = s.first * x + s.value;
        s.value = s.value * x + a[m][0] * b;
        s.row_first = s.row_first * x + s.row;
        s.row = s.row * x + a[m][1] * b;
        s.column_first = s.column_first * x + s.column;
        s.column = s.column * x + a[m][2] * after;
        after = b;
    }
    return s;
}

static void NF_(series_sums)(NF_PAIR, NF_(partials) *restrict p)
{
    const nf_terms *terms = in->data;
    NF_T a[2][NF_MAX_ROWS / 2][3], rho[NF_WIDTH], top = 0; /* a_k, w_k a_(k+2) and w_k a_k of the row */
    for (int i = 0; i < NF_WIDTH; i++) {
        const NF_T r = NF_ABS_RHO(i);
        rho[i] = copysign(r, sigma[i]);
        top = r > top && r <= (NF_T)terms->reach ? r : top; /* tables serve the other lanes */
    }
    const int place = (int)(top * NF_BINS), bin = place < NF_BINS ? place : NF_BINS - 1;
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
    for (int i = 0; i < NF_WIDTH; i += NF_(VECTOR)) {
#define NF_AT(array) (*(NF_(vector) *)((array) + i))
        const NF_(vector) r = NF_AT(rho), x = r * r, over = row[0] * *(const NF_(vector) *)(col + i);
        const NF_(vector) scale = *(const NF_(vector) *)(col + NF_NEXT + i);
        const NF_(rate_sums) e = NF_(rates_of)(n[0], a[0], columns[0] + i, x);
        const NF_(rate_sums) o = NF_(rates_of)(n[1], a[1], columns[1] + i, x);
        NF_AT(p->value) = e.value + r * o.value;
        NF_AT(p->slope) = NF_AT(p->price) = (2 * r * e.first + o.value + 2 * x * o.first) * row[NF_NEXT] * scale;
        NF_AT(p->bend) = (2 * e.first + 8 * x * e.second + r * (6 * o.first + 8 * x * o.second)) * over * over;
        NF_AT(p->value_row) = NF_C(0.5) * (e.row + r * o.row);
        NF_AT(p->value_column) = NF_C(0.5) * (e.column + r * o.column);
        NF_AT(p->slope_row) = NF_C(0.5) * over * (2 * r * e.row_first + o.row + 2 * x * o.row_first);
        NF_AT(p->slope_column) = NF_C(0.5) * over * (2 * r * e.column_first + o.column + 2 * x * o.column_first);
#undef NF_AT
    }
}

/* Beyond the reach the tables and the truncated powers are differentiated.  They depend on (q1, q2, rho): at fixed c,
 * rho/2 times the derivative with respect to rho, which is c/2 times that with respect to c, is subtracted from those
 * with respect to log q. */
static void NF_(beyond_panels)(NF_PAIR, NF_(partials) *restrict p)
{
    NF_T rho[NF_WIDTH];
    nf_near_lanes lanes;
    nf_near sum;
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        rho[i] = copysign(NF_ABS_RHO(i), sigma[i]);
    const nf_near_point x = NF_(near_lanes)(in, row, col, rho, &lanes);
    if (lanes.n)
        near_sums(1, in->data, x, &lanes, &sum);
    for (int k = 0; k < lanes.n; k++) {
        const int i = lanes.lane[k];
        const double sign = copysign(1.0, lanes.rho[k]), half = 0.5 * sigma[i];
        const double bend = sign * sum.rho[1][k] * x.inverse * lanes.inverse[k];
        if (!sum.found[k])
            continue;
        p->value[i] = (NF_T)sum.of[0][k];
        p->slope[i] = p->price[i] = (NF_T)sum.of[1][k];
        p->bend[i] = (NF_T)bend;
        p->value_row[i] = (NF_T)(sum.row[0][k] - half * sum.of[1][k]);
        p->value_column[i] = (NF_T)(sum.column[0][k] - half * sum.of[1][k]);
        p->slope_row[i] = (NF_T)(sum.row[1][k] - half * bend);
        p->slope_column[i] = (NF_T)(sum.column[1][k] - half * bend);
    }
}

/* For kinks, from their closed forms */
static void NF_(beyond_kinks)(NF_PAIR, NF_(partials) *restrict p)
{
    const nf_kinks *phi = in->data;
    for (int i = 0; i < NF_WIDTH; i++) {
        const double r = NF_ABS_RHO(i);
        if (!(r > phi->terms.reach))
            continue;
        const double sine = sqrt((1 - r) * (1 + r)), rho = copysign(r, (double)sigma[i]);
        double value, slope, of_row[3], of_column[3];
        powers_of_pair(phi->powers, row[0], col[i], rho, 1 - r, &value, &slope);
        kinks_rates(phi, row[0], col[i], rho, sine, of_row);
        kinks_rates(phi, col[i], row[0], rho, sine, of_column);
        p->value[i] = (NF_T)value;
        p->slope[i] = p->price[i] = (NF_T)slope;
        p->value_row[i] = (NF_T)of_row[0];
        p->slope_row[i] = (NF_T)of_row[1];
        p->bend[i] = (NF_T)of_row[2];
        p->value_column[i] = (NF_T)of_column[0];
        p->slope_column[i] = (NF_T)of_column[1];
    }
}

static void NF_(series_rates)(NF_PAIR, NF_(partials) *restrict p)
{
    NF_(series_sums)(in, row, col, sigma, p);
    if (in->op == NF_SERIES)
        NF_(beyond_panels)(in, row, col, sigma, p);
    else if (in->op == NF_KINKS)
        NF_(beyond_kinks)(in, row, col, sigma, p);
}
