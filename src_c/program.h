/* program.h: the instructions by number.  Included once per precision, after duals.h and series.h.
 *
 * Each function twice: as instructions, which update the pair state, and as partials_of, which leave sigma unchanged
 * and fill p. */
typedef void NF_(instruction)(NF_PAIR, NF_T *restrict theta);
typedef void NF_(differentiation)(NF_PAIR, NF_(partials) *restrict p);

#define NF_BOTH(NAME, name, function, params, rows)                                                                    \
    static void NF_(instruct_##name)(NF_PAIR, NF_T *restrict theta)                                                    \
    {                                                                                                                  \
        NF_(function)(0, in, row, col, sigma, theta, NULL);                                                            \
    }                                                                                                                  \
    static void NF_(differentiate_##name)(NF_PAIR, NF_(partials) *restrict p)                                          \
    {                                                                                                                  \
        NF_(function)(1, in, row, col, sigma, NULL, p);                                                                \
    }
NF_STRUCTURE(NF_BOTH)
NF_DUALS(NF_BOTH)
#undef NF_BOTH

#define NF_POINTER(NAME, name, function, params, rows) NF_(instruct_##name),
static NF_(instruction) *const NF_(instructions)[NF_N_OPS] = {NF_STRUCTURE(NF_POINTER) NF_DUALS(NF_POINTER)};
#undef NF_POINTER
#define NF_POINTER(NAME, name, function, params, rows) NF_(differentiate_##name),
static NF_(differentiation) *const NF_(partials_of)[NF_N_OPS] = {NF_STRUCTURE(NF_POINTER) NF_DUALS(NF_POINTER)};
#undef NF_POINTER

/* dot = a E[phi' phi']: the factor by which the instruction multiplies theta; sigma is unchanged */
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
