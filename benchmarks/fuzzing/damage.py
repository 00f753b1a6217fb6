"""Damage to files: bytes of any, and by the grammar of each kind, so that what lies behind a parser is reached too.

DAMAGES is {kind: function (content, Random) -> content}. Whatever a function makes follows from its `random.Random`.
"""

from __future__ import annotations

import copy
import io
import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from random import Random

import h5py
import numpy as np
from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

import caffe.layers  # noqa: F401  # fills LAYERS
from caffe.layer import LAYERS
from caffe_proto import caffe_pb2

Damage = Callable[[bytes, Random], bytes]
SMALL = (0, 1, 2, 3, 4, 5, 7)
ABSURD = (2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 65537, 10**6)
FLOATS = (0.0, 1.0, -1.0, 0.5, 2.0, float("nan"), float("inf"), -float("inf"), 3e38, -1e38, 1e-45)
TEXTS = ("", " ", "a", "data", "no/such", "..", "a\nb", "a\tb", '"', "$\\foo$", "<b>", "ä\u202e", "x" * 300, "\0", "-1")
VALUES = (
    None, True, False, "", "a", "01", "..", "<script>", "x" * 5000, "\0", "$a$", "\ud800", -1, 0, 1, 2**31, 2**63,
    10**400, 0.5, -1e300, float("nan"), float("inf"), [], {}, [[]], [1, 2, 3], ["a", "b"], {"a": {}}, [None],
)  # fmt: skip
# what asks for long work and may: iterations and repetitions. They stay small here
PATIENT = {"max_iter", "test_iter", "iter_size", "repetitions"}


