/* mutants.c: the formulas of src_c by themselves, for mutations.py, which compiles this with mutated headers.
 *
 * nf_mutant: the number of the mutation that is active; 0: none.
 */
#define NF_ISA base
#include "kernels.h"

int nf_mutant;

enum { PAD = 8 * NF_LANES }; /* on both sides of tables: mutations may read beside them */

/* number[r][i] of the points of variance q[i] in a table of dtype, for a program of this instruction only */
static void *table_of(nf_dtype dtype, const nf_program *program, int n, const double *q, double *room)
{
    static long double state[NF_STACK][NF_LANES];
    void *table = room + PAD;
    memset(state, 0, sizeof state);
    memset(room, 0, (NF_MAX_ROWS * NF_LANES + 2 * PAD) * sizeof *room);
    for (int i = 0; i < n; i++)
        state[NF_Q][i] = q[i];
    nf_points(dtype, program, 0, 1, 0, n, state[0], NF_LANES, table, 1);
    return table;
}

static nf_instr instruction_of(int op, const double *param, const double *layer)
{
    nf_instr in = {.op = op, .n_rows = nf_ops[op].n_rows};
    for (int k = 0; k < NF_MAX_PARAMS; k++)
        in.param[k] = param[k];
    for (int k = 0; k < 4; k++)
        in.layer[k] = layer[k];
    return in;
}

/* One point with NF_LANES others. out[0..7]: the fields of `partials`; out[8], out[9]: sigma and theta = 0.7 after the
 * instruction and its layer */
#define PAIRS(T, suffix, dtype)                                                                                        \
    void pairs_##suffix(int op, const double *param, const double *layer, double q1, const double *q2,                 \
                        const double *c, double (*out)[NF_LANES])                                                      \
    {                                                                                                                  \
        static double rooms[2][NF_MAX_ROWS * NF_LANES + 2 * PAD];                                                      \
        const nf_instr in = instruction_of(op, param, layer);                                                          \
        const nf_program program = {.code = &in, .n = 1, .n_rows = in.n_rows, .last_dual = -1};                        \
        const T *row = table_of(dtype, &program, 1, &q1, rooms[0]);                                                    \
        const T *columns = table_of(dtype, &program, NF_LANES, q2, rooms[1]);                                          \
        T sigma[NF_LANES], theta[NF_LANES];                                                                            \
        partials_##suffix p;                                                                                           \
        for (int i = 0; i < NF_LANES; i++)                                                                             \
            sigma[i] = (T)c[i], theta[i] = (T)0.7;                                                                     \
        partials_of_##suffix[op](&in, row, columns, sigma, &p);                                                        \
        const T *fields[8] = {p.value,     p.slope,        p.price,     p.bend,                                        \
                              p.value_row, p.value_column, p.slope_row, p.slope_column};                               \
        for (int k = 0; k < 8; k++)                                                                                    \
            for (int i = 0; i < NF_LANES; i++)                                                                         \
                out[k][i] = fields[k][i];                                                                              \
        instructions_##suffix[op](&in, row, columns, sigma, theta);                                                    \
        for (int i = 0; i < NF_LANES; i++)                                                                             \
            out[8][i] = sigma[i], out[9][i] = theta[i];                                                                \
    }
PAIRS(float, f32, NF_FLOAT32)
PAIRS(double, f64, NF_FLOAT64)

/* A point with itself: E[phi^2], E[phi'^2] and q d/dq of both; sigma, theta after the layer, as above; again E[phi^2],
 * E[phi'^2] and q d/dq of the first, from the function for one dual (0 where there is none) */
