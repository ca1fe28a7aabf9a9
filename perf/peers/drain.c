/* drain read|splice SECONDS [SKIP_SECONDS]: takes standard input in pieces of up to 1 MiB and drops it.
 * Counts from SKIP_SECONDS after the first byte, for SECONDS or until the end, then goes away. Prints to
 * standard error what it saw, and when the first byte came (CLOCK_MONOTONIC). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int splices = argc > 1 && strcmp(argv[1], "splice") == 0;
    double seconds = argc > 2 ? atof(argv[2]) : 3, skip = argc > 3 ? atof(argv[3]) : 0;
    int null = open("/dev/null", O_WRONLY);
    char *piece = aligned_alloc(4096, PIECE);
    if (null < 0 || !piece) {
        perror("drain");
        return 2;
    }
    memset(piece, 0, PIECE);
    double first = 0, from = 0, at = 0;
    uint64_t bytes = 0, total = 0;
    for (;;) {
        ssize_t n = splices ? splice(0, NULL, null, NULL, PIECE, SPLICE_F_MOVE) : read(0, piece, PIECE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            perror("drain");
            return 1;
        }
        if (n == 0)
            break;
        at = now();
        if (total == 0)
            first = at;
        total += (uint64_t)n;
        if (from > 0)
            bytes += (uint64_t)n;
        else if (at - first >= skip)
            from = at;
        if (from > 0 && at - from >= seconds)
            break;
    }
    fprintf(stderr, "{\"first_byte\": %.9f, \"bytes\": %llu, \"seconds\": %.6f, \"total\": %llu}\n", first,
            (unsigned long long)bytes, from > 0 ? at - from : 0.0, (unsigned long long)total);
    return 0;
}
