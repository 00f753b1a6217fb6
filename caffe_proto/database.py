"""LMDB databases that others made, read by their format: whatever is wrong in one becomes one sentence.

LMDB's own library maps the file into memory and believes what is in it, so that damage ends the process with a signal.
Here a page is read when it is needed, and every place in it is checked. A database is a tree of pages of one size in
the order of keys: branches name pages, leaves hold keys and values, and a large value lies in pages of its own.
"""

from __future__ import annotations

import os
import struct
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable

from caffe_proto.errors import CaffeFileError
from caffe_proto.memory import check_memory

_PAGE = struct.Struct("<QHHHH")  # number; unused; kind; end of the list of nodes; begin of the nodes
_NODE = struct.Struct(
    "<HHHH"
)  # the size of a value in 32 bits, flags, the size of the key; of a branch a page in 48 bits
# magic number and version; size of a page; flags, number of entries and root of the main tree; last page, transaction
_META = struct.Struct("<II16xI44x4xH2x24xQQQQ")
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _LARGE = 1, 2, 4  # kinds of pages
_ELSEWHERE = 1  # flag of a node: the number of the page where the value is stands in its place
_NO_PAGE = 2**64 - 1  # root of a tree without entries
_SIZES = [2**k for k in range(8, 17)]  # of a page, in bytes
_DEEPEST = 32  # pages from the root to a leaf; a tree that is deeper has pages that name each other