void diagonal(int op, const double *param, const double *layer, double q, double *out)
{
    const nf_instr in = instruction_of(op, param, layer);
    const nf_program program = {.code = &in, .n = 1, .n_rows = in.n_rows, .last_dual = -1};
    long double numbers[NF_RATES], alone[3] = {0}, state[NF_STACK] = {[NF_Q] = q, [NF_THETA] = 0.7L};
    nf_rates(&program, 1, &q, numbers, 1);
    nf_points(NF_FLOAT64, &program, 0, 1, 0, 1, state, 1, NULL, 1);
    if (in.n_rows > 0)
        nf_point_dual(&in, q, &alone[0], &alone[1], &alone[2]);
    const long double all[9] = {numbers[2],      numbers[3], numbers[4], numbers[5], state[NF_Q],
                                state[NF_THETA], alone[0],   alone[1],   alone[2]};
    for (int k = 0; k < 9; k++)
        out[k] = (double)all[k];
}

/* what: 0 exp(x), 1 expm1(x) near 0, 2 and 3 the angle of this sine and cosine, to 1 ulp of pi/4 and relatively */
#define FUNCTION(T, suffix)                                                                                            \
    void function_##suffix(int what, int n, const T *x, const T *y, T *out)                                            \
    {                                                                                                                  \
        for (int i = 0; i < n; i++)                                                                                    \
            out[i] = what == 0   ? exponential_of_##suffix(x[i])                                                       \
                     : what == 1 ? small_expm1_##suffix(x[i])                                                          \
                                 : angle_##suffix(x[i], y[i], what - 2);                                               \
    }
FUNCTION(float, f32)
FUNCTION(double, f64)

/* The integral of sin^4 over [-theta/2, theta/2] */
void sin4(int n, const double *theta, double *out)
{
    for (int i = 0; i < n; i++) {
        const double x = sin(theta[i] / 2);
        out[i] = sin4_integral(theta[i], x * x, x, sin(theta[i]), cos(theta[i]));
    }
}

/* Statistics of finite width of one point with up to NF_LANES others. numbers: as in nf_width_side, the columns' NF_LANES
 * apart; hidden: rows of nf_hidden; out: [NF_MOST_PLANES][NF_LANES] */
void finite_width(int d, const double *x, const double *y, int n, const double *row, const double *columns,
                  const double *first, int n_hidden, const double *hidden, double n_outputs, double *out)
{
    double inner[NF_LANES] = {0};
    nf_finite_width map = {.rows = {{x, d}, row, 1},
                           .columns = {{y, d}, columns, NF_LANES},
                           .d = d,
                           .n_hidden = n_hidden,
                           .n_outputs = n_outputs,
                           .hidden = (const nf_hidden *)hidden};
    const nf_grid grid = {1, n, NF_LANES, 0, NF_FLOAT64, 0};
    nf_tile tile = {.grid = &grid, .ni = 1, .nj = n, .ld = NF_LANES};
    for (int p = 0; p < NF_MOST_PLANES; p++)
        tile.plane[p] = out + p * NF_LANES;
    for (int k = 0; k < 4; k++)
        map.first[k] = first[k];
    for (int i = 0; i < n; i++)
        for (int k = 0; k < d; k++)
            inner[i] += x[k] * y[i * d + k];
    widths(&map, &tile, 0, 1, inner);
}

/* NNGP, NTK, dot and 1 - |rho| of two points by the pair alone; traced: all instructions one by one */
void alone(int n, const int *ops, const double (*params)[NF_MAX_PARAMS], const double (*layers)[4], int d,
           const double *x, const double *y, int traced, double *out)
{
    nf_instr code[8];
    double norms[2], trace[2 * 9];
    long double found[NF_PLANES];
    nf_pair pair;
    nf_program program = {.code = code, .n = n, .last_dual = n - 1};
    for (int k = 0; k < n; k++)
        code[k] = instruction_of(ops[k], params[k], layers[k]);
    nf_norms(NF_FLOAT64, x, 1, d, d, &norms[0], 1);
    nf_norms(NF_FLOAT64, y, 1, d, d, &norms[1], 1);
    nf_pair_start(NF_FLOAT64, x, y, d, norms[0], norms[1], &pair);
    nf_pair_run(&program, &pair, found, traced ? trace : NULL);
    for (int p = 0; p < NF_PLANES; p++)
        out[p] = (double)found[p];
    out[NF_PLANES] = (double)(pair.gap / sqrtl(pair.q[0] * pair.q[1]));
}