def of_bytes(content: bytes, rng: Random) -> bytes:
    """Bytes overwritten, flipped, cut out, inserted, repeated; numbers of 2, 4 and 8 bytes set to those at the ends."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(len(made) + 1)
        match rng.randrange(7):
            case 0:
                made[place : place + 1] = bytes([rng.randrange(256)])
            case 1 if place < len(made):
                made[place] ^= 1 << rng.randrange(8)
            case 2:
                del made[place:]
            case 3:
                del made[place : place + rng.choice((1, 2, 4, 64, 4096))]
            case 4:
                made[place:place] = rng.randbytes(rng.choice((1, 2, 4, 8, 64)))
            case 5:
                made[place:place] = made[max(0, place - rng.choice((1, 8, 64, 512))) : place]
            case 6:
                width = rng.choice((1, 2, 4, 8))
                number = rng.choice((0, 1, 127, 128, 255, 256**width - 1, 256**width // 2, 256**width // 2 - 1))
                made[place : place + width] = (number % 256**width).to_bytes(width, rng.choice(("little", "big")))
    return bytes(made)


# ---------------------------------------------------------------------------------------------------------------------
# Caffe's messages, by their schema


def _inner(message: Message) -> Iterator[Message]:
    """The message and all that are in it."""
    yield message
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                yield from _inner(one)


def _words(message: Message) -> Iterator[str]:
    """The texts that a message holds itself: names of layers, blobs, files."""
    for _, value in message.ListFields():
        inside = [value] if isinstance(value, str) else value if isinstance(value, Iterable) else ()
        yield from (word for word in inside if isinstance(word, str))


def _value(field: FieldDescriptor, words: list[str], rng: Random) -> object:
    """A value that the field can hold, often at the ends of what it can."""
    signed = field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT32)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return rng.choice(FLOATS)
        case FieldDescriptor.CPPTYPE_STRING if field.type == FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 12)))
        case FieldDescriptor.CPPTYPE_STRING:
            return rng.choice(words if rng.random() < 0.7 else TEXTS)
    wide = field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
    most = 2 ** (64 if wide else 32) // (2 if signed else 1) - 1
    number = rng.choice(SMALL if field.name in PATIENT or rng.random() < 0.7 else ABSURD)
    return -min(number, most) if signed and rng.random() < 0.2 else min(number, most)


def _set(message: Message, field: FieldDescriptor, words: list[str], rng: Random, depth: int = 0) -> None:
    """Give a field of a message another value: one, several, or none."""
    if rng.random() < 0.15:
        message.ClearField(field.name)
        return
    many = field.is_repeated
    for _ in range(rng.choice((1, 1, 1, 2, 3)) if many else 1):
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = getattr(message, field.name).add() if many else getattr(message, field.name)
            inner.SetInParent()
            for _ in range(rng.choice((0, 1, 2, 4)) if depth < 3 else 0):
                _set(inner, rng.choice(inner.DESCRIPTOR.fields), words, rng, depth + 1)
        elif many:
            values = getattr(message, field.name)
            if values and rng.random() < 0.5:
                values[rng.randrange(len(values))] = _value(field, words, rng)
            else:
                values.append(_value(field, words, rng))
        else:
            setattr(message, field.name, _value(field, words, rng))


def _change_layers(net: Message, words: list[str], rng: Random) -> None:
    """A layer more, less, twice, elsewhere, of another type or between other blobs."""
    layers = net.layer
    if not layers:
        layers.add(name="it", type="ReLU", bottom=["data"], top=["it"])
        return
    place = rng.randrange(len(layers))
    layer = layers[place]
    match rng.randrange(6):
        case 0:
            del layers[place]
        case 1:
            layers.add().CopyFrom(layer)
        case 2:
            order = list(layers)
            rng.shuffle(order)
            del layers[:]
            layers.extend(order)
        case 3:
            layer.type = rng.choice(sorted(LAYERS))
            own = [f for f in layer.DESCRIPTOR.fields if f.name.replace("_", "") == f"{layer.type.lower()}param"]
            for field in own:
                _set(layer, field, words, rng)
        case 4:
            values = rng.choice((layer.bottom, layer.top))
            values.append(rng.choice(words))
        case 5:
            values = rng.choice((layer.bottom, layer.top))
            if values:
                values[rng.randrange(len(values))] = rng.choice(words)


def change_message(message: Message, rng: Random) -> None:
    """Change a message as only somebody who knows its schema can."""
    words = sorted({word for one in _inner(message) for word in _words(one)}) or ["data"]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if "layer" in message.DESCRIPTOR.fields_by_name and rng.random() < 0.35:
            _change_layers(message, words, rng)
        else:
            place = rng.choice(list(_inner(message)))
            fields = place.DESCRIPTOR.fields if rng.random() < 0.4 else [f for f, _ in place.ListFields()]
            _set(place, rng.choice(list(fields) or place.DESCRIPTOR.fields), words, rng)


def of_prototxt(kind: type[Message]) -> Damage:
    """The damage of a prototxt that holds a message of that kind."""

    def damage(content: bytes, rng: Random) -> bytes:
        try:
            message = text_format.Parse(content.decode(), kind())
        except (UnicodeDecodeError, text_format.ParseError):  # damaged before
            return of_text(content, rng)
        change_message(message, rng)
        return text_format.MessageToString(message, as_utf8=rng.random() < 0.5).encode("utf-8", "surrogatepass")

    return damage


def of_binary(kind: type[Message]) -> Damage:
    """The damage of a file that holds a binary message of that kind."""

    def damage(content: bytes, rng: Random) -> bytes:
        try:
            message = kind.FromString(content)
        except DecodeError:
            return of_bytes(content, rng)
        change_message(message, rng)
        return message.SerializePartialToString()

    return damage


# ---------------------------------------------------------------------------------------------------------------------
# HDF5, by its structure


def _array(rng: Random) -> np.ndarray | h5py.Empty:
    """An array of some type and shape that HDF5 can hold."""
    shape = rng.choice(((), (0,), (1,), (3,), (1, 1), (2, 3), (1, 1, 2, 2), (1, 0, 3), (1,) * 20))
    count = int(np.prod(shape))
    kind = rng.randrange(9)
    if kind == 0:
        return np.full(shape, rng.choice(FLOATS), rng.choice(("<f4", ">f8", "<f2")))
    if kind == 1:
        return np.full(shape, rng.choice((0, 1, -1, 127)), rng.choice(("i1", "<i4", ">i8")))
    if kind == 2:
        return np.full(shape, 2**63, "<u8")
    if kind == 3:
        return np.array([rng.choice(TEXTS[:-3]).replace("\0", "") for _ in range(count)], object).reshape(shape)
    if kind == 4:
        return np.full(shape, b"\xff\xfe", "S4")
    if kind == 5:
        return np.zeros(shape, [("a", "<i4"), ("b", "<f8")])
    if kind == 6:
        return np.full(shape, 1j, "c8")
    if kind == 7:
        return np.full(shape, rng.random() < 0.5)
    return h5py.Empty("f4")


def _bombs(file: h5py.File, name: str, rng: Random) -> None:
    """A dataset that is another than it seems: endless, filtered, elsewhere, of references."""
    match rng.randrange(6):
        case 0:
            file.create_dataset(name, (2 ** rng.choice((20, 31, 40, 60)), 8), "<f4", chunks=(1, 8))
        case 1:
            file.create_dataset(name, (4, 4), "<f4", chunks=(2, 2), compression="gzip", shuffle=True, fletcher32=True)
        case 2:
            file.create_dataset(name, (4,), "<f4", external=[("/etc/hostname", 0, 16)])
        case 3:
            layout = h5py.VirtualLayout((3,), "<f4")
            layout[:] = h5py.VirtualSource(".", "data", (3,))
            file.create_virtual_dataset(name, layout)
        case 4:
            file.create_dataset(name, (2,), h5py.ref_dtype)
        case 5:
            file.create_dataset(name, (2,), h5py.vlen_dtype(np.float32))


def of_hdf5(content: bytes, rng: Random) -> bytes:
    """Datasets and groups removed, renamed, replaced by the other, by links, by other types and shapes; attributes."""
    memory = io.BytesIO(content)
    try:
        with np.errstate(all="ignore"), h5py.File(memory, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            for _ in range(rng.choice((1, 1, 2, 3))):
                _change_hdf5(file, rng.choice(names or ["data"]), rng)
    except Exception:  # noqa: BLE001 (h5py raises anything of a file that is damaged already)
        return of_bytes(content, rng)
    return memory.getvalue()


def _change_hdf5(file: h5py.File, name: str, rng: Random) -> None:
    action = rng.randrange(10)
    if action == 0:
        owner = file if rng.random() < 0.7 or name not in file else file[name]
        known = list(owner.attrs) or ["a"]
        key = rng.choice(known)
        if rng.random() < 0.3 and key in owner.attrs:
            del owner.attrs[key]
        else:
            owner.attrs[key] = _array(rng)
        return
    there = file.get(name)
    # what an earlier change has made is not read: one that contains itself ends the process
    plain = isinstance(there, h5py.Dataset) and there.chunks is None and not there.is_virtual and not there.external
    old = np.asarray(there) if plain else np.zeros(3, np.float32)
    if name in file:
        del file[name]
    match action:
        case 1:
            file[rng.choice((f"{name}_", "0", "label", "data/extra"))] = old
        case 2:
            file.create_group(name)
        case 3:
            file[name] = h5py.SoftLink(rng.choice((name, "/nowhere", "/", "..")))
        case 4:
            file[name] = h5py.ExternalLink("/etc/hostname", "/")
        case 5:
            file[name] = old.astype(rng.choice(("<f8", ">f4", "<i4", "i1", "<f2"))) if old.dtype.kind in "fiu" else old
        case 6:
            file[name] = old.reshape(rng.choice(((-1,), (1, *old.shape), (*old.shape, 1), old.shape[::-1])))
        case 7:
            made = np.array(old)
            if made.size and made.dtype.kind == "f":
                made.flat[rng.randrange(made.size)] = rng.choice(FLOATS)
            file[name] = made[rng.randrange(2) :] if made.ndim else made
        case 8:
            _bombs(file, name, rng)
        case 9:
            file[name] = _array(rng)


# ---------------------------------------------------------------------------------------------------------------------
# JSON, text, lists, WAV


def _places(value: object) -> Iterator[tuple[dict | list, object]]:
    """(container, key) of everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def _change_json(value: object, rng: Random) -> object:
    places = list(_places(value))
    if not places or rng.random() < 0.05:
        return copy.deepcopy(rng.choice(VALUES))
    place, key = rng.choice(places)
    match rng.randrange(6):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[rng.choice(TEXTS)] = place.pop(key)
        case 2 if isinstance(place, list):
            place.insert(0, copy.deepcopy(rng.choice(VALUES)))
        case 3:
            other, name = rng.choice(places)
            place[key] = json.loads(json.dumps(other[name])) if name in other or isinstance(other, list) else None
        case _:
            place[key] = copy.deepcopy(rng.choice(VALUES))
    return value


