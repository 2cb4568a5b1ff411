"""A root of its own for a process: it sees the files that it is given, no network, and no process but its own.

Adversary: the code that runs inside. Not a fault of the kernel.
Promise: after ``enter`` and ``shut``, of the computer's files only the given ones are there, those not named writable
    cannot be written, the only network is a loopback on which nothing listens but what was put there, no process
    outside can be seen or signalled, and no privilege is left with which any of this could be undone.
Source: Linux's namespaces(7), pivot_root(2), mount_setattr(2), capabilities(7). Needs Linux 5.12, and leave to make
    user namespaces. Everything here is called between fork and exec, in a process with one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
from collections.abc import Mapping
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_MOUNT_SETATTR, _PIVOT_ROOT = 442, {"x86_64": 155, "aarch64": 41}
_AT_RECURSIVE, _AT_FDCWD = 0x8000, -100
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC = 1, 2, 4, 8
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47
_CAP_VERSION = 0x20080522
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_DEVICES = ("null", "zero", "full", "random", "urandom")
_TMP = f"mode=1777,size={512 << 20}"


def enter() -> None:
    """Leave the computer's users, network, processes (for children), mounts and names behind; keep the own user.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _NEWUSER | _NEWNS | _NEWNET | _NEWPID | _NEWIPC | _NEWUTS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with contextlib.suppress(OSError):  # no namespaces inside this one: less of the kernel is within reach
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as lo:
        request = fcntl.ioctl(lo, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1]
        fcntl.ioctl(lo, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))


def shut(root: Path, files: Mapping[Path, bool]) -> None:
    """In the first process of the new process namespace: make a root of these files alone, and go there.

    Args:
        root: an empty folder, on which the new root is put together.
        files: absolute paths of files and folders, which keep their place; True for those that may be written. Of two
            that lie in each other the inner one counts. A link is shown as a link; where it leads must be given too.

    Raises:
        OSError: the system does not allow it, or a path is missing.
    """
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", str(root), "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=755,size={16 << 20}")
    # First, so that what is given below /tmp is not hidden.
    _special(root)
    for path in sorted(files, key=lambda path: len(path.parts)):
        _show(root, path, writable=files[path])
    os.chdir(root)
    _syscall(_PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir("/")
    _set_attributes("/", _ATTR_RDONLY, recursive=False)


def _show(root: Path, path: Path, writable: bool) -> None:
    inside = root / path.relative_to("/")
    inside.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        inside.symlink_to(path.readlink())
        return
    if path.is_dir():
        inside.mkdir(exist_ok=True)
    elif not inside.exists():
        inside.touch()
    _mount(str(path), str(inside), None, _MS_BIND | _MS_REC)
    _set_attributes(str(inside), _ATTR_NOSUID | (_ATTR_NOEXEC if writable else _ATTR_RDONLY))


def _special(root: Path) -> None:
    """/proc, /dev and a place for temporary files."""
    for name in ("proc", "dev", "tmp"):
        (root / name).mkdir(exist_ok=True)
    _mount("proc", str(root / "proc"), "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    # What root may write there without a capability (the system's own settings) is out of reach for a root inside.
    _set_attributes(str(root / "proc"), _ATTR_RDONLY)
    _mount("tmpfs", str(root / "tmp"), "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, _TMP)
    for name in _DEVICES:
        (root / "dev" / name).touch()
        _mount(f"/dev/{name}", str(root / "dev" / name), None, _MS_BIND)
    (root / "dev" / "shm").mkdir()
    _mount("tmpfs", str(root / "dev" / "shm"), "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, _TMP)


def drop_privileges() -> None:
    """Give up every capability for good, also those that an exec as root would bring back. The last call."""
    no_new_privileges()
    number = 0
    while _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    _libc.prctl(_PR_CAP_AMBIENT, 4, 0, 0, 0)
    header = struct.pack("<Ii", _CAP_VERSION, 0)
    _call("capset", header, bytes(24))


def no_new_privileges() -> None:
    """From here on no program that is run has more rights than who runs it."""
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def die_with_parent() -> None:
    """End this process when its parent ends, however that happens."""
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    try:
        _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    except OSError as error:
        raise OSError(error.errno, f"mounting {target}: {os.strerror(error.errno or 0).lower()}") from error


def _set_attributes(path: str, attributes: int, recursive: bool = True) -> None:
    wanted = struct.pack("<QQQQ", attributes, 0, 0, 0)
    _syscall(
        _MOUNT_SETATTR, _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE if recursive else 0, wanted, len(wanted)
    )


def _syscall(number: int, *arguments: int | bytes) -> None:
    _call("syscall", ctypes.c_long(number), *arguments)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code).lower()}")
