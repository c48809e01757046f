/* For LD_PRELOAD: a clock that can be set, and files whose operations fail, or are slow.
 *
 * libfaketime 0.9.10 changes the monotonic clock too, or else makes sleeps of Python 3.13 fail.
 * Only readings are changed, so that who waits until a time of day waits by the real clock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { READS = 1, WRITES = 2, SYNCS = 4 };

/* As tests.chaos.preload writes it. */
struct controls {
    int64_t seconds; /* that the clock is ahead */
    int64_t meant;   /* operations that fail, or are slow */
    int64_t error;   /* with which they fail; 0: they are slow */
    int64_t wait;    /* for how many microseconds */
    char part[240];  /* of the path of files on which they do */
    int64_t hits;    /* how many did, of all processes */
};

static volatile struct controls *given;

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("CHAOS_CONTROLS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, sizeof *given, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED) given = mapped;
        close(file);
    }
}

static int64_t seconds(void) { return given ? given->seconds : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += seconds();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = (int)syscall(SYS_gettimeofday, now, zone);
    if (!failed) now->tv_sec += seconds();
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static int fails(int operation, int file) {
    if (!given || !(given->meant & operation)) return 0;
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (!strstr(path, (const char *)given->part)) return 0;
    __atomic_fetch_add(&given->hits, 1, __ATOMIC_RELAXED);
    if (given->wait) usleep(given->wait);
    if (!given->error) return 0;
    errno = given->error;
    return 1;
}

ssize_t read(int file, void *into, size_t count) {
    return fails(READS, file) ? -1 : syscall(SYS_read, file, into, count);
}

ssize_t pread(int file, void *into, size_t count, off_t at) {
    return fails(READS, file) ? -1 : syscall(SYS_pread64, file, into, count, at);
}

ssize_t pread64(int file, void *into, size_t count, off64_t at) {
    return fails(READS, file) ? -1 : syscall(SYS_pread64, file, into, count, at);
}

ssize_t write(int file, const void *from, size_t count) {
    return fails(WRITES, file) ? -1 : syscall(SYS_write, file, from, count);
}

ssize_t pwrite(int file, const void *from, size_t count, off_t at) {
    return fails(WRITES, file) ? -1 : syscall(SYS_pwrite64, file, from, count, at);
}

ssize_t pwrite64(int file, const void *from, size_t count, off64_t at) {
    return fails(WRITES, file) ? -1 : syscall(SYS_pwrite64, file, from, count, at);
}

int fsync(int file) { return fails(SYNCS, file) ? -1 : (int)syscall(SYS_fsync, file); }

int fdatasync(int file) { return fails(SYNCS, file) ? -1 : (int)syscall(SYS_fdatasync, file); }
