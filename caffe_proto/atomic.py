"""The one writer of files: a file is whole or as it was before, whatever a killed process or a full disk does.

    write_file(path, content)            bytes or text
    with atomic_file(path) as file:      a binary file to write into
    with atomic_hdf5(path) as stream:    an HDF5 file to fill, stream.file

What a link points to is written, not the link; a device or a pipe is written into and never replaced; a file that is
replaced leaves its permissions and owner to the new one. While it is written, the new file lies beside the old one
under a name of its own, locked by its writer. What a killed writer leaves is removed by the next one of the same file,
or by `remove_leftovers`, and nothing else is.

All that is asked of a file system is that a rename is one step. NFS does it on the server: other machines read the old
file for some seconds more (their caches), then the new one, never a part of it; and a rename whose answer the network
lost can be said to have failed although the new file is there, whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from zlib import crc32

from caffe_proto.errors import UserError

if TYPE_CHECKING:
    import h5py

_LEFTOVER = re.compile(r"\.([0-9a-f]{8})-[0-9a-f]{8}\.part")  # checksum of the final name, random number


class WriteError(UserError, OSError):
    """A file cannot be written (disk full, no permission)."""

    @property
    def strerror(self) -> str:
        """The reason in words, as of any OSError."""
        return self.got


def write_error(path: str | os.PathLike, error: OSError) -> WriteError:
    """The WriteError of a failed write to `path`."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "a full disk" if full else error.strerror or error
    return WriteError(os.fspath(path), "a writable folder with free space", reason)


