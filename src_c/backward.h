/* backward.h: one row of a chunk forwards and backwards through the program.  Included once per precision, after
 * program.h. */

/* What an instruction leaves on the tape: theta before it and its partial derivatives; in the backward pass these are
 * replaced by the derivatives with respect to its layer's numbers and to log q1 and log q2. */
typedef struct {
    NF_T theta[NF_WIDTH];
    union {
        NF_(partials) of;
        struct {
            NF_T layer[4][NF_WIDTH], row[NF_WIDTH], column[NF_WIDTH];
        } by;
        struct { /* of MULTIPLY, after the value and its three derivatives: both factors, each sigma and theta */
            NF_T behind[4][NF_WIDTH], top[2][NF_WIDTH], other[2][NF_WIDTH];
        } factor;
    };
} NF_(step);

typedef struct {
    NF_T sigma[NF_WIDTH], theta[NF_WIDTH]; /* in the backward pass: the derivatives with respect to them */
    NF_T stack[NF_MAX_NESTING][2][NF_WIDTH];
    NF_(step) step[];
} NF_(tape);
_Static_assert(sizeof(NF_(tape)) == NF_TAPE_HEAD * NF_WIDTH * sizeof(NF_T), "NF_TAPE_HEAD");
_Static_assert(sizeof(NF_(step)) == NF_TAPE_STEP * NF_WIDTH * sizeof(NF_T), "NF_TAPE_STEP");

/* output: which one is differentiated */
static void NF_(go_forward)(const nf_program *program, int output, const NF_T *row, const NF_T *col, NF_(tape) *tape)
{
    NF_T *restrict sigma = tape->sigma, *restrict theta = tape->theta;
    int height = 0;
    for (int k = 0; k < program->n; k++) {
        const nf_instr *in = &program->code[k];
        NF_(step) *restrict step = &tape->step[k];
        const int top = in->op == NF_PUSH ? height : height - 1;
        NF_T before[2][NF_WIDTH];
        height += nf_stacks(in->op);
        if (in->op == NF_MULTIPLY)
            memcpy(before, sigma, sizeof before); /* theta directly follows sigma */
        if (top >= 0)
            NF_(branch)(in, tape->stack[top], sigma, theta);
        NF_(differentiation) *const differentiate =
            output == NF_NNGP && nf_has_series(in->op) ? NF_(series_value_rates) : NF_(partials_of)[in->op];
        differentiate(in, row + in->row * NF_LANES, col + in->row * NF_LANES, sigma, &step->of);
        if (in->op == NF_MULTIPLY) {
            memcpy(step->factor.top, tape->stack[top], sizeof before);
            memcpy(step->factor.other, before, sizeof before);
        }
        const NF_T a = (NF_T)in->layer[0], b = (NF_T)in->layer[1], c = (NF_T)in->layer[2], d = (NF_T)in->layer[3];
        NF_SIMD
        for (int i = 0; i < NF_WIDTH; i++) {
            const NF_T value = step->of.value[i];
            step->theta[i] = theta[i];
            theta[i] = a * step->of.slope[i] * theta[i] + (c * value + d);
            sigma[i] = a * value + b;
        }
    }
}

/* A derivative with respect to the covariance overflows if both variances are near underflow, where the covariance is
 * known to be 0: then it counts as 0, since the change that it multiplies may be 0. */
static inline NF_T NF_(if_finite)(NF_T x)
{
    return fabs(x) <= NF_LARGE ? x : 0;
}

