/* dual.c: one dual at given variances and covariances, as a program of one instruction. */
#include "ntkfast.h"

void nf_dual(const nf_instr *in, int64_t n, const double *q1, const double *q2, const double *c, double *value,
             double *slope)
{
    static _Thread_local double row[NF_MAX_ROWS * NF_LANES], columns[NF_MAX_ROWS * NF_LANES];
    const nf_isa *isa = nf_isa_in_use();
    nf_instr alone = *in;
    alone.row = 0;
    alone.layer[0] = 1, alone.layer[1] = alone.layer[2] = alone.layer[3] = 0;
    const nf_program program = {.code = &alone, .n = 1, .n_rows = in->n_rows, .last_dual = -1};
    for (int64_t i = 0; i < n; i++) {
        long double first[NF_STACK] = {[NF_Q] = q1[i], [NF_THETA] = 1};
        if (q1[i] == q2[i] && q1[i] == c[i]) { /* a point with itself */
            nf_points(NF_FLOAT64, &program, 0, 1, 0, 1, first, 1, NULL, 1);
            value[i] = (double)first[NF_Q];
            slope[i] = (double)first[NF_THETA];
            continue;
        }
        long double second[NF_STACK] = {[NF_Q] = q2[i], [NF_THETA] = 1};
        double sigma[NF_LANES] = {c[i]}, theta[NF_LANES] = {1};
        nf_points(NF_FLOAT64, &program, 0, 1, 0, 1, first, 1, row, 1);
        nf_points(NF_FLOAT64, &program, 0, 1, 0, 1, second, 1, columns, 1);
        for (int r = 0; r < in->n_rows; r++)
            for (int k = 1; k < NF_LANES; k++)
                columns[r * NF_LANES + k] = columns[r * NF_LANES];
        isa->dual(&alone, row, columns, sigma, theta);
        value[i] = sigma[0];
        slope[i] = theta[0];
    }
}