class Database:
    """The entries of an LMDB as they were when it was opened. What fails raises CaffeFileError.

    It stands at one of them after `first`, `next` or `find` have said True: `key()`, `value()`.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder, path = folder, os.path.join(folder, "data.mdb")
        if not os.path.isfile(path):
            raise CaffeFileError(folder, "a folder with an LMDB (data.mdb)", "none")
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._no(error.strerror or str(error)) from None
        weakref.finalize(self, os.close, self._file)
        self._bytes = os.fstat(self._file).st_size
        first = self._meta(0)
        _, self._page, self._entries, self._root, self._last = max(first, self._meta(first[1]))
        if self._bytes < (self._last + 1) * self._page:
            raise self._no(f"{self._bytes:,} of {(self._last + 1) * self._page:,} bytes")
        self._pages: list[tuple[bytes, int, tuple[int, ...]]] = []  # from the root to a leaf: page, kind, nodes' begins
        self._at: list[int] = []  # which node of each
        self._steps = 0  # since the first entry

    def _no(self, got: str) -> CaffeFileError:
        return CaffeFileError(self.folder, "an LMDB", got)

    def _read(self, offset: int, size: int) -> bytes:
        check_memory(size, self.folder, "an entry of an LMDB")
        try:
            content = os.pread(self._file, size, offset) if offset + size <= self._bytes else b""
        except OSError as error:
            raise self._no(error.strerror or str(error)) from None
        if len(content) < size:
            raise self._no(f"something at {offset:,} of {self._bytes:,} bytes")
        return content

    def _meta(self, offset: int) -> tuple[int, int, int, int, int]:
        """(transaction, size of a page, entries, root, last page) of one of the two pages that say it."""
        content = self._read(offset + _PAGE.size, _META.size)
        magic, version, page, flags, entries, root, last, transaction = _META.unpack(content)
        if (magic, version) != (_MAGIC, _VERSION) or page not in _SIZES or flags:
            raise self._no("a file that begins otherwise")
        return transaction, page, entries, root, last

    # -- places ----------------------------------------------------------------------------------------------------

    def first(self) -> bool:
        """Go to the first entry; False if there is none."""
        self._pages, self._at, self._steps = [], [], 0
        if self._root != _NO_PAGE:
            self._descend(self._root, lambda kind, keys: 0)
        return bool(self._pages)

    def next(self) -> bool:
        """Go to the next entry; False behind the last."""
        self._steps += 1
        if self._steps > self._entries:
            raise self._no(f"more than its {self._entries:,} entries")
        while self._pages:
            page, kind, nodes = self._pages[-1]
            self._at[-1] += 1
            if self._at[-1] < len(nodes):
                if kind == _BRANCH:
                    self._descend(self._child(), lambda kind, keys: 0)
                return True
            self._pages.pop()
            self._at.pop()
        return False

    def find(self, key: bytes) -> bool:
        """Go to the entry with that key; False if there is none, and then it stands nowhere."""
        self._pages, self._at, self._steps = [], [], 0
        if self._root == _NO_PAGE:
            return False

        def choose(kind: int, keys: list[bytes]) -> int:
            # the first key of a branch says nothing
            return bisect_left(keys, key) if kind == _LEAF else max(0, bisect_right(keys, key, 1) - 1)

        self._descend(self._root, choose)
        if self._at[-1] < len(self._pages[-1][2]) and self.key() == key:
            return True
        self._pages, self._at = [], []
        return False

    def _descend(self, number: int, choose: Callable[[int, list[bytes]], int]) -> None:
        """From page `number` to a leaf, by the node that choose(kind of page, keys) says."""
        while True:
            page = self._read(number * self._page, self._page)
            own, _, kind, end, _ = _PAGE.unpack_from(page)
            count = (end - _PAGE.size) // 2
            if own != number or kind not in (_BRANCH, _LEAF) or not 0 < count <= len(page) // 2 - 8:
                raise self._no(f"page {number:,} that is none of entries")
            if len(self._pages) == _DEEPEST:
                raise self._no("pages that name each other")
            nodes = struct.unpack_from(f"<{count}H", page, _PAGE.size)
            self._pages.append((page, kind, nodes))
            self._at.append(choose(kind, _Keys(self, page, nodes)))
            if kind == _LEAF:
                return
            number = self._child()

    def _child(self) -> int:
        low, middle, high, _, _ = self._node()
        return low | middle << 16 | high << 32

    def _node(self) -> tuple[int, int, int, bytes, int]:
        """(three parts of a number, key, where the key ends) of the node now."""
        page, _, nodes = self._pages[-1]
        return self._node_of(page, nodes[self._at[-1]])

    def _node_of(self, page: bytes, begin: int) -> tuple[int, int, int, bytes, int]:
        if begin + _NODE.size > len(page):
            raise self._no("an entry outside of its page")
        *parts, size = _NODE.unpack_from(page, begin)
        begin += _NODE.size
        if begin + size > len(page):
            raise self._no("a key outside of its page")
        return *parts, page[begin : begin + size], begin + size

    # -- the entry ---------------------------------------------------------------------------------------------------

    def key(self) -> bytes:
        """The key of the entry."""
        return self._node()[3]

    def value(self) -> bytes:
        """The value of the entry."""
        page = self._pages[-1][0]
        low, high, flags, _, begin = self._node()
        size = low | high << 16
        if flags == 0:
            if begin + size > len(page):
                raise self._no("a value outside of its page")
            return page[begin : begin + size]
        if flags != _ELSEWHERE or begin + 8 > len(page):
            raise self._no(f"an entry of another kind ({flags})")
        (number,) = struct.unpack_from("<Q", page, begin)
        own, _, kind, low, high = _PAGE.unpack(self._read(number * self._page, _PAGE.size))
        if own != number or kind != _LARGE or _PAGE.size + size > (low | high << 16) * self._page:
            raise self._no(f"page {number:,} that is none of a value of {size:,} bytes")
        return self._read(number * self._page + _PAGE.size, size)


class _Keys:
    """The keys of a page as a sequence, each read when it is looked at."""

    def __init__(self, database: Database, page: bytes, nodes: tuple[int, ...]):
        self._database, self._page, self._nodes = database, page, nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __getitem__(self, at: int) -> bytes:
        return self._database._node_of(self._page, self._nodes[at])[3]