static void NF_(go_back)(const nf_program *program, NF_(tape) *tape)
{
    NF_T *restrict by_sigma = tape->sigma, *restrict by_theta = tape->theta;
    int height = 0; /* of a stack of derivatives: in the backward pass ADD and MULTIPLY push, and PUSH pops */
    for (int k = program->n - 1; k >= 0; k--) {
        const nf_instr *in = &program->code[k];
        NF_(step) *step = &tape->step[k];
        const NF_T a = (NF_T)in->layer[0], c = (NF_T)in->layer[2];
        NF_T top[2][NF_WIDTH], other[2][NF_WIDTH];
        if (in->op == NF_MULTIPLY) { /* before the derivatives with respect to the layer replace them */
            memcpy(top, step->factor.top, sizeof top);
            memcpy(other, step->factor.other, sizeof other);
        }
        NF_SIMD
        for (int i = 0; i < NF_WIDTH; i++) {
            const NF_T value = step->of.value[i], slope = step->of.slope[i], theta = step->theta[i];
            const NF_T s = by_sigma[i], t = by_theta[i], by_value = a * s + c * t, by_slope = a * theta * t;
            const NF_T price = NF_(if_finite)(step->of.price[i]), bend = NF_(if_finite)(step->of.bend[i]);
            const NF_T row = by_value * step->of.value_row[i] + by_slope * step->of.slope_row[i];
            const NF_T column = by_value * step->of.value_column[i] + by_slope * step->of.slope_column[i];
            step->by.layer[0][i] = s * value + t * slope * theta;
            step->by.layer[1][i] = s;
            step->by.layer[2][i] = t * value;
            step->by.layer[3][i] = t;
            step->by.row[i] = row;
            step->by.column[i] = column;
            by_theta[i] = a * slope * t;
            by_sigma[i] = by_value * price + by_slope * bend;
        }
        NF_T(*by_top)[NF_WIDTH] = tape->stack[nf_stacks(in->op) < 0 ? height : height > 0 ? height - 1 : 0];
        height -= nf_stacks(in->op);
        if (in->op == NF_ADD) {
            const NF_T weight = (NF_T)in->param[0];
            NF_SIMD
            for (int i = 0; i < NF_WIDTH; i++) {
                by_top[0][i] = weight * by_sigma[i];
                by_top[1][i] = weight * by_theta[i];
            }
        } else if (in->op == NF_MULTIPLY) {
            NF_SIMD
            for (int i = 0; i < NF_WIDTH; i++) {
                const NF_T s = by_sigma[i], t = by_theta[i];
                by_top[0][i] = s * other[0][i] + t * other[1][i];
                by_top[1][i] = t * other[0][i];
                by_sigma[i] = s * top[0][i] + t * top[1][i];
                by_theta[i] = t * top[0][i];
            }
        } else if (in->op == NF_SWAP) {
            NF_(branch)(in, by_top, by_sigma, by_theta);
        } else if (in->op == NF_PUSH) {
            NF_SIMD
            for (int i = 0; i < NF_WIDTH; i++) {
                by_sigma[i] += by_top[0][i];
                by_theta[i] += by_top[1][i];
            }
        }
    }
}

/* The sum of the first `count` lanes of a chunk, in double */
static double NF_(sum_of)(NF_T *x, int count)
{
    enum { WAYS = 16 };
    double sum[WAYS] = {0};
    for (int i = count; i < NF_WIDTH; i++)
        x[i] = 0;
    for (int i = 0; i < NF_WIDTH; i += WAYS) {
        NF_SIMD
        for (int w = 0; w < WAYS; w++)
            sum[w] += (double)x[i + w];
    }
    for (int half = WAYS / 2; half > 0; half /= 2) /* in pairs: in sequence each sum would wait for the last */
        for (int w = 0; w < half; w++)
            sum[w] += sum[w + half];
    return sum[0];
}

/* Adds the weighted derivatives of row i, columns j ... of a tile to its part of the sums. */
static void NF_(add_up)(const nf_program *program, int tile, NF_(tape) *tape, int i, int j, int count, double *part)
{
    for (int k = 0; k < program->n; k++, part += NF_SUMS_HEAD + 2 * tile) {
        NF_(step) *step = &tape->step[k];
        for (int p = 0; p < NF_SUMS_HEAD; p++)
            part[p] += NF_(sum_of)(step->by.layer[p], count);
        if (program->code[k].n_rows == 0)
            continue;
        double *by_row = part + NF_SUMS_HEAD, *restrict by_column = by_row + tile + j;
        by_row[i] += NF_(sum_of)(step->by.row, count);
        NF_SIMD
        for (int l = 0; l < count; l++)
            by_column[l] += (double)step->by.column[l];
    }
}

