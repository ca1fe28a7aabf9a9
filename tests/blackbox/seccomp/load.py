"""Runs a command under a seccomp profile of the form that Docker and Podman read.

    load.py PROFILE [--without WORD] COMMAND…

--without takes the calls whose names start so out of the profile. libseccomp, by ctypes, makes the filter.
"""

import ctypes
import json
import os
import sys


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


OPERATORS = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]
ALLOW, ERRNO, UNKNOWN = 0x7FFF0000, 0x00050000, -1


def action_of(rule):
    return {"SCMP_ACT_ALLOW": ALLOW, "SCMP_ACT_ERRNO": ERRNO | rule.get("errnoRet", 1)}[rule["action"]]


def comparison(one):
    operator = OPERATORS.index(one["op"].removeprefix("SCMP_CMP_")) + 1
    return Compare(one["index"], operator, one["value"], one.get("valueTwo", 0))


profile, command, without = json.load(open(sys.argv[1], encoding="utf-8")), sys.argv[2:], None
if command[0] == "--without":
    without, command = command[1], command[2:]
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
default = {"action": profile["defaultAction"], "errnoRet": profile["defaultErrnoRet"]}
context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(action_of(default))))
for rule in profile["syscalls"]:
    compares = [comparison(one) for one in rule.get("args", [])]
    array = (Compare * len(compares))(*compares)
    for name in rule["names"]:
        if without and name.startswith(without):
            continue
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == UNKNOWN:
            print(f"load.py: this libseccomp does not know {name}", file=sys.stderr)
            continue
        if number < 0:
            # Another architecture's.
            continue
        failed = library.seccomp_rule_add_array(
            context, ctypes.c_uint32(action_of(rule)), ctypes.c_int(number), ctypes.c_uint(len(compares)), array
        )
        if failed:
            sys.exit(f"load.py: {name}: {os.strerror(-failed)}")
failed = library.seccomp_load(context)
if failed:
    sys.exit(f"load.py: the filter: {os.strerror(-failed)}")
os.execvp(command[0], command)
