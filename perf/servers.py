"""The other ends that rows send to. Each is a context: it is started, ready, and ended again by its own process id."""

import os
import re
import select
import shlex
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import harness as h

READY_SECONDS = 30


@dataclass
class Server:
    """One that can be reached."""

    host: str
    port: int
    command: str

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def describe(self, run):
        """The server's command and the peer's, the same however the port came out."""
        both = f"{self.command} & {run.command}"
        run.command = re.sub(rf"\b{self.port}\b", "PORT", both)
        return run


def against(server, send):
    """One run of a peer to a server of its own, so that no two of them poll on one core."""
    with server as there:
        return there.describe(send(there))


@contextmanager
def daemon(words):
    """Yields the process and what reads its log; ends it, and it alone."""
    with open(h.scratch("server.txt"), "w+", encoding="utf-8") as errors:
        process = h.start(words, stdout=subprocess.PIPE, stderr=errors)

        def log():
            errors.seek(0)
            return f"{h.words(words)}\n{errors.read()[-2000:]}"

        try:
            yield process, log
            if process.poll() is not None:
                raise h.RowError(f"ended early with exit code {process.returncode}: {log()}")
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


@contextmanager
def announced(words, pattern=r"listening on \w+://([^ ]+):(\d+)"):
    """A server that says on standard output where it listens."""
    with daemon(words) as (process, log):
        until, said, found = time.monotonic() + READY_SECONDS, b"", None
        while not found:
            ready, _, _ = select.select([process.stdout], [], [], max(until - time.monotonic(), 0))
            news = os.read(process.stdout.fileno(), 4096) if ready else b""
            if not news:
                raise h.RowError(f"does not listen: {log()}")
            said += news
            # Whole lines only: half a port is a port, too.
            found = re.search(pattern, said[: said.rfind(b"\n") + 1].decode())
        *host, port = found.groups()
        yield Server(host[0] if host else "127.0.0.1", int(port), h.words(words))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def receiver(ctx, scheme, *flags):
    """`engine receive`, which busy-polls on core 1, and discards unless the flags say otherwise."""
    return announced([ctx.engine, "receive", "--listen", f"{scheme}://127.0.0.1:0", "--cores", "1", *flags])


def copying_receiver():
    """One that copies what it is sent, as iperf3's server does."""
    return announced(["taskset", "-c", "1", h.peer("recv_copy"), 1 << 20])


def iperf3():
    port = free_port()
    words = ["taskset", "-c", "1", "iperf3", "--server", "--bind", "127.0.0.1", "--port", port, "--forceflush"]
    return announced(words, r"listening on (\d+)")


def governance():
    return announced(["taskset", "-c", "1", "python3", "perf/peers/governance.py"])


NGINX = """\
daemon off;
worker_processes 1;
worker_cpu_affinity 10;
error_log stderr crit;
pid "{folder}/nginx.pid";
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path "{folder}/body";
    proxy_temp_path "{folder}/proxy";
    fastcgi_temp_path "{folder}/fastcgi";
    uwsgi_temp_path "{folder}/uwsgi";
    scgi_temp_path "{folder}/scgi";
    client_max_body_size 0;
    client_body_buffer_size 2m;
    client_body_in_single_buffer on;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 204; }}
    }}
}}
"""


@contextmanager
def nginx():
    """One worker on core 1 that reads bodies, throws them away and answers 204."""
    folder = h.scratch("nginx").absolute()
    folder.mkdir(exist_ok=True)
    port = free_port()
    conf = folder / "nginx.conf"
    conf.write_text(NGINX.format(folder=folder, port=port), encoding="utf-8")
    words = ["nginx", "-e", "stderr", "-p", h.relative(folder), "-c", conf]
    with daemon(words) as (process, log):
        until = time.monotonic() + READY_SECONDS
        while not answers(port):
            if process.poll() is not None or time.monotonic() > until:
                raise h.RowError(f"does not listen: {log()}")
            time.sleep(0.05)
        yield Server("127.0.0.1", port, f"nginx -c {h.relative(conf)}")


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


KAFKA_PROPERTIES = [
    # What a benchmark writes goes away again while it runs.
    "log.segment.bytes=268435456", "log.retention.bytes=536870912", "log.retention.check.interval.ms=1000",
    "log.segment.delete.delay.ms=1000",
    # Everybody seals with the same cipher.
    "ssl.enabled.protocols=TLSv1.3", "ssl.cipher.suites=TLS_AES_256_GCM_SHA384",
]


@contextmanager
def kafka(ctx):
    """A real Apache Kafka of one broker with a folder of its own; yields what `scripts/kafka.sh start` printed."""
    libs = Path(os.environ.get("KAFKA_LIBS", h.ROOT / "target" / "kafka-libs"))
    if ctx.smoke and not (libs / "complete").exists():
        raise h.Missing(f"Apache Kafka is not in {h.relative(libs)}; fetch it: scripts/kafka.sh start")
    env = os.environ | {"KAFKA_DIR": str(ctx.disk / "kafka"), "KAFKA_LIBS": str(libs)}

    def script(*words):
        done = subprocess.run(["scripts/kafka.sh", *words], cwd=h.ROOT, env=env, capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise h.RowError(f"scripts/kafka.sh {words[0]}: {done.stderr[-2000:]}")
        return done.stdout

    try:
        printed = script("start", "--brokers", "1", *(f"--property={each}" for each in KAFKA_PROPERTIES))
        assignments = (shlex.split(line)[-1].split("=", 1) for line in printed.splitlines())
        yield dict(assignments)
    finally:
        script("stop")
