/* memcpy SECONDS [MIB]: copies a buffer of MIB mebibytes (256) again and again on one core; prints what it
 * moved. The yardstick of the row `null`: what a core needs to touch every byte once. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 3;
    size_t size = (size_t)(argc > 2 ? atol(argv[2]) : 256) << 20;
    char *from = malloc(size), *to = malloc(size);
    if (!from || !to) {
        fprintf(stderr, "memcpy: no memory for two buffers of %zu bytes\n", size);
        return 1;
    }
    memset(from, 1, size);
    memset(to, 2, size);
    double start = now(), end;
    uint64_t bytes = 0;
    do {
        memcpy(to, from, size);
        __asm__ volatile("" : : "r"(to) : "memory");
        bytes += size;
        end = now();
    } while (end - start < seconds);
    printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)bytes, end - start);
    return 0;
}
