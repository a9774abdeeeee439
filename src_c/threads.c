/* threads.c: teams of POSIX threads in place of libgomp, for `make tsan` and `make valgrind` alone.
 *
 * These tools understand pthread_create and pthread_join.  They do not see the futexes of libgomp, whose end of a
 * parallel region would be a race to them, and its threads, which are kept, a leak.  The functions are those that gcc
 * calls for the OpenMP in src_c; any other is missing when smoke is linked.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 64 };

typedef struct {
    void (*body)(void *);
    void *data;
    int number, size;
} member;

static _Thread_local member me = {.size = 1};

int omp_get_thread_num(void)
{
    return me.number;
}

int omp_get_num_threads(void)
{
    return me.size;
}

int omp_get_max_threads(void)
{
    return MOST;
}

static void *enter(void *self)
{
    me = *(const member *)self;
    me.body(me.data);
    return NULL;
}

void GOMP_parallel(void (*body)(void *), void *data, unsigned n_threads, unsigned flags)
{
    pthread_t thread[MOST];
    member members[MOST];
    (void)flags;
    if (n_threads < 1 || n_threads > MOST || me.size != 1) {
        printf("threads: a team of %u, in one of %d\n", n_threads, me.size);
        abort();
    }
    const member before = me;
    for (unsigned k = 0; k < n_threads; k++)
        members[k] = (member){body, data, (int)k, (int)n_threads};
    for (unsigned k = 1; k < n_threads; k++)
        if (pthread_create(&thread[k], NULL, enter, &members[k]))
            abort();
    enter(&members[0]);
    for (unsigned k = 1; k < n_threads; k++)
        pthread_join(thread[k], NULL);
    me = before;
}
