/* queue.c: partial results of tiles, passed on in tile order, for sums whose bits do not depend on threads. */
#define _POSIX_C_SOURCE 200809L

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "ntkfast.h"

/* A tile waits for the one n_slots before it: with two slots per thread that hardly ever happens. */
typedef struct {
    _Atomic int full;
    nf_tile tile;
} entry;

struct nf_queue {
    int n_slots;
    size_t slot_bytes;
    char *slots;
    entry *entries;
    _Atomic int64_t head; /* the next tile to be taken */
    atomic_flag taking;
};

nf_queue *nf_queue_new(int n_threads, int64_t first, size_t slot_bytes)
{
    const int n_slots = 2 * n_threads + 1;
    const size_t rounded = (slot_bytes + 63) / 64 * 64;
    nf_queue *queue = calloc(1, sizeof *queue);
    if (!queue)
        return NULL;
    queue->n_slots = n_slots;
    queue->slot_bytes = rounded;
    queue->slots = aligned_alloc(64, (size_t)n_slots * rounded);
    queue->entries = calloc((size_t)n_slots, sizeof(entry));
    atomic_init(&queue->head, first);
    atomic_flag_clear(&queue->taking);
    if (!queue->slots || !queue->entries) {
        nf_queue_free(queue);
        return NULL;
    }
    return queue;
}

void nf_queue_free(nf_queue *queue)
{
    if (!queue)
        return;
    free(queue->slots);
    free(queue->entries);
    free(queue);
}

void *nf_queue_slot(const nf_queue *queue, const nf_tile *tile)
{
    return queue->slots + (size_t)(tile->number % queue->n_slots) * queue->slot_bytes;
}

void *nf_queue_enter(nf_queue *queue, const nf_tile *tile)
{
    while (tile->number >= queue->head + queue->n_slots) {
        if (*tile->status != NF_OK)
            return NULL;
        sched_yield();
    }
    void *slot = nf_queue_slot(queue, tile);
    memset(slot, 0, queue->slot_bytes);
    return slot;
}

void nf_queue_leave(nf_queue *queue, const nf_tile *tile,
                    void (*take)(void *self, const nf_tile *tile, const void *slot), void *self)
{
    entry *mine = &queue->entries[tile->number % queue->n_slots];
    mine->tile = *tile;
    mine->full = 1;
    /* The taking thread checks again after clearing the flag: a tile that finished meanwhile found the flag set. */
    for (entry *next = &queue->entries[queue->head % queue->n_slots]; next->full;
         next = &queue->entries[queue->head % queue->n_slots]) {
        if (atomic_flag_test_and_set(&queue->taking))
            return;
        next = &queue->entries[queue->head % queue->n_slots];
        while (next->full) {
            take(self, &next->tile, nf_queue_slot(queue, &next->tile));
            next->full = 0;
            queue->head++;
            next = &queue->entries[queue->head % queue->n_slots];
        }
        atomic_flag_clear(&queue->taking);
    }
}

void nf_add(double *restrict to, const double *restrict from, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        to[k] += from[k];
}