def make_folder(path: str | os.PathLike) -> None:
    """Make a folder and those above it. Raises WriteError."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from None


class _File(io.FileIO):
    """A file whose writes take everything, or raise a WriteError that names `path`."""

    def __init__(self, file: int | str, mode: str, path: str):
        super().__init__(file, mode)
        self.path = path

    def write(self, content) -> int:
        rest = memoryview(content).cast("B")
        size = len(rest)
        try:
            while rest:
                rest = rest[os.write(self.fileno(), rest) :]
        except OSError as error:
            raise write_error(self.path, error) from None
        return size


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, flush: bool = True) -> Iterator[BinaryIO]:
    """Context manager: a binary file, which takes the place of `path` when the block ends, and not before.

    When the block raises, what was at `path` stays as it was. `flush` waits until the disk has the file and its name,
    so that all this holds for a power failure too, and first removes what a killed writer of this file left; without
    it, for many files at once, the caller sees to both. Raises WriteError.
    """
    try:
        target, old = _target(path)
        if old is not None and not stat.S_ISREG(old.st_mode):
            with _File(target, "wb", os.fspath(path)) as file:  # a device or a pipe (a folder raises)
                yield file
            return
        if flush:
            remove_leftovers(target)
        temporary, handle = _create(target)
    except WriteError:
        raise
    except OSError as error:
        raise write_error(path, error) from None
    with _File(handle, "r+b", os.fspath(path)) as file:
        try:
            yield file
            try:
                if old is not None:
                    _resemble(handle, old)
                if flush:
                    os.fsync(handle)
                os.replace(temporary, target)
                if flush:
                    _flush_folder(os.path.dirname(target))
            except OSError as error:
                raise write_error(path, error) from None
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def write_file(path: str | os.PathLike, content: bytes | str, flush: bool = True) -> None:
    """Write a whole file, text as UTF-8 (see `atomic_file`)."""
    with atomic_file(path, flush) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def _target(path: str | os.PathLike) -> tuple[str, os.stat_result | None]:
    """Where a link ends, or the path itself, and what is there (None: nothing)."""
    target = os.fspath(path)
    with contextlib.suppress(FileNotFoundError):
        old = os.lstat(target)
        if not stat.S_ISLNK(old.st_mode):
            return target, old
        target = os.path.realpath(target)
        return target, os.stat(target)
    return target, None


def _checksum(target: str) -> str:
    return f"{crc32(os.fsencode(os.path.basename(target))):08x}"


def _create(target: str) -> tuple[str, int]:
    """A new file beside `target`, locked: (its path, its descriptor)."""
    stem = os.path.join(os.path.dirname(target), f".{_checksum(target)}-")
    while True:
        temporary = f"{stem}{os.urandom(4).hex()}.part"
        try:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        with contextlib.suppress(OSError):  # a file system without locks: then nobody removes leftovers there either
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return temporary, handle
        os.close(handle)  # taken for a leftover before it was locked


def _resemble(handle: int, old: os.stat_result) -> None:
    """Give a file the owner, where that is allowed, and the permissions of the one that it replaces."""
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with contextlib.suppress(OSError):
            os.fchown(handle, old.st_uid, old.st_gid)
    if stat.S_IMODE(new.st_mode) != stat.S_IMODE(old.st_mode):
        os.fchmod(handle, stat.S_IMODE(old.st_mode))


def _flush_folder(folder: str) -> None:
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(path: str | os.PathLike) -> None:
    """Remove what killed writers left: anywhere below `path` if it is a folder, else of the file `path` alone.

    A file that a living process is writing stays, and so does every file that is not this module's.
    """
    path = os.path.realpath(path)
    if os.path.isdir(path):
        found = [p for p in Path(path).rglob(".*.part") if _LEFTOVER.fullmatch(p.name)]
    else:
        start, folder, names = f".{_checksum(path)}-", os.path.dirname(path), []
        with contextlib.suppress(OSError):  # a folder that can be written into and not listed
            names = os.listdir(folder)
        found = [os.path.join(folder, n) for n in names if n.startswith(start) and _LEFTOVER.fullmatch(n)]
    for leftover in found:
        with contextlib.suppress(OSError):
            handle = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(leftover)
            finally:
                os.close(handle)


class _Spilling(_File):
    """A file for the HDF5 library, which crashes when a write or a later read fails under it: neither ever does here.

    What the disk does not take stays in memory and is read from there; `failure` is then the reason.
    """

    def __init__(self, file: int, mode: str, path: str):
        super().__init__(file, mode, path)
        self.failure: WriteError | None = None
        self.spilled: dict[int, bytes] = {}  # position: what would stand there

    def write(self, content) -> int:
        start, size = self.tell(), memoryview(content).nbytes
        if self.failure is None:
            try:
                return super().write(content)
            except WriteError as error:
                self.failure = error
        self.spilled.pop(start, None)  # the latest write counts, and so comes last
        self.spilled[start] = bytes(content)
        self.seek(start + size)
        return size

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        start, size = self.tell(), len(view)
        read = super().readinto(view)
        view[read:] = bytes(size - read)
        for at, content in self.spilled.items():
            first, last = max(at, start), min(at + len(content), start + size)
            if first < last:
                view[first - start : last - start] = content[first - at : last - at]
        self.seek(start + size)
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or write_error(self.path, error)
            return size or 0


class HDF5Stream:
    """An HDF5 file that is being written: `file` is its h5py.File."""

    def __init__(self, file: h5py.File, raw: _Spilling | None):
        self.file = file
        self._raw = raw

    def check(self) -> None:
        """Raise the WriteError of a write that failed since; for long work, which need not go on after it."""
        if self._raw is not None and self._raw.failure is not None:
            raise self._raw.failure


@contextlib.contextmanager
def atomic_hdf5(path: str | os.PathLike) -> Iterator[HDF5Stream]:
    """Context manager: a new HDF5 file, which takes the place of `path` when the block ends (see `atomic_file`).

    On a full disk the HDF5 library ends the process with a segmentation fault; this raises WriteError instead.
    """
    import h5py

    with atomic_file(path) as file:
        if not file.seekable() or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            memory = io.BytesIO()
            with h5py.File(memory, "w") as made:
                yield HDF5Stream(made, None)
            file.write(memory.getbuffer())
            return
        with _Spilling(os.dup(file.fileno()), "r+b", os.fspath(path)) as raw:
            with h5py.File(raw, "w") as made:
                yield (stream := HDF5Stream(made, raw))
            stream.check()