/* Writes row i, columns j ... of the matrices of derivatives. */
static void NF_(write_out)(const nf_gradient *map, const nf_grid *grid, const NF_(tape) *tape, int64_t i, int64_t j,
                           int count)
{
    const nf_program *program = map->limit.program;
    for (int p = 0; p < map->n_parameters; p++) {
        NF_T sum[NF_WIDTH] = {0};
        for (int k = map->first[p]; k < program->n; k++) {
            const int64_t at = (int64_t)p * program->n + k;
            const double *layer = map->layer + 4 * at;
            const NF_(step) *step = &tape->step[k];
            for (int r = 0; r < 4; r++) {
                const NF_T rate = (NF_T)layer[r];
                if (layer[r] == 0)
                    continue;
                NF_SIMD
                for (int l = 0; l < NF_WIDTH; l++)
                    sum[l] += rate * step->by.layer[r][l];
            }
            if (k == map->first[p] || program->code[k].n_rows == 0)
                continue;
            const NF_T of_row = (NF_T)map->of_row[at * grid->n + i];
            const double *of_column = map->of_column + at * grid->m + j;
            NF_SIMD
            for (int l = 0; l < count; l++)
                sum[l] += of_row * step->by.row[l] + (NF_T)of_column[l] * step->by.column[l];
        }
        memcpy((NF_T *)map->matrices + (p * grid->n + i) * grid->m + j, sum, (size_t)count * sizeof *sum);
    }
}

/* Replaces the inner products of row i, columns j ... by the derivatives with respect to them, 0 for the first `skip`
 * lanes. */
static void NF_(keep)(const nf_tile *tile, const NF_T *by_product, int i, int j, int skip)
{
    NF_T *to = (NF_T *)tile->plane[NF_NNGP] + (int64_t)i * tile->ld + j;
    for (int k = 0; k < NF_LANES; k++)
        to[k] = k < skip ? 0 : by_product[k];
}

static void NF_(backward)(const nf_gradient *map, const nf_tile *tile, int first, int last, const void *inner)
{
    const nf_limit *limit = &map->limit;
    const int diagonal = nf_on_diagonal(tile), symmetric = tile->grid->symmetric;
    NF_(tape) *tape = tile->work;
    double *part = map->weights ? nf_queue_slot(map->sums->queue, tile) : NULL;
    const int keeps = map->weights && map->sums->of_rows;
    for (int i = first; keeps && diagonal && i < last; i++) /* whole chunks below the diagonal */
        memset((NF_T *)tile->plane[NF_NNGP] + (int64_t)i * tile->ld, 0,
               (size_t)(first / NF_LANES * NF_LANES) * sizeof(NF_T));
    /* chunk by chunk: the numbers of its columns, which may be many, come from L2 for all rows except the first */
    for (int j = diagonal ? first / NF_LANES * NF_LANES : 0; j < tile->nj; j += NF_LANES) {
        const int count = tile->nj - j < NF_LANES ? tile->nj - j : NF_LANES;
        const NF_T *col = (const NF_T *)limit->columns.table + nf_table_at(limit->program, tile->j0 + j);
        for (int i = first; i < last; i++) {
            const NF_T *row = (const NF_T *)limit->rows.table + nf_table_at(limit->program, tile->i0 + i);
            const NF_T *products = (const NF_T *)inner + (int64_t)i * tile->ld + j;
            const int skip =
                diagonal && i >= j ? i + 1 - j : 0; /* below the diagonal, and the diagonal itself: points.c */
            NF_SIMD
            for (int k = 0; k < NF_LANES; k++) {
                tape->sigma[k] = products[k];
                tape->theta[k] = 0;
            }
            for (int k = 0; k < skip; k++)
                tape->sigma[k] = 0;
            NF_(go_forward)(limit->program, map->output, row, col, tape);
            NF_T *seed = map->output == NF_NTK ? tape->theta : tape->sigma;
            NF_SIMD
            for (int k = 0; k < NF_LANES; k++)
                tape->sigma[k] = tape->theta[k] = 0;
            if (map->weights) {
                const int64_t ld = map->ld_weights, i_all = tile->i0 + i, j_all = tile->j0 + j;
                const NF_T *weights = (const NF_T *)map->weights + i_all * ld + j_all;
                for (int k = 0; k < count; k++)
                    seed[k] = weights[k];
                weights = (const NF_T *)map->weights + j_all * ld + i_all;
                for (int k = 0; symmetric && k < count; k++)
                    seed[k] += weights[k * ld]; /* the pair (j, i) */
                for (int k = 0; k < skip && k < count; k++)
                    seed[k] = 0;
            } else {
                for (int k = 0; k < count; k++)
                    seed[k] = 1;
            }
            NF_(go_back)(limit->program, tape);
            if (keeps)
                NF_(keep)(tile, tape->sigma, i, j, skip);
            if (map->weights)
                NF_(add_up)(limit->program, tile->grid->tile, tape, i, j, count, part);
            else
                NF_(write_out)(map, tile->grid, tape, tile->i0 + i, tile->j0 + j, count);
        }
    }
}
