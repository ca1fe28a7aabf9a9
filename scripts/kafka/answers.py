#!/usr/bin/env python3
"""answers.py PORT WANTED: exit code 0 if the broker on that port knows of WANTED live brokers."""

import socket
import struct
import sys


def receive(peer, length):
    data = b""
    while len(data) < length:
        part = peer.recv(length - len(data))
        if not part:
            raise OSError("closed")
        data += part
    return data


def live_brokers(port):
    # Metadata v1 for no topic: the answer starts with the correlation id and the number of brokers.
    request = struct.pack(">hhih6si", 3, 1, 1, 6, b"status", 0)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as peer:
        peer.settimeout(5)
        peer.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", receive(peer, 4))
        return struct.unpack(">ii", receive(peer, min(length, 1 << 20))[:8])[1]


try:
    sys.exit(0 if live_brokers(int(sys.argv[1])) >= int(sys.argv[2]) else 1)
except (OSError, struct.error):
    sys.exit(1)