def of_json(content: bytes, rng: Random) -> bytes:
    """Values replaced by those of other types, keys renamed, left out; nested beyond sense."""
    if rng.random() < 0.02:
        return rng.choice((b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5000, b"[1e999]", b"null", b""))
    try:
        value = json.loads(content)
        for _ in range(rng.choice((1, 1, 2, 3))):
            value = _change_json(value, rng)
        return json.dumps(value, ensure_ascii=rng.random() < 0.8).encode("utf-8", "surrogatepass")
    except (ValueError, IndexError, KeyError, RecursionError):  # damaged before, or gone by an earlier change
        return of_text(content, rng)


def of_json_lines(content: bytes, rng: Random) -> bytes:
    """A log of JSON objects: one line changed, or lines moved."""
    lines = content.splitlines(keepends=True)
    if not lines or rng.random() < 0.3:
        return of_text(content, rng)
    place = rng.randrange(len(lines))
    lines[place] = of_json(lines[place], rng) + b"\n"
    return b"".join(lines)


def of_text(content: bytes, rng: Random) -> bytes:
    """Lines removed, repeated, moved; numbers and words in them replaced; another encoding."""
    lines = content.splitlines(keepends=True) or [b""]
    place = rng.randrange(len(lines))
    match rng.randrange(9):
        case 0:
            del lines[place]
        case 1:
            lines[place:place] = [lines[place]] * rng.choice((1, 2, 300))
        case 2:
            rng.shuffle(lines)
        case 3 | 4 | 5:
            found = list(re.finditer(rb"-?\d+(?:\.\d+)?|\w+", lines[place]))
            if found:
                match = rng.choice(found)
                new = rng.choice((
                    b"nan", b"inf", b"-1", b"0", b"1e999", b"9" * 400, b"99999999999", b"foo", b"", b"\xff", b"\0",
                    b"../a", "２".encode(), b"x" * 300, b"1e-400", b"[", b"{", b'"', b"=", b"0.5", b"true",
                ))  # fmt: skip
                lines[place] = lines[place][: match.start()] + new + lines[place][match.end() :]
        case 6:
            text = content.decode("utf-8", "replace")
            kinds = ("utf-16", "utf-8-sig", "latin-1", "utf-32")
            return text.encode(rng.choice(kinds), "replace")
        case 7:
            return content.replace(b"\n", rng.choice((b"\r\n", b"\r", b"", b"\n\n", b" \n", "\u2028".encode())))
        case 8:
            lines[place:place] = [rng.choice((b"# a\n", b" \n", b"no such file\n", b"/dev/null\n", b"..\n", b"x\0y\n"))]
    return b"".join(lines)


