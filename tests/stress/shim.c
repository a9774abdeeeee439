/* Preloaded into a process (LD_PRELOAD): its calls that change files below one folder are counted and written to a log;
 * the k-th of a kind can be made to fail, and the disk to be full after so many bytes. Until `stress_arm`, and for files
 * elsewhere, calls pass through. One process at a time is armed; its threads share the counts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, FSYNC, RENAME, RESERVE, KINDS };
static const char *const NAMES[KINDS] = {"open", "write", "fsync", "rename", "reserve"};

static char below[4096];
static size_t length;
static int failing = -1, with_error, log_file = -1;
static long at;
static atomic_long counts[KINDS], room = -1; /* room: bytes, -1: no limit */

/* Calls below `folder` from now on; kind -1: none fails. bytes -1: the disk is not full. to -1: no log. */
void stress_arm(const char *folder, int kind, long k, int error, long bytes, int to)
{
    for (int i = 0; i < KINDS; i++)
        counts[i] = 0;
    failing = kind, at = k, with_error = error, log_file = to;
    room = bytes;
    snprintf(below, sizeof below, "%s/", folder);
    length = strlen(below);
}

long stress_count(int kind) { return counts[kind]; }

static int inside(const char *path) /* or the folder itself */
{
    return length && path && !strncmp(path, below, length - 1) && (path[length - 1] == '/' || !path[length - 1]);
}

static const char *path_of(int fd, char *buffer, size_t size)
{
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, name, buffer, size - 1);
    buffer[n > 0 ? n : 0] = 0;
    return buffer;
}

/* Count a call; 1 if it is to fail. */
static int counted(int kind, const char *path, const char *detail)
{
    if (!inside(path))
        return 0;
    if (log_file >= 0) {
        char line[9000];
        int n = snprintf(line, sizeof line, "%s %s %.400s", NAMES[kind], path, detail);
        for (int i = 0; i < n; i++)
            if (line[i] == '\n')
                line[i] = ' ';
        line[n++] = '\n';
        syscall(SYS_write, log_file, line, n);
    }
    if (++counts[kind] != at || kind != failing)
        return 0;
    errno = with_error;
    return 1;
}

/* How many of these bytes the disk takes. */
static long taken(const char *path, long bytes)
{
    if (room < 0 || !inside(path))
        return bytes;
    long left = room;
    while (!atomic_compare_exchange_weak(&room, &left, left > bytes ? left - bytes : 0))
        ;
    return left > bytes ? bytes : left;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); \
    mode = va_arg(more, mode_t); va_end(more); }
#define OPENS(name) int name(const char *path, int flags, ...) { REAL(name); MODE(flags) \
    return counted(OPEN, path, "") ? -1 : real(path, flags, mode); }
#define OPENS_AT(name) int name(int at, const char *path, int flags, ...) { REAL(name); MODE(flags) \
    return counted(OPEN, path, "") ? -1 : real(at, path, flags, mode); }
#define FOPENS(name) FILE *name(const char *path, const char *how) { REAL(name); \
    return counted(OPEN, path, "") ? NULL : real(path, how); }
#define SYNCS(name) int name(int fd) { REAL(name); char path[4096]; \
    return counted(FSYNC, path_of(fd, path, sizeof path), "") ? -1 : real(fd); }
#define TRUNCATES(name, type) int name(int fd, type size) { REAL(name); char path[4096]; \
    return counted(RESERVE, path_of(fd, path, sizeof path), "") ? -1 : real(fd, size); }
#define ALLOCATES(name, type) int name(int fd, type start, type size) { REAL(name); char path[4096]; \
    path_of(fd, path, sizeof path); if (counted(RESERVE, path, "")) return errno; \
    return taken(path, size) < size ? ENOSPC : real(fd, start, size); }

OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)
FOPENS(fopen)
FOPENS(fopen64)
SYNCS(fsync)
SYNCS(fdatasync)
TRUNCATES(ftruncate, off_t)
TRUNCATES(ftruncate64, off64_t)
ALLOCATES(posix_fallocate, off_t)
ALLOCATES(posix_fallocate64, off64_t)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    char path[4096], detail[41] = "";
    if (!length) /* also for whoever writes before the first call is resolved */
        return real(fd, data, size);
    path_of(fd, path, sizeof path);
    if (size < 100)
        memcpy(detail, data, size < 40 ? size : 40);
    if (counted(WRITE, path, detail))
        return -1;
    long part = taken(path, (long)size);
    if (size && !part) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, data, (size_t)part);
}

size_t fwrite(const void *data, size_t size, size_t n, FILE *file)
{
    REAL(fwrite);
    char path[4096];
    if (!length || !size)
        return real(data, size, n, file);
    path_of(fileno(file), path, sizeof path);
    if (counted(WRITE, path, ""))
        return 0;
    size_t part = (size_t)taken(path, (long)(size * n)) / size;
    size_t done = real(data, size, part, file);
    if (part < n)
        errno = ENOSPC;
    return done;
}

int rename(const char *from, const char *to)
{
    REAL(rename);
    return counted(RENAME, to, from) ? -1 : real(from, to);
}
