/* array.c: the sink that writes into arrays in memory (or mapped files), of any strides. */
#include <string.h>

#include "ntkfast.h"

/* to[i*row_stride + j*column_stride] = from[i*ld + j].  Mirroring is this with the strides exchanged. */
static void copy(nf_dtype dtype, const char *from, int64_t ld, int ni, int nj, char *to, int64_t row_stride,
                 int64_t column_stride)
{
    const int64_t size = dtype == NF_FLOAT32 ? 4 : 8;
    if (column_stride == 1)
        for (int i = 0; i < ni; i++)
            memcpy(to + i * row_stride * size, from + i * ld * size, (size_t)(nj * size));
    else if (row_stride == 1)
        nf_isa_in_use()->transpose[dtype](from, ld, ni, nj, to, column_stride);
    else
        for (int i = 0; i < ni; i++)
            for (int j = 0; j < nj; j++)
                memcpy(to + (i * row_stride + j * column_stride) * size, from + (i * ld + j) * size, (size_t)size);
}

int nf_array_put(void *self, const nf_tile *tile)
{
    const nf_array *out = self;
    const int64_t size = out->dtype == NF_FLOAT32 ? 4 : 8;
    for (int p = 0; p < NF_PLANES; p++) {
        if (!tile->plane[p])
            continue;
        const int64_t rs = out->row_stride[p], cs = out->column_stride[p];
        char *const base = out->base[p];
        copy(out->dtype, tile->plane[p], tile->ld, tile->ni, tile->nj, base + (tile->i0 * rs + tile->j0 * cs) * size, rs,
             cs);
        if (out->symmetric && tile->i0 != tile->j0)
            copy(out->dtype, tile->plane[p], tile->ld, tile->ni, tile->nj, base + (tile->j0 * rs + tile->i0 * cs) * size,
                 cs, rs);
    }
    return 0;
}
