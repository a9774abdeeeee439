/* normal.c: the sink that multiplies K'K by vectors in one pass over K, and keeps none of it. */
#include "ntkfast.h"

/* Columns at a time: their part of v and of the sums is in L1 for all rows of a tile. */
enum { COLUMNS = 512 };

/* K v for the rows of a tile, then the part of the tile, panel by panel. */
static int64_t part_size(const nf_vectors *sink, const nf_grid *grid)
{
    return sink->width * grid->m;
}

size_t nf_normal_bytes(const nf_vectors *sink, const nf_grid *grid)
{
    const int64_t panel = part_size(sink, grid) + (int64_t)sink->width * grid->tile;
    return (size_t)(sink->n_panels * panel) * sizeof(double);
}

int nf_normal_begin(void *self, const nf_tile *tile)
{
    const nf_vectors *sink = self;
    return nf_queue_enter(sink->queue, tile) == NULL;
}

/* images <- images + K v, or, if v is NULL, part <- part + K' images */
static void multiply(const nf_vectors *sink, const nf_tile *tile, const double *v, double *images, double *part)
{
    const nf_dtype dtype = tile->grid->dtype;
    const int width = sink->width;
    for (int j = 0; j < tile->nj; j += COLUMNS) {
        const char *from = (const char *)tile->plane[sink->plane] + (int64_t)j * (dtype == NF_FLOAT32 ? 4 : 8);
        const int nj = tile->nj - j < COLUMNS ? tile->nj - j : COLUMNS;
        nf_isa_in_use()->product[dtype](from, tile->ld, tile->ni, nj, width, v ? v + (int64_t)j * width : NULL, images,
                                        v ? NULL : images, part + (int64_t)j * width);
    }
}

static void take(void *self, const nf_tile *tile, const void *slot)
{
    const nf_vectors *sink = self;
    nf_add(sink->sum, slot, sink->n_panels * part_size(sink, tile->grid));
}

int nf_normal_end(void *self, const nf_tile *tile)
{
    const nf_vectors *sink = self;
    const int64_t size = part_size(sink, tile->grid);
    double *parts = nf_queue_slot(sink->queue, tile), *images = parts + sink->n_panels * size;
    for (int p = 0; p < sink->n_panels; p++) {
        double *image = images + (int64_t)p * sink->width * tile->grid->tile;
        multiply(sink, tile, sink->v + p * size, image, parts + p * size);
        multiply(sink, tile, NULL, image, parts + p * size);
    }
    nf_queue_leave(sink->queue, tile, take, self);
    return 0;
}