def of_wav(content: bytes, rng: Random) -> bytes:
    """Chunks in any order, left out, twice, strange ones between; headers and lengths that lie."""
    chunks, place = [], 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        chunks.append([name, size, content[place + 8 : place + 8 + size]])
        place += 8 + size + size % 2
    if not chunks:
        return of_bytes(content, rng)
    head = content[:12]
    for _ in range(rng.choice((1, 1, 2, 3))):
        one = rng.choice(chunks)
        match rng.randrange(8):
            case 0:
                rng.shuffle(chunks)
            case 1:
                chunks.append(list(one))
            case 2 if len(chunks) > 1:
                chunks.remove(one)
            case 3:
                body = rng.randbytes(rng.choice((0, 1, 2, 25)))
                chunks.insert(
                    rng.randrange(len(chunks) + 1), [rng.choice((b"LIST", b"fact", b"\0\0\0\0")), len(body), body]
                )
            case 4:
                one[1] = rng.choice((0, 1, 3, 15, 17, 40, one[1] + 1, one[1] * 2, 2**31, 2**32 - 1)) % 2**32
            case 5 | 6 if one[2]:
                body = bytearray(one[2])
                at = rng.randrange(min(len(body), 40))
                new = rng.choice(
                    (b"\0\0", b"\1\0", b"\3\0", b"\xfe\xff", b"\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\xff")
                )
                body[at : at + len(new)] = new
                one[2] = bytes(body)
            case 7:
                head = rng.choice((b"RF64", b"RIFX", b"RIFF")) + rng.choice((b"\0\0\0\0", b"\xff" * 4)) + b"WAVE"
    return head + b"".join(
        struct.pack("<4sI", name, size) + body + b"\0" * (len(body) % 2) for name, size, body in chunks
    )


DAMAGES: dict[str, Damage] = {
    "net": of_prototxt(caffe_pb2.NetParameter),
    "solver": of_prototxt(caffe_pb2.SolverParameter),
    "caffemodel": of_binary(caffe_pb2.NetParameter),
    "solverstate": of_binary(caffe_pb2.SolverState),
    "mean": of_binary(caffe_pb2.BlobProto),
    "hdf5": of_hdf5,
    "json": of_json,
    "json lines": of_json_lines,
    "text": of_text,
    "wav": of_wav,
    "bytes": of_bytes,
}


def damaged(content: bytes, kind: str, rng: Random) -> bytes:
    """A file of that kind after one to three damages: by its grammar while it has one, then of its bytes."""
    ways = [rng.random() < 0.75 for _ in range(rng.choice((1, 1, 2, 3)))]
    for by_grammar in sorted(ways, reverse=True):
        content = (DAMAGES[kind] if by_grammar else of_bytes)(content, rng)
    return content
