/* norms.c: squared norms of rows, in blocks over the threads. */
#include "ntkfast.h"

void nf_norms(nf_dtype dtype, const void *x, int64_t n, int64_t d, int64_t ld, double *out, int n_threads)
{
    enum { ROWS = 64 };
    const nf_isa *isa = nf_isa_in_use();
    const int64_t size = dtype == NF_FLOAT32 ? 4 : 8;
    /* OpenMP allocates even for a team of one, and ends the process if it cannot */
    if (n_threads < 2 || n * d <= 100000) {
        isa->norms[dtype](x, n, d, ld, out);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(n_threads)
#endif
    for (int64_t i = 0; i < n; i += ROWS)
        isa->norms[dtype]((const char *)x + i * ld * size, n - i < ROWS ? n - i : ROWS, d, ld, out + i);
}
