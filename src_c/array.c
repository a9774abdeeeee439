/* array.c: the sink that writes into arrays in memory (or mapped files), of any strides. */
#include "ntkfast.h"

int nf_array_put(void *self, const nf_tile *tile, int first, int last)
{
    const nf_array *out = self;
    const nf_isa *isa = nf_isa_in_use();
    const int64_t size = out->dtype == NF_FLOAT32 ? 4 : 8;
    const int mirror = out->symmetric && tile->i0 != tile->j0 && last == tile->ni;
    for (int p = 0; p < NF_PLANES; p++) {
        const char *plane = tile->plane[p];
        if (!plane)
            continue;
        const int64_t rs = out->row_stride[p], cs = out->column_stride[p];
        char *const base = out->base[p];
        isa->put[out->dtype](plane + (int64_t)first * tile->ld * size, tile->ld, last - first, tile->nj,
                             base + ((tile->i0 + first) * rs + tile->j0 * cs) * size, rs, cs, out->stream);
        if (mirror) /* that is writing with the strides exchanged */
            isa->put[out->dtype](plane, tile->ld, tile->ni, tile->nj, base + (tile->j0 * rs + tile->i0 * cs) * size,
                                 cs, rs, out->stream);
    }
    return 0;
}
