/* rectangle.h: the program over a few rows of a chunk, and norms.  Included once per precision by kernels.h. */

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
