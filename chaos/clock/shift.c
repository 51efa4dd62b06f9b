/* A clock that is wrong, for one process: preloaded, it stands before the C library's. Needs no privilege.
 *
 *   CHAOS_CLOCK_AHEAD   seconds by which the wall clock is ahead; may be negative
 *   CHAOS_CLOCK_RATE    how fast both clocks run, in millionths of the right speed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static long long ahead, rate = 1000000;
static long long wall_begin, steady_begin;

static long long nanos(clockid_t clock)
{
    struct timespec now;
    real(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long asked(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    return text ? atoll(text) : otherwise;
}

__attribute__((constructor)) static void begin(void)
{
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    ahead = asked("CHAOS_CLOCK_AHEAD", 0);
    rate = asked("CHAOS_CLOCK_RATE", 1000000);
    wall_begin = nanos(CLOCK_REALTIME);
    steady_begin = nanos(CLOCK_MONOTONIC);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!real)
        begin();
    int wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    int steady = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME;
    if (!wall && !steady)
        return real(clock, now);
    int failed = real(clock, now);
    if (failed)
        return failed;
    long long origin = wall ? wall_begin : steady_begin;
    long long passed = now->tv_sec * 1000000000LL + now->tv_nsec - origin;
    long long shown = origin + passed / 1000 * rate / 1000 + (wall ? ahead * 1000000000LL : 0);
    now->tv_sec = shown / 1000000000LL;
    now->tv_nsec = shown % 1000000000LL;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec wall;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &wall))
        return -1;
    now->tv_sec = wall.tv_sec;
    now->tv_usec = wall.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now)
{
    struct timespec wall;
    if (clock_gettime(CLOCK_REALTIME, &wall))
        return -1;
    if (now)
        *now = wall.tv_sec;
    return wall.tv_sec;
}
