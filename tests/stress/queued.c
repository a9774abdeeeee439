/* queued.c: the loop over tiles and the queue of their sums, on a matrix whose sums are known; see sanitizers.py.
 *
 * PLANTED, which is for the tools to find: 1 writes past the end of a tile, 2 overflows an int, 3 loses memory.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "ntkfast.h"

#ifndef PLANTED
#define PLANTED 0
#endif

enum { N = 900, THREADS = 3, RUNS = 5 };

typedef struct {
    nf_queue *queue;
    double sum[N];
} sums;

static int open_tile(const void *self, nf_tile *tile, int step)
{
    (void)self, (void)tile, (void)step;
    return 0;
}

/* K[i, j] = i + 2 j */
static void rows(const void *self, nf_tile *tile, int first, int last)
{
    double *plane = tile->plane[0];
    (void)self;
    for (int i = first; i < last; i++)
        for (int j = 0; j < tile->nj; j++)
            plane[(int64_t)i * tile->ld + j] = (double)(tile->i0 + i + 2 * (tile->j0 + j));
    if (PLANTED == 1)
        plane[(int64_t)tile->grid->tile * tile->ld] = 0;
}

static int begin(void *self, const nf_tile *tile)
{
    return nf_queue_enter(((sums *)self)->queue, tile) == NULL;
}

static int put(void *self, const nf_tile *tile, int first, int last)
{
    double *slot = nf_queue_slot(((sums *)self)->queue, tile);
    const double *plane = tile->plane[0];
    for (int i = first; i < last; i++)
        for (int j = 0; j < tile->nj; j++)
            slot[i] += plane[(int64_t)i * tile->ld + j];
    return 0;
}

static void take(void *self, const nf_tile *tile, const void *slot)
{
    nf_add(((sums *)self)->sum + tile->i0, slot, tile->ni);
}

static int end(void *self, const nf_tile *tile)
{
    nf_queue_leave(((sums *)self)->queue, tile, take, self);
    return 0;
}

static int poll_done(void *self, int64_t done, int64_t total)
{
    *(int64_t *)self = done;
    return done > total;
}

int main(void)
{
    const nf_grid grid = {N, N, NF_LANES, 0, NF_FLOAT64, 0};
    int n_wrong = 0;
    for (int run = 0; run < RUNS; run++) {
        sums sink = {nf_queue_new(THREADS, 0, NF_LANES * sizeof(double)), {0}};
        int64_t done;
        const nf_watch watch = {poll_done, &done, 0};
        if (!sink.queue || nf_run(&grid, (nf_map){open_tile, rows, NULL, 1, 0, 0}, (nf_sink){begin, put, end, &sink}, 0,
                                  nf_grid_tiles(&grid), &watch, THREADS) != NF_OK)
            return 1;
        nf_queue_free(sink.queue);
        for (int i = 0; i < N; i++)
            n_wrong += sink.sum[i] != (double)N * i + (double)N * (N - 1);
    }
    volatile int most = INT_MAX;
    if (PLANTED == 2)
        most += 1;
    if (PLANTED == 3)
        *(volatile char *)malloc(1) = 0;
    printf("queued: %d sums, %d wrong\n", RUNS * N, n_wrong);
    return n_wrong != 0;
}
