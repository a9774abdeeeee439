/* series.h: the instruction that sums a Hermite series (nf_terms in ntkfast.h), for one chunk of lanes.
 *
 * Included once per precision, after duals.h.  The sums run over x = rho^2, even and odd terms apart, by Horner's rule
 * with its derivative: three operations per term and lane, four vectors at a time so that the units are busy.  The
 * number of terms is chosen for each chunk, from its largest |rho|: choosing per block, mispredicted branches would
 * cost more than the terms saved.  If all columns have the same variance, the products of coefficients are formed once
 * for all of them.  Lanes whose correlation is beyond the reach of the series are recomputed (near.h).
 *
 * Rates need other sums: series_rates.h has them, series_points.h those of the diagonal.
 */
static void NF_(series_rates)(NF_PAIR, NF_(partials) *restrict p);

#if NF_PRECISION != 80

#if NF_PRECISION == 32
#define NF_SAME 5e-7f
#else
#define NF_SAME 1e-14
#endif
typedef NF_T NF_(vector) __attribute__((vector_size(NF_VECTOR_BYTES), aligned(sizeof(NF_T)), may_alias));
enum { NF_(VECTOR) = NF_VECTOR_BYTES / sizeof(NF_T), NF_(BLOCK) = 4 * NF_(VECTOR) }; /* lanes */

typedef struct {
    NF_(vector) sum[4], slope[4];
} NF_(sums);

/* sum = sum_k row[k] col[k] x^k over k < n, slope its derivative with respect to x (if needed), for one block of lanes.
 * n is a multiple of NF_STEP: the loop has few rounds, so that its end is predicted.
 * same: all columns have the same numbers, and row holds the products. */
NF_INLINE NF_(sums)
    NF_(horner)(const int same, const int wanted, int n, const NF_T *row, const NF_T *col, const NF_(vector) *x)
{
    NF_(sums) s = {0};
    const int next = same ? 1 : NF_NEXT;
    row += n * next, col += n * NF_NEXT;
    for (; n > 0; n -= NF_STEP)
        for (int k = 0; k < NF_STEP; k++) {
            row -= next, col -= NF_NEXT;
            const NF_(vector) a = *row - (NF_(vector)){0};
            const NF_(vector) *b = (const NF_(vector) *)col;
            for (int v = 0; v < 4; v++) {
                if (wanted)
                    s.slope[v] = s.slope[v] * x[v] + s.sum[v];
                if (same)
                    s.sum[v] = s.sum[v] * x[v] + a;
                else
                    s.sum[v] = s.sum[v] * x[v] + a * b[v];
            }
        }
    return s;
}

/* The inputs of the loop over blocks; even and odd: the numbers of the row, or products (same). */
typedef struct {
    const nf_terms *terms;
    const NF_T *even, *odd, *col_even, *col_odd;
} NF_(series_rows);

/* E[phi phi] and E[phi' phi'] of a chunk from rho, with this many terms.  Compile-time constants: same, the parities
 * that phi has, and whether the b_k are stored separately. */
