/* rectangle.h: loops over rows and chunks of a rectangle.  Included once per precision by kernels.h. */

/* A few rows of one chunk of columns, on which the program acts at a time: instruction by instruction, so that the
 * numbers of the columns, which may be many, come from L1 for all rows except the first. */
enum { NF_(ROWS) = 4 };
typedef struct {
    NF_T sigma[NF_(ROWS)][NF_WIDTH], theta[NF_(ROWS)][NF_WIDTH], dot[NF_(ROWS)][NF_WIDTH];
    NF_T stack[NF_MAX_NESTING][NF_(ROWS)][2][NF_WIDTH];
} NF_(block);

/* What PUSH, SWAP, ADD and MULTIPLY do to a state, given their place on the stack; nothing for other instructions */
static void NF_(branch)(const nf_instr *in, NF_T (*restrict top)[NF_WIDTH], NF_T *restrict sigma, NF_T *restrict theta)
{
    if (in->op == NF_PUSH) {
        memcpy(top[0], sigma, sizeof top[0]);
        memcpy(top[1], theta, sizeof top[1]);
    } else if (in->op == NF_SWAP) {
        NF_SIMD
        for (int i = 0; i < NF_WIDTH; i++) {
            const NF_T s = top[0][i], t = top[1][i];
            top[0][i] = sigma[i], top[1][i] = theta[i];
            sigma[i] = s, theta[i] = t;
        }
    } else if (in->op == NF_ADD) {
        const NF_T weight = (NF_T)in->param[0];
        NF_SIMD
        for (int i = 0; i < NF_WIDTH; i++) {
            sigma[i] += weight * top[0][i];
            theta[i] += weight * top[1][i];
        }
    } else if (in->op == NF_MULTIPLY) {
        NF_SIMD
        for (int i = 0; i < NF_WIDTH; i++) {
            theta[i] = theta[i] * top[0][i] + sigma[i] * top[1][i];
            sigma[i] *= top[0][i];
        }
    }
}

/* The whole program over n rows of a block, theta 0 and sigma x.x' on entry.
 * dot: whether a E[phi' phi'] of the last dual is needed. */
static void NF_(run)(const nf_program *program, const NF_T *const *row, const NF_T *col, NF_(block) *b, int n, int dot)
{
    int height = 0;
    for (int k = 0; k < program->n; k++) {
        const nf_instr *in = &program->code[k];
        const NF_T *c = col + in->row * NF_LANES;
        const int top = in->op == NF_PUSH ? height : height - 1;
        height += nf_stacks(in->op);
        for (int r = 0; r < n; r++) {
            const NF_T *numbers = row[r] + in->row * NF_LANES;
            NF_T *sigma = b->sigma[r], *theta = b->theta[r];
            if (top >= 0)
                NF_(branch)(in, b->stack[top][r], sigma, theta);
            if (dot && k == program->last_dual)
                NF_(slope_of)(in, numbers, c, sigma, b->dot[r]);
            NF_(instructions)[in->op](in, numbers, c, sigma, theta);
        }
    }
}

/* Marks the lanes of pairs that pair.c is to compute, products being x.y; 0: there are none */
static int NF_(mark)(const nf_limit *map, const NF_T *restrict products, NF_T row, const NF_T *restrict columns,
                     unsigned char *marks)
{
    enum { WAYS = 16 };
    const NF_T shift = (NF_T)map->shift, bound = (NF_T)map->bound;
    NF_T tops[WAYS], top = 0;
    for (int w = 0; w < WAYS; w++)
        tops[w] = 0;
    for (int k = 0; k < NF_LANES; k += WAYS) {
        NF_SIMD
        for (int w = 0; w < WAYS; w++) {
            const NF_T r = fabs(products[k + w] + shift) * columns[k + w];
            tops[w] = r > tops[w] ? r : tops[w];
        }
    }
    for (int w = 0; w < WAYS; w++)
        top = tops[w] > top ? tops[w] : top;
    if (!(top * row > bound))
        return 0;
    for (int k = 0; k < NF_LANES; k++)
        marks[k] = fabs(products[k] + shift) * (row * columns[k]) > bound;
    return 1;
}

