/* program.h: the instructions by their number.  Included once per precision, after duals.h and series.h. */
typedef void NF_(instruction)(NF_ARGS);
#define NF_POINTER(NAME, name, function, params, rows) NF_(function),
static NF_(instruction) *const NF_(instructions)[NF_N_OPS] = {NF_STRUCTURE(NF_POINTER) NF_DUALS(NF_POINTER)};
#undef NF_POINTER

/* dot = a E[phi' phi']: what the instruction multiplies theta by, sigma untouched */
static void NF_(slope_of)(const nf_instr *in, const NF_T *row, const NF_T *col, const NF_T *sigma, NF_T *dot)
{
    NF_T spare[NF_WIDTH];
    nf_instr slope = *in;
    slope.layer[1] = slope.layer[2] = slope.layer[3] = 0;
    for (int i = 0; i < NF_WIDTH; i++) {
        spare[i] = sigma[i];
        dot[i] = 1;
    }
    NF_(instructions)[in->op](&slope, row, col, spare, dot);
}