NF_INLINE void NF_(series_chunk)(const int same, const int has_even, const int has_odd, const int apart,
                                 NF_(series_rows) in, int n_even, int n_odd, NF_T scale, const NF_T *scales,
                                 const NF_T *rho, NF_T *value, NF_T *slope)
{
    const int64_t skip = in.terms->even + in.terms->odd; /* to the b_k */
    const NF_T *b_even = in.even + skip * NF_NEXT, *b_odd = in.odd + skip * NF_NEXT;
    for (int i = 0; i < NF_WIDTH; i += NF_(BLOCK)) {
        const NF_T *col_even = in.col_even + i, *col_odd = in.col_odd + i;
        NF_(vector) r[4], x[4];
        NF_(sums) e = {0}, o = {0}, be = {0}, bo = {0};
        for (int v = 0; v < 4; v++) {
            r[v] = *(const NF_(vector) *)(rho + i + v * NF_(VECTOR));
            x[v] = r[v] * r[v];
        }
        if (has_even)
            e = NF_(horner)(same, !apart, n_even, in.even, col_even, x);
        if (has_odd)
            o = NF_(horner)(same, !apart, n_odd, in.odd, col_odd, x);
        if (apart && has_even)
            be = NF_(horner)(same, 0, n_even, b_even, col_even + skip * NF_NEXT, x);
        if (apart && has_odd)
            bo = NF_(horner)(same, 0, n_odd, b_odd, col_odd + skip * NF_NEXT, x);
        for (int v = 0; v < 4; v++) { /* V = E(x) + rho O(x):  dV/drho = 2 rho E' + O + 2 x O' */
            const NF_(vector) over = *(const NF_(vector) *)(scales + i + v * NF_(VECTOR));
            NF_(vector) price = {0}, total = {0};
            if (has_even) {
                total += e.sum[v];
                price += 2 * r[v] * e.slope[v];
            }
            if (has_odd) {
                total += r[v] * o.sum[v];
                price += o.sum[v] + 2 * x[v] * o.slope[v];
            }
            if (apart)
                price = be.sum[v] + r[v] * bo.sum[v];
            else
                price = price * scale * over; /* one after the other: their product may overflow */
            *(NF_(vector) *)(value + i + v * NF_(VECTOR)) = total;
            *(NF_(vector) *)(slope + i + v * NF_(VECTOR)) = price;
        }
    }
}

/* rho of each lane, and how many of them are beyond the reach of the series.  Returns the bin of the largest |rho|
 * that the series serves. */
NF_INLINE int NF_(correlations)(NF_PAIR, NF_T *rho, int *beyond)
{
    const NF_T reach = (NF_T)((const nf_terms *)in->data)->reach;
    NF_T tops[NF_(BLOCK)] = {0}, top = 0;
    *beyond = 0;
    for (int i = 0; i < NF_WIDTH; i += NF_(BLOCK)) {
        NF_SIMD
        for (int k = 0; k < NF_(BLOCK); k++) {
            const NF_T r = NF_ABS_RHO(i + k);
            rho[i + k] = copysign(r, sigma[i + k]);
            tops[k] = r > tops[k] && r <= reach ? r : tops[k];
            *beyond += r > reach;
        }
    }
    for (int k = 0; k < NF_(BLOCK); k++)
        top = tops[k] > top ? tops[k] : top;
    const int bin = (int)(top * NF_BINS);
    return bin < NF_BINS ? bin : NF_BINS - 1;
}

/* The point's 1/sqrt(q), a_0 and q da_0/dq = a_2/sqrt(2) (see series_rates.h), from its numbers */
static inline nf_near_point NF_(near_point)(const nf_terms *terms, const NF_T *numbers)
{
    const double half = sqrt(0.5);
    return terms->even ? (nf_near_point){numbers[0], numbers[2 * NF_NEXT], half * numbers[3 * NF_NEXT]}
                       : (nf_near_point){numbers[0], 0, 0};
}

/* The lanes beyond the reach, and their row's point */
static inline nf_near_point NF_(near_lanes)(const nf_instr *in, const NF_T *row, const NF_T *col, const NF_T *rho,
                                            nf_near_lanes *lanes)
{
    const nf_terms *terms = in->data;
    const NF_T reach = (NF_T)terms->reach;
    const nf_near_point x = NF_(near_point)(terms, row);
    lanes->n = 0;
    for (int i = 0; i < NF_WIDTH; i++)
        near_add(lanes, i, fabs(rho[i]) > reach, rho[i], col[i]);
    if (near_below(in->data, x, lanes))
        for (int k = 0; k < lanes->n; k++) {
            const nf_near_point y = NF_(near_point)(terms, col + lanes->lane[k]);
            lanes->mean[k] = y.mean, lanes->mean_rate[k] = y.mean_rate;
        }
    return x;
}

