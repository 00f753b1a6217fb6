"""Text files that others made: lists, JSON and TOML. Whatever is wrong with one becomes one sentence."""

from __future__ import annotations

import json
import os
import re

from caffe_proto.errors import CaffeFileError
from caffe_proto.memory import check_memory

LONGEST_TOML = 2**16  # bytes: a reader of TOML takes thirty times the memory and more than linear time
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # of an escape; two of them make one character
Path = str | os.PathLike


def read_bytes(path: Path, what: str) -> bytes:
    """A file's content; `what` is what was expected there. Raises CaffeFileError.

    Pipes are read as well (`<(...)` of a shell), so that nothing is known of the size before it is read.
    """
    try:
        with open(path, "rb") as file:
            check_memory(os.fstat(file.fileno()).st_size, path, what)
            return file.read()
    except FileNotFoundError:
        raise CaffeFileError(path, what, "no such file") from None
    except OSError as error:
        raise CaffeFileError(path, what, error.strerror or error) from None
    except ValueError:  # a NUL in the name
        raise CaffeFileError(repr(os.fspath(path)), what, "a name that no file can have") from None


def read_text(path: Path, what: str) -> str:
    """A text file in UTF-8, with a byte order mark or without. Raises CaffeFileError."""
    try:
        return read_bytes(path, what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaffeFileError(path, what, f"byte {error.start}, which is no UTF-8 text") from None


def whole_text(value: object, text: str) -> object:
    """`value`, which the JSON `text` holds; raises UnicodeEncodeError where its escapes make half a character, which no
    file, page or terminal takes."""
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse_constant(name: str) -> None:
    """NaN and Infinity, which Python reads and writes, are no JSON, and nothing that a file here says."""
    raise ValueError(f"{name}, which is no number")


def read_json(path: Path, what: str) -> object:
    """What a JSON file holds. Raises CaffeFileError."""
    text = read_text(path, what)
    try:
        return whole_text(json.loads(text, parse_constant=_refuse_constant), text)
    except json.JSONDecodeError as error:
        raise CaffeFileError(path, what, f"invalid JSON (line {error.lineno}: {error.msg})") from None
    except UnicodeEncodeError:
        raise CaffeFileError(path, what, "half of a character (a lone surrogate)") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of lists in lists
        raise CaffeFileError(path, what, f"JSON that nobody reads ({error})") from None


def read_toml(path: Path, what: str) -> dict:
    """What a TOML file holds, of at most `LONGEST_TOML` bytes. Raises CaffeFileError."""
    try:
        import tomllib
    except ModuleNotFoundError:  # before Python 3.11
        import tomli as tomllib

    text = read_text(path, what)
    if len(text) > LONGEST_TOML:
        raise CaffeFileError(path, f"{what} of at most {LONGEST_TOML:,} characters", f"{len(text):,}")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaffeFileError(path, what, error) from None


def read_record(path: Path, what: str, **kinds: type | tuple[type, ...]) -> dict:
    """A JSON object whose entries `kinds` are there and of these types. Raises CaffeFileError."""
    record = read_json(path, what)
    if not isinstance(record, dict):
        raise CaffeFileError(path, what, f"a JSON {type(record).__name__} instead of an object")
    for name, kind in kinds.items():
        if name not in record:
            raise CaffeFileError(path, what, f"an object without {name!r}")
        value = record[name]
        if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
            raise CaffeFileError(path, what, f"{name!r} that is {value!r:.60}")
    return record
