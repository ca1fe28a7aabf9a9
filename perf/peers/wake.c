/* wake PER_SECOND SECONDS: sleeps until each of so many due times a second, which are counted from one start, and
 * prints how late it woke, in seconds. What a thread gets that does nothing else; timers are as precise as the
 * engine's core threads ask for. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { SECOND_NS = 1000000000, FIRST_NS = 1000000 };

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* So many in 10000 of the sorted values are no larger than this, in seconds. */
static double quantile(const int64_t *sorted, size_t count, size_t of_10000)
{
    return sorted[(count * of_10000 + 9999) / 10000 - 1] / 1e9;
}

int main(int argc, char **argv)
{
    long per_second = argc > 1 ? atol(argv[1]) : 1000;
    double seconds = argc > 2 ? atof(argv[2]) : 3;
    size_t count = per_second > 0 && seconds > 0 ? (size_t)(per_second * seconds) : 0;
    int64_t *late = calloc(count + 1, sizeof *late);
    if (count == 0 || !late) {
        fprintf(stderr, "usage: wake PER_SECOND SECONDS\n");
        return 2;
    }
    memset(late, 1, (count + 1) * sizeof *late);
    if (prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL) < 0) {
        perror("wake: PR_SET_TIMERSLACK");
        return 1;
    }
    int64_t start = now_ns() + FIRST_NS;
    for (size_t i = 0; i < count; i++) {
        int64_t due = start + (int64_t)i * SECOND_NS / per_second;
        struct timespec at = {.tv_sec = due / SECOND_NS, .tv_nsec = due % SECOND_NS};
        int error;
        do
            error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        while (error == EINTR);
        if (error != 0) {
            fprintf(stderr, "wake: clock_nanosleep: %s\n", strerror(error));
            return 1;
        }
        late[i] = now_ns() - due;
    }
    qsort(late, count, sizeof *late, by_size);
    printf("{\"p50\": %.9f, \"p99\": %.9f, \"p999\": %.9f, \"max\": %.9f}\n", quantile(late, count, 5000),
           quantile(late, count, 9900), quantile(late, count, 9990), late[count - 1] / 1e9);
    return 0;
}