/* The interpreter: a few rows and NF_LANES columns at a time, while they are in L1. */
static void NF_(interpret)(const nf_limit *map, const nf_tile *tile, int first, int last, const void *inner)
{
    const NF_T *rows = map->rows.table, *cols = map->columns.table, *row[NF_(ROWS)];
    const NF_T *row_inverse = map->rows.inverse, *column_inverse = map->columns.inverse;
    unsigned char marks[NF_(ROWS)][NF_LANES];
    int marked[NF_(ROWS)];
    NF_(block) b;
    const int diagonal = nf_on_diagonal(tile);
    for (int i = first; i < last; i += NF_(ROWS)) {
        const int n = last - i < NF_(ROWS) ? last - i : NF_(ROWS);
        for (int j = diagonal ? i / NF_LANES * NF_LANES : 0; j < tile->nj; j += NF_LANES) {
            for (int r = 0; r < n; r++) {
                row[r] = rows + nf_table_at(map->program, tile->i0 + i + r);
                const NF_T *products = (const NF_T *)inner + (int64_t)(i + r) * tile->ld + j;
                marked[r] = row_inverse && NF_(mark)(map, products, row_inverse[tile->i0 + i + r],
                                                     column_inverse + tile->j0 + j, marks[r]);
                NF_SIMD
                for (int k = 0; k < NF_LANES; k++) {
                    b.sigma[r][k] = products[k];
                    b.theta[r][k] = 0;
                }
                for (int k = 0; diagonal && k < NF_LANES && j + k <= i + r; k++)
                    b.sigma[r][k] = 0; /* known; |rho| = 1 would be costly, the mirror image useless */
            }
            NF_(run)(map->program, row, cols + nf_table_at(map->program, tile->j0 + j), &b, n,
                     tile->plane[NF_DOT] != NULL);
            for (int r = 0; r < n; r++) {
                const NF_T *const from[NF_PLANES] = {b.sigma[r], b.theta[r], b.dot[r]};
                for (int p = 0; p < NF_PLANES; p++) {
                    if (!tile->plane[p])
                        continue;
                    NF_T *to = (NF_T *)tile->plane[p] + (int64_t)(i + r) * tile->ld + j;
                    NF_SIMD
                    for (int k = 0; k < NF_LANES; k++)
                        to[k] = from[p][k];
                }
                for (int k = 0; marked[r] && k < NF_LANES && j + k < tile->nj; k++)
                    if (marks[r][k] && !(diagonal && j + k <= i + r))
                        nf_limit_pair(map, tile, i + r, j + k);
            }
        }
    }
}

/* Squared norms.  16 accumulators over blocks of 1024, blocks added in long double: at most 64 roundings. */
static void NF_(norms)(const void *x, int64_t n, int64_t d, int64_t ld, double *out)
{
    enum { WAYS = 16, BLOCK = 1024 };
    for (int64_t i = 0; i < n; i++) {
        const NF_T *row = (const NF_T *)x + i * ld;
        long double total = 0;
        for (int64_t start = 0; start < d; start += BLOCK) {
            const int64_t stop = d - start < BLOCK ? d : start + BLOCK;
            double sum[WAYS] = {0};
            int64_t k = start;
            for (; k + WAYS <= stop; k += WAYS) {
                NF_SIMD
                for (int w = 0; w < WAYS; w++)
                    sum[w] += (double)row[k + w] * (double)row[k + w];
            }
            for (; k < stop; k++)
                total += (long double)row[k] * row[k];
            for (int w = 0; w < WAYS; w++)
                total += sum[w];
        }
        out[i] = (double)total;
    }
}
