/* tiles.c: the one loop over rectangles.  It depends neither on the precision nor on the instruction set, neither on
 * what fills a rectangle (the map) nor on where it goes (the sink). */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, which -std=c11 hides */

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "ntkfast.h"

int nf_has_openmp(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}

int nf_max_threads(void)
{
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static int thread_number(void)
{
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Rows that are finished and put at a time: so few that writing to memory overlaps with computing. */
enum { STRIP = 4 };

/* A row of a tile is a little longer than a power of two, so that columns do not map to the same cache set. */
enum { PADDING = 16 };

static int64_t blocks(int64_t n, int tile)
{
    return (n + tile - 1) / tile;
}

int64_t nf_grid_tiles(const nf_grid *grid)
{
    const int64_t rows = blocks(grid->n, grid->tile);
    return grid->symmetric ? rows * (rows + 1) / 2 : rows * blocks(grid->m, nf_grid_width(grid));
}

/* Tile t, one column of tiles after the other, so that neighbours share the points of their columns. */
static void locate(int64_t t, nf_tile *tile)
{
    const nf_grid *grid = tile->grid;
    const int width = nf_grid_width(grid);
    int64_t row, column;
    if (grid->symmetric) { /* column c has c+1 tiles, c(c+1)/2 before it */
        column = (int64_t)((sqrt(8.0 * (double)t + 1.0) - 1.0) / 2.0);
        while (column * (column + 1) / 2 > t)
            column--;
        while ((column + 1) * (column + 2) / 2 <= t)
            column++;
        row = t - column * (column + 1) / 2;
    } else {
        const int64_t rows = blocks(grid->n, grid->tile);
        column = t / rows;
        row = t % rows;
    }
    tile->number = t;
    tile->i0 = row * grid->tile;
    tile->j0 = column * width;
    tile->ni = (int)(grid->n - tile->i0 < grid->tile ? grid->n - tile->i0 : grid->tile);
    tile->nj = (int)(grid->m - tile->j0 < width ? grid->m - tile->j0 : width);
}

typedef struct {
    const nf_grid *grid;
    size_t plane_bytes;
    nf_map map;
    nf_sink sink;
    const nf_watch *watch;
    int64_t last, total;
    _Atomic int64_t next, done;
    _Atomic int status; /* not NF_OK: every thread leaves */
} job;

/* The first reason to stop is the one reported. */
static void stop(job *j, int reason)
{
    int running = NF_OK;
    atomic_compare_exchange_strong(&j->status, &running, reason);
}

/* Polls the watch, on the calling thread and not too often. */
static void look(job *j, double *polled)
{
    if (!j->watch || thread_number() != 0 || now() - *polled < j->watch->interval)
        return;
    if (j->watch->poll(j->watch->self, j->done, j->total))
        stop(j, NF_STOPPED);
    *polled = now();
}

/* The work of one thread: take the next tile until none is left. */
static void work(job *j)
{
    double polled = now();
    nf_tile tile = {.grid = j->grid, .ld = nf_grid_width(j->grid) + PADDING, .status = &j->status};
    int n_planes = 0;
    for (int p = 0; p < NF_MOST_PLANES; p++)
        n_planes += (int)(j->map.planes >> p & 1);
    const size_t work_bytes = (j->map.work_bytes + 63) / 64 * 64;
    const size_t bytes = (size_t)(n_planes + j->map.n_scratch) * j->plane_bytes + work_bytes;
    char *memory = aligned_alloc(64, bytes);
    if (!memory) {
        stop(j, NF_NO_MEMORY);
        return;
    }
    memset(memory, 0, bytes); /* lanes past the edge are computed too */
    char *next = memory;
    for (int p = 0; p < NF_MOST_PLANES; p++)
        if (j->map.planes >> p & 1)
            tile.plane[p] = next, next += j->plane_bytes;
    for (int k = 0; k < j->map.n_scratch; k++)
        tile.scratch[k] = next, next += j->plane_bytes;
    tile.work = next;

    while (j->status == NF_OK) {
        const int64_t t = atomic_fetch_add(&j->next, 1);
        if (t >= j->last)
            break;
        locate(t, &tile);
        if (j->sink.begin && j->sink.begin(j->sink.self, &tile))
            stop(j, NF_STOPPED);
        for (int step = 0; j->status == NF_OK && j->map.open(j->map.self, &tile, step); step++)
            look(j, &polled);
        for (int first = 0; first < tile.ni && j->status == NF_OK; first += STRIP) {
            const int last = first + STRIP < tile.ni ? first + STRIP : tile.ni;
            j->map.rows(j->map.self, &tile, first, last);
            if (j->sink.put && j->sink.put(j->sink.self, &tile, first, last))
                stop(j, NF_STOPPED);
            look(j, &polled);
        }
        if (j->status == NF_OK && j->sink.end && j->sink.end(j->sink.self, &tile))
            stop(j, NF_STOPPED);
        atomic_fetch_add(&j->done, 1);
    }
    free(memory);
}

nf_status nf_run(const nf_grid *grid, nf_map map, nf_sink sink, int64_t first, int64_t last, const nf_watch *watch,
                 int n_threads)
{
    job j = {.grid = grid, .map = map, .sink = sink, .watch = watch, .last = last, .total = last - first};
    j.next = first;
    j.plane_bytes = (size_t)grid->tile * (size_t)(nf_grid_width(grid) + PADDING) * (grid->dtype == NF_FLOAT32 ? 4 : 8);
    if (n_threads > j.total)
        n_threads = (int)(j.total > 0 ? j.total : 1);
    if (n_threads < 2) { /* without OpenMP, which allocates even for a team of one, and ends the process if it cannot */
        work(&j);
    } else {
#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads)
#endif
        work(&j);
    }
    return (nf_status)atomic_load(&j.status);
}
