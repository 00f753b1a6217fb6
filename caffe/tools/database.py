"""Databases of Datum messages: what convert_imageset and extract_features write, and compute_image_mean reads."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.protobuf.message import DecodeError

from caffe.errors import CaffeError, check
from caffe_proto import caffe_pb2, write_error
from caffe_proto.database import Database

MAP_SIZE = 2**40  # bytes of addresses, as the original asks for; files are as large as what is in them
TOGETHER = 1000  # entries of a transaction


def check_backend(backend: str, flag: str) -> None:
    """Refuse every backend but LMDB: LevelDB has no reader that is kept up."""
    check(backend == "lmdb", flag, "lmdb", backend)


@contextmanager
def new_database(path: str) -> Iterator[Callable[[str, caffe_pb2.Datum], None]]:
    """A function that puts (key, Datum) into a new LMDB, which is at `path` when the block ends, and not before.

    Raises CaffeError where something is there already, and WriteError.
    """
    try:
        import lmdb
    except ModuleNotFoundError:
        raise CaffeError(path, "the Python package lmdb (pip install lmdb), which writes it", "none") from None
    check(not os.path.lexists(path), path, "a database that is not there yet", "a file or folder")
    folder, name = os.path.split(os.path.abspath(path))
    try:
        partial = tempfile.mkdtemp(prefix=f".{name}.", suffix=".part", dir=folder)
    except OSError as error:
        raise write_error(path, error) from None
    try:
        with lmdb.open(partial, map_size=MAP_SIZE, lock=False) as environment:
            transaction, count = environment.begin(write=True), 0

            def put(key: str, datum: caffe_pb2.Datum) -> None:
                nonlocal transaction, count
                transaction.put(os.fsencode(key), datum.SerializeToString())
                count += 1
                if count % TOGETHER == 0:
                    transaction.commit()
                    transaction = environment.begin(write=True)

            yield put
            transaction.commit()
            environment.sync(True)
        os.chmod(partial, 0o777 & ~_umask())
        os.rename(partial, path)
    except lmdb.Error as error:
        raise CaffeError(path, "room for a database", error) from None
    except OSError as error:
        raise write_error(path, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def entries(path: str) -> Iterator[tuple[str, caffe_pb2.Datum]]:
    """(place, Datum) of every entry of an LMDB, in the order of keys; `place` names it in messages."""
    with CaffeError.of_files():
        database = Database(path)
        there = database.first()
        while there:
            place = f"{path}: key {database.key().decode('latin-1')!r}"
            try:
                yield place, caffe_pb2.Datum.FromString(database.value())
            except DecodeError:
                raise CaffeError(place, "a Datum", "another message, or a damaged one") from None
            there = database.next()
