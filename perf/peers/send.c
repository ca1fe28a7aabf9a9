/* send HOST:PORT BLOCK_BYTES SECONDS [RING_BYTES]: sends block after block out of a buffer of RING_BYTES (one block
 * unless given) over one TCP connection with blocking send(), then waits until the peer's TCP has acknowledged all.
 * What a bare loop can do. Prints bytes and seconds, the wait included. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int dial(const char *address)
{
    char host[64];
    int port = 0;
    struct sockaddr_in peer = {.sin_family = AF_INET};
    if (sscanf(address, "%63[^:]:%d", host, &port) != 2 || inet_pton(AF_INET, host, &peer.sin_addr) != 1) {
        fprintf(stderr, "send: '%s' is no IPv4 address and port\n", address);
        exit(2);
    }
    peer.sin_port = htons((uint16_t)port);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (s < 0 || connect(s, (struct sockaddr *)&peer, sizeof peer) < 0) {
        perror("send: connect");
        exit(1);
    }
    return s;
}

int main(int argc, char **argv)
{
    size_t block = argc > 2 ? (size_t)atol(argv[2]) : 0, ring = argc > 4 ? (size_t)atol(argv[4]) : block;
    double seconds = argc > 3 ? atof(argv[3]) : 0;
    if (block == 0 || seconds <= 0 || ring < block) {
        fprintf(stderr, "usage: send HOST:PORT BLOCK_BYTES SECONDS [RING_BYTES]\n");
        return 2;
    }
    ring = ring / block * block;
    char *data = aligned_alloc(4096, (ring + 4095) / 4096 * 4096);
    if (!data) {
        fprintf(stderr, "send: no buffer of %zu bytes\n", ring);
        return 2;
    }
    for (size_t i = 0; i < ring; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    int s = dial(argv[1]), unread = 0;
    double start = now();
    uint64_t bytes = 0;
    for (size_t at = 0; now() - start < seconds; at = (at + block) % ring) {
        for (size_t sent = 0; sent < block;) {
            ssize_t n = send(s, data + at + sent, block - sent, MSG_NOSIGNAL);
            if (n < 0 && errno != EINTR) {
                perror("send");
                return 1;
            }
            if (n > 0)
                sent += (size_t)n;
        }
        bytes += block;
    }
    shutdown(s, SHUT_WR);
    do {
        if (ioctl(s, SIOCOUTQ, &unread) < 0) {
            perror("send: SIOCOUTQ");
            return 1;
        }
        if (now() - start > seconds + 30) {
            fprintf(stderr, "send: %d bytes are unacknowledged after 30 s\n", unread);
            return 1;
        }
    } while (unread > 0);
    printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)bytes, now() - start);
    return 0;
}
