/* recv_copy [BLOCK_BYTES]: listens on a free port of 127.0.0.1 and reads what comes into a buffer of BLOCK_BYTES
 * (1 MiB), one connection after the other, until a signal ends it. Reads as iperf3's server does: into a buffer that
 * starts with a page, where it sleeps until something is there, then copies until the block is full or nothing is
 * left. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* 0 at the end of the connection. */
static int read_block(int s, char *block, size_t size)
{
    struct pollfd readable = {.fd = s, .events = POLLIN};
    if (poll(&readable, 1, -1) < 0)
        return errno == EINTR;
    for (size_t have = 0; have < size;) {
        ssize_t n = recv(s, block + have, size - have, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return 1;
        if (n <= 0)
            return 0;
        have += (size_t)n;
    }
    return 1;
}

int main(int argc, char **argv)
{
    size_t size = argc > 1 ? (size_t)atol(argv[1]) : 1 << 20;
    char *block = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (size == 0 || !block || listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof own) < 0 ||
        listen(listener, 16) < 0 || getsockname(listener, (struct sockaddr *)&own, &length) < 0) {
        perror("recv_copy");
        return 2;
    }
    memset(block, 0, size);
    printf("listening on tcp://127.0.0.1:%d\n", ntohs(own.sin_port));
    fflush(stdout);
    for (;;) {
        int s = accept(listener, NULL, NULL);
        if (s < 0 && errno == EINTR)
            continue;
        if (s < 0) {
            perror("recv_copy: accept");
            return 1;
        }
        while (read_block(s, block, size))
            ;
        close(s);
    }
}
