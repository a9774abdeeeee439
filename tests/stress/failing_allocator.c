/* An allocator in front of glibc's (LD_PRELOAD) that fails one request, once: number `k` since failing_arm, of the thread that
 * armed it or of all threads, counting either every request or only those whose caller is the code between two addresses.
 * The stack at the failure is kept, so that one can tell whose request it was; if the process crashes, both are written. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

enum { FRAMES = 40 };
static _Atomic long asked, failing;
static _Atomic int armed, every_thread;
static uintptr_t low, high;
static __thread int is_armer, is_inside;
static void *frames[FRAMES];
static int n_frames;

static int fails(uintptr_t caller)
{
    if (!armed || is_inside || !(is_armer || every_thread) || (high && (caller < low || caller >= high)))
        return 0;
    if (atomic_fetch_add(&asked, 1) + 1 != failing)
        return 0;
    is_inside = 1;
    n_frames = backtrace(frames, FRAMES);
    is_inside = 0;
    errno = ENOMEM;
    return 1;
}
#define FAILS fails((uintptr_t)__builtin_return_address(0))

void *malloc(size_t n) { return FAILS ? NULL : __libc_malloc(n); }
void *calloc(size_t k, size_t n) { return FAILS ? NULL : __libc_calloc(k, n); }
void *realloc(void *p, size_t n) { return FAILS ? NULL : __libc_realloc(p, n); }
void *memalign(size_t a, size_t n) { return FAILS ? NULL : __libc_memalign(a, n); }
void *aligned_alloc(size_t a, size_t n) { return FAILS ? NULL : __libc_memalign(a, n); }

int posix_memalign(void **p, size_t a, size_t n)
{
    if (FAILS || !(*p = __libc_memalign(a, n)))
        return ENOMEM;
    return 0;
}

/* Frames as lines "library symbol". */
static int described(void **which, int n, char *text, int size)
{
    int used = 0;
    for (int k = 0; k < n; k++) {
        Dl_info at;
        if (!dladdr(which[k], &at))
            continue;
        const char *name = at.dli_fname;
        for (const char *c = name; *c; c++)
            if (*c == '/')
                name = c + 1;
        const int more = snprintf(text + used, (size_t)(size - used), "%s %s\n", name, at.dli_sname ? at.dli_sname : "?");
        if (more < 0 || more >= size - used)
            break;
        used += more;
    }
    text[used] = 0;
    return used;
}

/* The stack of the failure, but for this file's own frames. */
int failing_stack(char *text, int size)
{
    return described(frames + 2, n_frames > 2 ? n_frames - 2 : 0, text, size);
}

/* A crash, which ends the process anyway: what it is made of is taken without regard to what a handler may do. */
static void crashed(int number)
{
    static char text[20000];
    void *here[FRAMES];
    is_inside = 1;
    const int used = described(here + 2, backtrace(here, FRAMES) - 2, text, sizeof text);
    const int more = failing_stack(text + used + 1, (int)sizeof text - used - 1);
    text[used] = '\n'; /* an empty line between them */
    if (write(2, "crashed:\n", 9) < 0 || write(2, text, (size_t)(used + 1 + more)) < 0)
        _exit(1);
    signal(number, SIG_DFL);
    raise(number);
}

/* from, upto: of the callers' code; 0, 0: any. */
void failing_arm(long k, int all_threads, uintptr_t from, uintptr_t upto)
{
    void *warm[1];
    backtrace(warm, 1); /* loads what it needs */
    signal(SIGSEGV, crashed), signal(SIGBUS, crashed), signal(SIGABRT, crashed);
    every_thread = all_threads;
    low = from, high = upto;
    n_frames = 0;
    failing = k;
    asked = 0;
    is_armer = 1;
    armed = 1;
}

long failing_disarm(void)
{
    armed = is_armer = 0;
    return asked;
}
