"""LMDB databases that LMDB's library wrote: entry by entry as it reads them; damaged ones are a sentence."""

import random
import struct

import lmdb
import pytest

from benchmarks.fuzzing.damage import of_bytes
from caffe_proto import CaffeFileError
from caffe_proto.database import Database

LENGTHS = (0, 1, 30, 1500, 2030, 2100, 5000, 40000)  # of values: below and above what lies in a leaf


def write(folder, count, rng, lengths=LENGTHS):
    """A database of some transactions, in the last of which entries are removed; returns {key: value}."""
    entries = {}
    with lmdb.open(str(folder), map_size=2**28) as environment:
        for part in range(3):
            with environment.begin(write=True) as transaction:
                for _ in range(count * (part + 1) // 6):
                    key = b"%06d" % rng.randrange(10**6) + b"x" * rng.randrange(200)
                    entries[key] = rng.randbytes(rng.choice(lengths))
                    transaction.put(key, entries[key])
        with environment.begin(write=True) as transaction:
            for key in rng.sample(sorted(entries), len(entries) // 4):
                transaction.delete(key)
                del entries[key]
    return entries


def read(database):
    """All entries, as they come."""
    found, there = [], database.first()
    while there:
        found.append((database.key(), database.value()))
        there = database.next()
    return found


@pytest.mark.parametrize("count, lengths", [(0, LENGTHS), (6, LENGTHS), (400, LENGTHS), (6000, (0, 10, 50))])
def test_entries_are_those_that_the_library_reads(count, lengths, tmp_path):
    entries = write(tmp_path, count, random.Random(count), lengths)
    with lmdb.open(str(tmp_path), readonly=True, lock=False) as environment, environment.begin() as transaction:
        wanted = list(transaction.cursor())
    database = Database(tmp_path)
    assert read(database) == wanted == sorted(entries.items())
    for number in range(0, len(wanted), max(1, len(wanted) // 40)):
        key, value = wanted[number]
        assert database.find(key) and (database.key(), database.value()) == (key, value)
        assert database.next() is (number + 1 < len(wanted))
        assert number + 1 == len(wanted) or database.key() == wanted[number + 1][0]
    assert not any(map(database.find, (b"", b"0", b"5", b"\xff" * 30)))


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_database_is_read_or_refused_in_one_sentence(seed, tmp_path):
    rng = random.Random(seed)
    write(tmp_path, (6, 60, 600)[seed], rng, ((0, 30, 5000), (0, 30, 5000), (0, 10))[seed])
    path = tmp_path / "data.mdb"
    whole, outcomes = path.read_bytes(), set()
    for _ in range(300):
        path.write_bytes(of_bytes(whole, rng))
        try:
            read(Database(tmp_path))
        except CaffeFileError as error:
            assert str(error).startswith(f"{tmp_path}: expected an") and "\n" not in str(error)
            outcomes.add(str(error).partition(", got ")[2][:9])
        else:
            outcomes.add("read")
    assert "read" in outcomes and len(outcomes) > 3


def test_reading_ends_whatever_pages_name(tmp_path):
    """Of more entries than there are said to be, and of a branch whose nodes name the branch itself."""
    write(tmp_path, 6000, random.Random(0), (10,))
    path = tmp_path / "data.mdb"
    content = bytearray(path.read_bytes())
    size = struct.unpack_from("<I", content, 40)[0]
    meta = max((0, size), key=lambda at: struct.unpack_from("<Q", content, at + 144)[0])
    fewer = content[:]
    struct.pack_into("<Q", fewer, meta + 120, 1)
    path.write_bytes(fewer)
    with pytest.raises(CaffeFileError, match="expected an LMDB, got more than its 1 entries"):
        read(Database(tmp_path))
    root = struct.unpack_from("<Q", content, meta + 128)[0]
    (end,) = struct.unpack_from("<H", content, root * size + 12)
    for node in struct.unpack_from(f"<{(end - 16) // 2}H", content, root * size + 16):
        struct.pack_into("<HHH", content, root * size + node, root & 0xFFFF, root >> 16, 0)
    path.write_bytes(content)
    with pytest.raises(CaffeFileError, match="expected an LMDB, got pages that name each other"):
        Database(tmp_path).first()


@pytest.mark.parametrize("content", [b"", b"no", bytes(8192)])
def test_what_is_no_database_is_said(content, tmp_path):
    with pytest.raises(CaffeFileError, match=r"expected a folder with an LMDB \(data.mdb\), got none"):
        Database(tmp_path)
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(CaffeFileError, match=f"^{tmp_path}: expected an LMDB, got "):
        Database(tmp_path)