static __attribute__((noinline)) void NF_(series_near)(const nf_instr *in, const NF_T *row, const NF_T *col,
                                                       const NF_T *rho, NF_T *value, NF_T *slope)
{
    nf_near_lanes lanes;
    nf_near exact;
    const nf_near_point x = NF_(near_lanes)(in, row, col, rho, &lanes);
    near_sums(NEAR_NO_RATES, in->data, x, &lanes, &exact);
    for (int k = 0; k < lanes.n; k++)
        if (exact.found[k]) {
            value[lanes.lane[k]] = (NF_T)exact.of[0][k];
            slope[lanes.lane[k]] = (NF_T)exact.of[1][k];
        }
}

static void NF_(series_values)(NF_PAIR, NF_T *restrict theta)
{
    const nf_terms *terms = in->data;
    NF_T rho[NF_WIDTH], value[NF_WIDTH], slope[NF_WIDTH], products[NF_MAX_ROWS];
    NF_(series_rows) rows = {terms, row + 2 * NF_NEXT, row + (2 + terms->even) * NF_NEXT, col + 2 * NF_NEXT,
                             col + (2 + terms->even) * NF_NEXT};
    const NF_T *scales = col + NF_NEXT, scale = row[NF_NEXT], reach = (NF_T)terms->reach;
    int differ = 0, beyond;
    const int bin = NF_(correlations)(in, row, col, sigma, rho, &beyond);
    NF_LAYER
    const int n_even = terms->terms[2 * bin], n_odd = terms->terms[2 * bin + 1];
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        differ |= !(fabs(scales[i] - scales[0]) <= NF_SAME * scales[0]);
    const int same = !differ && !terms->slopes;
    if (same) {
        for (int k = 0; k < n_even; k++)
            products[k] = rows.even[k * NF_NEXT] * rows.col_even[k * NF_NEXT];
        for (int k = 0; k < n_odd; k++)
            products[n_even + k] = rows.odd[k * NF_NEXT] * rows.col_odd[k * NF_NEXT];
        rows.even = products;
        rows.odd = products + n_even;
    }
#define NF_CHUNK(same, even, odd, apart)                                                                               \
    NF_(series_chunk)(same, even, odd, apart, rows, n_even, n_odd, scale, scales, rho, value, slope)
    if (terms->slopes)
        NF_CHUNK(0, 1, 1, 1);
    else if (!terms->even)
        same ? NF_CHUNK(1, 0, 1, 0) : NF_CHUNK(0, 0, 1, 0);
    else if (!terms->odd)
        same ? NF_CHUNK(1, 1, 0, 0) : NF_CHUNK(0, 1, 0, 0);
    else
        same ? NF_CHUNK(1, 1, 1, 0) : NF_CHUNK(0, 1, 1, 0);
#undef NF_CHUNK
    if (beyond && in->op == NF_KINKS)
        for (int i = 0; i < NF_WIDTH; i++) {
            double exact[2];
            if (!(fabs(rho[i]) > reach))
                continue;
            powers_of_pair(((const nf_kinks *)in->data)->powers, row[0], col[i], rho[i], 1 - fabs((double)rho[i]),
                           &exact[0], &exact[1]);
            value[i] = (NF_T)exact[0];
            slope[i] = (NF_T)exact[1];
        }
    else if (beyond)
        NF_(series_near)(in, row, col, rho, value, slope);
    NF_SIMD
    for (int i = 0; i < NF_WIDTH; i++)
        NF_ADVANCE(i, value[i], slope[i]);
}
#undef NF_SAME

#else

/* On the diagonal the point functions leave E phi^2 and E phi'^2 after the rows of the table. */
static void NF_(series_values)(NF_PAIR, NF_T *restrict theta)
{
    (void)col;
    NF_LAYER
    NF_ADVANCE(0, row[in->n_rows], row[in->n_rows + 1]);
}

#endif

NF_INLINE void NF_(series)(NF_ARGS)
{
    if (rates)
        NF_(series_rates)(in, row, col, sigma, p);
    else
        NF_(series_values)(in, row, col, sigma, theta);
}
