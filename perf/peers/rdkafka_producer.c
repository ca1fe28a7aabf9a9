/* rdkafka_producer BROKERS TOPIC RECORD_BYTES SECONDS RATE RING_BYTES WAIT_MS [PROPERTY=VALUE]…: produces to
 * partition 0 with librdkafka, RATE bytes a second (0: as fast as it goes), out of a buffer of RING_BYTES; then waits
 * until everything is delivered. produce() copies nothing; whether a request gets copies of its records or refers to
 * them is message.copy.max.bytes. Where nothing is due, or the queue is full, it waits for delivery reports, WAIT_MS at
 * most. Prints records and bytes delivered, seconds with that wait, and percentiles of the latency that librdkafka
 * tells of each record: from produce() to its delivery report. */
#define _GNU_SOURCE
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_EVERY = 1000, FLUSH_MS = 60000, STEPS = 128, OCTAVES = 64 };

/* Of latencies in microseconds: STEPS buckets in each power of two, so within 1 %. */
static uint64_t latencies[OCTAVES * STEPS];
static uint64_t delivered, delivered_bytes, failed;
static rd_kafka_resp_err_t first_error;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t bucket_of(uint64_t us)
{
    if (us < STEPS)
        return us;
    int shift = 63 - __builtin_clzll(us) - 7;
    return (size_t)(shift + 1) * STEPS + ((us >> shift) - STEPS);
}

/* The upper end of a bucket, in seconds. */
static double bucket_end(size_t bucket)
{
    size_t octave = bucket / STEPS, step = bucket % STEPS;
    double us = octave == 0 ? (double)step : (double)(((uint64_t)(STEPS + step + 1) << (octave - 1)) - 1);
    return us / 1e6;
}

static double percentile(double share)
{
    double wanted = share * (double)delivered;
    uint64_t seen = 0;
    for (size_t i = 0; i < OCTAVES * STEPS; i++) {
        seen += latencies[i];
        if (seen > 0 && (double)seen >= wanted)
            return bucket_end(i);
    }
    return 0;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    (void)rk;
    (void)opaque;
    if (message->err) {
        failed++;
        if (!first_error)
            first_error = message->err;
        return;
    }
    delivered++;
    delivered_bytes += message->len;
    int64_t us = rd_kafka_message_latency(message);
    latencies[bucket_of(us > 0 ? (uint64_t)us : 0)]++;
}

static rd_kafka_t *producer(const char *brokers, char **properties, int count)
{
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_res_t set = rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why);
    for (int i = 0; i < count && set == RD_KAFKA_CONF_OK; i++) {
        char *value = strchr(properties[i], '=');
        if (!value) {
            fprintf(stderr, "rdkafka_producer: '%s' is not PROPERTY=VALUE\n", properties[i]);
            exit(2);
        }
        *value++ = 0;
        set = rd_kafka_conf_set(conf, properties[i], value, why, sizeof why);
    }
    rd_kafka_t *rk = set == RD_KAFKA_CONF_OK ? rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why) : NULL;
    if (!rk) {
        fprintf(stderr, "rdkafka_producer: %s\n", why);
        exit(2);
    }
    return rk;
}

/* Records that are due; without a rate, always some more. */
static uint64_t due(double elapsed, double rate, size_t size, uint64_t produced)
{
    return rate > 0 ? (uint64_t)(elapsed * rate / (double)size) : produced + POLL_EVERY;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("librdkafka %s\n", rd_kafka_version_str());
        return 0;
    }
    if (argc < 8) {
        fprintf(stderr, "usage: rdkafka_producer BROKERS TOPIC RECORD_BYTES SECONDS RATE RING_BYTES WAIT_MS "
                        "[PROPERTY=VALUE]…\n");
        return 2;
    }
    size_t size = (size_t)atol(argv[3]), ring = (size_t)atol(argv[6]);
    double seconds = atof(argv[4]), rate = atof(argv[5]);
    int wait_ms = atoi(argv[7]);
    char *data = ring >= size && size > 0 ? malloc(ring) : NULL;
    if (!data) {
        fprintf(stderr, "rdkafka_producer: no records of %zu bytes in a buffer of %zu\n", size, ring);
        return 2;
    }
    for (size_t i = 0; i < ring; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    rd_kafka_t *rk = producer(argv[1], argv + 8, argc - 8);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[2], NULL);
    double start = now(), elapsed;
    uint64_t produced = 0, slots = ring / size;
    while ((elapsed = now() - start) < seconds && !failed) {
        uint64_t until = due(elapsed, rate, size, produced);
        int waits = until == produced;
        for (int n = 0; produced < until && n < POLL_EVERY; n++) {
            if (rd_kafka_produce(topic, 0, 0, data + produced % slots * size, size, NULL, 0, NULL) == 0) {
                produced++;
            } else if (rd_kafka_last_error() == RD_KAFKA_RESP_ERR__QUEUE_FULL) {
                waits = 1;
                break;
            } else {
                fprintf(stderr, "rdkafka_producer: %s\n", rd_kafka_err2str(rd_kafka_last_error()));
                return 1;
            }
        }
        rd_kafka_poll(rk, waits ? wait_ms : 0);
    }
    rd_kafka_resp_err_t flushed = rd_kafka_flush(rk, FLUSH_MS);
    elapsed = now() - start;
    if (flushed || failed || delivered != produced) {
        fprintf(stderr, "rdkafka_producer: %llu of %llu records delivered, %llu failed: %s\n",
                (unsigned long long)delivered, (unsigned long long)produced, (unsigned long long)failed,
                rd_kafka_err2str(first_error ? first_error : flushed));
        return 1;
    }
    printf("{\"records\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"p50\": %.6f, \"p99\": %.6f, \"p999\": %.6f}\n",
           (unsigned long long)delivered, (unsigned long long)delivered_bytes, elapsed, percentile(0.5),
           percentile(0.99), percentile(0.999));
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return 0;
}
