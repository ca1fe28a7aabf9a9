#!/usr/bin/env python3
"""Takes one TCP connection and stores what comes over it, to its end. Its port goes to standard output.

With --framing length each record comes behind its length, 32 bits in network order: the frames are taken apart, and
each must be one record for the parser that Kaitai Struct made of schemas/record.ksy. The parser's folder is on
PYTHONPATH then."""

import argparse
import socket
import struct
import sys

# Nobody is waited for without end.
TIMEOUT_SECONDS = 60
LENGTH_BYTES = 4


def check(condition, what):
    if not condition:
        sys.exit(f"{arguments.file}: {what}")


def record_lengths(frame, place):
    from engine_record import EngineRecord

    try:
        return [record.header.len_record for record in EngineRecord.from_bytes(frame).records]
    except Exception as error:
        return check(False, f"{place} is no record: {error}")


def unframed(stream):
    records = []
    at = 0
    while at < len(stream):
        place = f"frame {len(records)} (offset {at})"
        check(len(stream) - at >= LENGTH_BYTES, f"{place} has {len(stream) - at} bytes for its length")
        (length,) = struct.unpack_from(">I", stream, at)
        at += LENGTH_BYTES
        frame = stream[at : at + length]
        check(len(frame) == length, f"{place} should have {length} bytes and has {len(frame)}")
        lengths = record_lengths(frame, place)
        check(lengths == [length], f"{place} has {length} bytes, and in them records of {lengths}")
        records.append(frame)
        at += length
    return b"".join(records)


def main():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT_SECONDS)
        print(listener.getsockname()[1], flush=True)
        connection, _ = listener.accept()
    with connection:
        connection.settimeout(TIMEOUT_SECONDS)
        stream = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    with open(arguments.file, "wb") as file:
        file.write(unframed(stream) if arguments.framing == "length" else stream)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file")
parser.add_argument("--framing", choices=["none", "length"], default="none")
arguments = parser.parse_args()
main()
