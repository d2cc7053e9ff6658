"""How a worker process confines itself before it runs a program or a query. Nothing of it can be undone afterwards.

    layer        where                       what it stops
    limits       every POSIX system          CPU seconds, memory (not on macOS), files written, core dumps; no new file
                                             descriptor of any kind: no file, socket or pipe can be opened; no new
                                             process or thread
    user         started by root             root's processes are not counted, so it becomes `nobody` first
    network      Linux that permits it       a network namespace of its own, without any interface
    parent       Linux                       it dies with its parent
    seccomp      Linux on x86-64, aarch64    only the system calls that computing, memory, stdin and stdout need; others
                                             fail with EPERM: open, socket, fork, exec, kill, ptrace, ...
                                             Where files stay open (SQL): also to read at a place, and a file's size

Not promised: protection from faults of the kernel or the hardware, from side channels, or from what a program can do by
using its share of CPU and memory fully. On systems without the seccomp layer, code that broke out of the language could
signal other processes of the same user.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Mapping

_NOBODY = 65534
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_FILTER_MODE = 2
_ALLOW, _EPERM, _KILL = 0x7FFF0000, 0x00050001, 0x80000000

# Machine -> (AUDIT_ARCH, system calls): read write close fstat lseek mmap mprotect munmap brk rt_sigaction
# rt_sigprocmask rt_sigreturn sched_yield mremap madvise exit gettimeofday sigaltstack futex restart_syscall
# clock_gettime exit_group getrandom
_CALLS = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 28, 60, 96, 131, 202, 219, 228, 231, 318),
    ),
    "aarch64": (
        0xC00000B7,
        (
            63,
            64,
            57,
            80,
            62,
            222,
            226,
            215,
            214,
            134,
            135,
            139,
            124,
            216,
            233,
            93,
            169,
            132,
            98,
            128,
            113,
            94,
            278,
        ),
    ),
}


# pread64, newfstatat: for files that are open already. The latter also tells whether another file exists.
READ_FILES = {"x86_64": (17, 262), "aarch64": (67, 79)}


def confine(
    cpu_seconds: int, memory_bytes: int, also: Mapping[str, tuple[int, ...]] | None = None
) -> list[str]:
    """Confine this process for good; returns the names of the layers that hold on this machine.

    Parameters
    ----------
    also : machine -> system calls that are allowed beside those of every worker.

    Raises
    ------
    OSError
        A layer this machine should have could not be set up. Nothing untrusted may run then.
    """
    layers = ["limits"]
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "linux" and _leave_network(libc):
        layers.append("network")
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        layers.append("user")
    _limit(cpu_seconds, memory_bytes)
    if sys.platform == "linux":
        _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
        layers.append("parent")
        if platform.machine() in _CALLS:
            arch, calls = _CALLS[platform.machine()]
            _filter_calls(libc, arch, calls + (also or {}).get(platform.machine(), ()))
            layers.append("seccomp")
    return layers


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Whether a network namespace of its own was permitted; without privileges that takes a user namespace too."""
    flags = _NEW_NETWORK if os.geteuid() == 0 else _NEW_USER | _NEW_NETWORK
    return bool(libc.unshare(flags) == 0)


def _limit(cpu_seconds: int, memory_bytes: int) -> None:
    limits = {
        resource.RLIMIT_CPU: cpu_seconds,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _filter_calls(libc: ctypes.CDLL, arch: int, calls: tuple[int, ...]) -> None:
    """Install a seccomp filter: the given calls of the given architecture pass, others fail with EPERM."""
    load_arch, load_call = (0x20, 0, 0, 4), (0x20, 0, 0, 0)  # words of struct seccomp_data
    checks = [(0x15, len(calls) - place, 0, call) for place, call in enumerate(calls)]  # equal: jump to ALLOW
    ends = [(0x06, 0, 0, _EPERM), (0x06, 0, 0, _ALLOW)]
    program = [load_arch, (0x15, 1, 0, arch), (0x06, 0, 0, _KILL), load_call, *checks, *ends]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    _prctl(libc, _PR_SET_SECCOMP, _FILTER_MODE, ctypes.addressof(header))


def _prctl(libc: ctypes.CDLL, option: int, first: int, second: int = 0) -> None:
    arguments = (ctypes.c_ulong(value) for value in (first, second, 0, 0))
    if libc.prctl(ctypes.c_int(option), *arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl option {option}: {os.strerror(error)}")
