"""Runs a command for which system calls fail, as under Docker's seccomp profile or on a drive that is broken.

    deny.py ERRNO CALL[,CALL…] COMMAND…
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# On x86-64 and on arm64.
NUMBERS = {
    "io_uring_setup": (425, 425),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "flock": (73, 32),
    "fallocate": (285, 47),
    # What C libraries make of it: renameat on arm64.
    "rename": (82, 38),
    "vmsplice": (278, 75),
}
MACHINES = {"x86_64": 0, "aarch64": 1}
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, ERROR = 0x7FFF0000, 0x00050000


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def step(code, if_true, if_false, value):
    return struct.pack("HBBI", code, if_true, if_false, value)


reason, calls, *command = sys.argv[1:]
denied = [NUMBERS[call][MACHINES[platform.machine()]] for call in calls.split(",")]
steps = [
    step(LOAD_WORD, 0, 0, 0),  # the number of the system call
    # Over the other comparisons and what allows, to what denies.
    *(step(JUMP_IF_EQUAL, len(denied) - at, 0, number) for at, number in enumerate(denied)),
    step(RETURN, 0, 0, ALLOW),
    step(RETURN, 0, 0, ERROR | getattr(errno, reason)),
]
program = Program(len(steps), b"".join(steps))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)):
    sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execv(command[0], command)
