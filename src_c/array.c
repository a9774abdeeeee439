/* array.c: the sink that writes into arrays in memory (or mapped files), of any strides. */
#include "ntkfast.h"

/* Rows first .. last of every plane, or of its mirror image, which is written with the strides exchanged. */
static void write(const nf_array *out, const nf_tile *tile, int first, int last, int mirrored)
{
    const nf_dtype dtype = tile->grid->dtype;
    const int64_t size = dtype == NF_FLOAT32 ? 4 : 8;
    for (int p = 0; p < NF_MOST_PLANES; p++) {
        const char *plane = tile->plane[p];
        if (!plane)
            continue;
        const int64_t rs = mirrored ? out->column_stride[p] : out->row_stride[p];
        const int64_t cs = mirrored ? out->row_stride[p] : out->column_stride[p];
        char *to = (char *)out->base[p] + ((tile->i0 + first) * rs + tile->j0 * cs) * size;
        nf_isa_in_use()->put[dtype](plane + (int64_t)first * tile->ld * size, tile->ld, last - first, tile->nj, to, rs,
                                    cs, out->stream);
    }
}

int nf_array_put(void *self, const nf_tile *tile, int first, int last)
{
    write(self, tile, first, last, 0);
    return 0;
}

int nf_array_end(void *self, const nf_tile *tile)
{
    if (tile->grid->symmetric && tile->i0 != tile->j0)
        write(self, tile, 0, tile->ni, 1);
    return 0;
}
