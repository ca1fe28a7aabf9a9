/* writeloop BLOCK_BYTES [PIPE_BYTES]: writes one block to standard output again and again, until the reader
 * goes away. What a plain write can do; PIPE_BYTES resizes the pipe first (0 leaves it). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    size_t block = argc > 1 ? (size_t)atol(argv[1]) : 65536;
    int pipe_bytes = argc > 2 ? atoi(argv[2]) : 0;
    char *data = aligned_alloc(4096, (block + 4095) / 4096 * 4096);
    if (!data || block == 0) {
        fprintf(stderr, "writeloop: no buffer of %zu bytes\n", block);
        return 2;
    }
    for (size_t i = 0; i < block; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    if (pipe_bytes > 0 && fcntl(1, F_SETPIPE_SZ, pipe_bytes) < 0) {
        perror("writeloop: F_SETPIPE_SZ");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        ssize_t n = write(1, data, block);
        if (n < 0 && errno != EINTR) {
            if (errno == EPIPE)
                return 0;
            perror("writeloop: write");
            return 1;
        }
    }
}
