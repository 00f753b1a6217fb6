"""HDF5 files that others made: whatever HDF5 makes of a damaged one becomes one sentence, and nothing leaves the file.

h5py raises what its C library and numpy happen to raise (OSError, RuntimeError, KeyError, TypeError, ValueError, ...),
at each look into a file. So every reader here goes through `open_hdf5`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from caffe_proto.errors import CaffeFileError, UserError
from caffe_proto.memory import check_memory

if TYPE_CHECKING:
    import h5py

Result = TypeVar("Result")
LONGEST_CHAIN = 16  # of soft links to soft links
MOST_EMPTY_CHUNKS = 100_000  # of a dataset: HDF5 takes a second or two to find out that they are


class Content:
    """What is in an open HDF5 file, under paths such as "data/conv1/0"; each method raises CaffeFileError."""

    def __init__(self, file: h5py.File, path: str | os.PathLike, what: str):
        self._file, self.path, self.what = file, path, what

    def _no(self, got: object) -> CaffeFileError:
        return CaffeFileError(self.path, self.what, got)

    def _ask(self, name: str, question: Callable[[], Result]) -> Result:
        try:
            return question()
        except UserError:
            raise
        except Exception as error:  # see above
            raise self._no(f"{name} that cannot be read ({type(error).__name__}: {error})") from None

    def _find(self, name: str, links: int = 0) -> h5py.Dataset | h5py.Group | None:
        """What has that name, None where nothing has. Links are followed within the file alone."""
        import h5py

        place = self._file
        for part in filter(None, name.split("/")):
            if not isinstance(place, h5py.Group):
                return None
            link = place.get(part, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise self._no(f"{name} that is a link to another file ({link.filename})")
            if isinstance(link, h5py.SoftLink):
                if links == LONGEST_CHAIN:
                    raise self._no(f"{name} that is a link without an end")
                target = link.path if link.path.startswith("/") else f"{place.name}/{link.path}"
                place = self._find(target, links + 1)
            else:
                place = None if link is None else place[part]
        return place

    def names(self, group: str = "/") -> list[str]:
        """What a group holds, in the file's order."""
        import h5py

        def read() -> list[str]:
            found = self._find(group)
            if not isinstance(found, h5py.Group):
                raise self._no(f"no group {group}")
            return list(found)

        return self._ask(group, read)

    def __contains__(self, name: str) -> bool:
        return self._ask(name, lambda: self._find(name)) is not None

    def _read(self, name: str, kinds: str) -> np.ndarray:
        """A dataset of one of numpy's kinds of types, whose content lies in the file and fits into memory."""
        import h5py

        def read() -> np.ndarray:
            stored = self._find(name)
            if not isinstance(stored, h5py.Dataset) or stored.shape is None:
                raise self._no(f"no dataset {name} (but {', '.join(self._file) or 'nothing'})")
            if stored.dtype.kind not in kinds:
                raise self._no(f"{name} of type {stored.dtype}")
            if stored.external or stored.is_virtual:
                raise self._no(f"{name} that lies in other files")
            check_memory(stored.size * stored.dtype.itemsize, self.path, f"a dataset {name}")
            self._check_chunks(name, stored)
            return np.asarray(stored.asstr()[()] if h5py.check_string_dtype(stored.dtype) else stored[()])

        return self._ask(name, read)

    def _check_chunks(self, name: str, stored: h5py.Dataset) -> None:
        """Refuse a dataset with more chunks than the file has, if they are so many that reading takes minutes."""
        if stored.chunks is None:
            return
        declared = math.prod(-(-n // c) for n, c in zip(stored.shape, stored.chunks, strict=True))
        if declared > MOST_EMPTY_CHUNKS and declared > (there := stored.id.get_num_chunks()):
            raise self._no(f"{name} of {declared:,} chunks, of which the file has {there:,}")

    def numbers(self, name: str) -> np.ndarray:
        """A dataset of integers or floats, as it is stored."""
        return self._read(name, "fiu")

    def floats(self, name: str) -> np.ndarray:
        """A dataset of numbers as float32 in C order; what is too large for that is infinite, without a warning."""
        with np.errstate(over="ignore"):
            return self.numbers(name).astype(np.float32, order="C", copy=False)

    def text(self, name: str) -> str:
        """A dataset of one text."""
        text = self._read(name, "SO")
        if text.ndim:
            raise self._no(f"{name} of shape {text.shape} instead of a text")
        return str(text.item())

    def array(self, name: str) -> np.ndarray:
        """A dataset of numbers as it is stored, or of texts as objects."""
        found = self._read(name, "fiubSO")
        return found.astype(object) if found.dtype.kind in "UO" else found

    @property
    def attributes(self) -> dict[str, object]:
        """The attributes of the file."""
        return self._ask("attributes", lambda: dict(self._file.attrs))


@contextmanager
def open_hdf5(path: str | os.PathLike, what: str) -> Iterator[Content]:
    """An HDF5 file, opened for reading; `what` is what was expected there. Raises CaffeFileError."""
    import h5py

    if not os.path.isfile(path):  # not a pipe either, which would be waited for
        got = "something that is no file" if os.path.exists(path) else "no such file"
        raise CaffeFileError(path, what, got)
    try:
        file = h5py.File(path, "r")
    except Exception as error:  # see above
        raise CaffeFileError(path, what, f"no readable HDF5 file ({error})") from None
    with file:
        yield Content(file, path, what)
