// What it takes to hand a cache line from one processor to another and back, halved: nanoseconds, on standard output.
//
//     hop CPU CPU
//
// Two processors of a virtual machine may share a cache at one time and not at another; the figures of everything that
// hands work between them then differ by half, and this tells the two apart.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 20000 };

static _Alignas(128) atomic_int turn;

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        perror("sched_setaffinity");
        exit(1);
    }
}

static void *answer(void *cpu) {
    pin(*(int *)cpu);
    for (int round = 0; round < ROUNDS; round++) {
        while (atomic_load(&turn) != 2 * round + 1) {}
        atomic_store(&turn, 2 * round + 2);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: hop CPU CPU\n");
        return 2;
    }
    int here = atoi(argv[1]), there = atoi(argv[2]);
    pthread_t other;
    if (pthread_create(&other, NULL, answer, &there) != 0) return 1;
    pin(here);
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (int round = 0; round < ROUNDS; round++) {
        atomic_store(&turn, 2 * round + 1);
        while (atomic_load(&turn) != 2 * round + 2) {}
        // The first rounds wait for the other thread to start.
        if (round == ROUNDS / 4) clock_gettime(CLOCK_MONOTONIC, &began);
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    pthread_join(other, NULL);
    double ns = (ended.tv_sec - began.tv_sec) * 1e9 + (ended.tv_nsec - began.tv_nsec);
    printf("%.1f\n", ns / (2.0 * (ROUNDS - ROUNDS / 4 - 1)));
    return 0;
}
