# syntax=docker/dockerfile:1
# The engine on a bare Debian: no shell tools are added, nobody is root, nothing is written unless flags say so.
#
#   docker build --tag engine --build-arg REVISION="$(git rev-parse HEAD)" .
#   docker run --rm engine                      prints help
#   docker run --rm engine --target null --duration 5s

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
# Debug information stays behind; symbols stay, for backtraces and perf.
RUN cargo build --release --locked --bin engine \
    && install -D --mode=0755 target/release/engine /out/engine \
    && strip --strip-debug /out/engine

# glibc, since names are resolved by the system's resolver; bash is there for the health check.
FROM debian:bookworm-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="engine" \
      org.opencontainers.image.description="Paced, verified, observable ingest traffic" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"

# TLS trusts the authorities that Debian trusts; the slim image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/engine /usr/local/bin/engine
COPY --chmod=0755 deploy/healthcheck.sh /usr/local/bin/engine-healthcheck

# Numeric, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 65532:65532
# A mounted volume, or a tmpfs, is where files may go.
WORKDIR /data
# The health check asks there; another address: --env ENGINE_METRICS_ADDR=…
ENV ENGINE_METRICS_ADDR=:9090
EXPOSE 9090
# SIGTERM stops the pacing, drains and writes the report.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["engine-healthcheck"]
ENTRYPOINT ["engine"]
# Without arguments the engine would measure the drive below it: in a container it prints help instead.
CMD ["--help"]
