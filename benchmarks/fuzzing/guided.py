"""A reader on files that atheris makes, guided by the lines of ours that they reach, until one is found.

    pip install atheris
    python -m benchmarks.fuzzing.guided KIND [OPTION OF LIBFUZZER]...      such as -max_total_time=600

KIND is one of `targets.READERS`. What is found lies in a temporary folder, which libFuzzer names. Nothing else needs
this: atheris has builds for Linux and few versions of Python.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

OURS = ["audiomnist", "caffe", "caffe_proto", "lrp"]


def main() -> None:
    try:
        import atheris
    except ModuleNotFoundError:
        sys.exit("guided: expected atheris (pip install atheris), got none")
    with atheris.instrument_imports(include=OURS, enable_loader_override=False):
        from benchmarks.fuzzing import targets
        from caffe_proto import UserError
    kinds = ", ".join(targets.READERS)
    if len(sys.argv) < 2 or sys.argv[1] not in targets.READERS:
        sys.exit(f"guided: expected one of the kinds {kinds}, got {sys.argv[1:2] or 'none'}")
    kind = sys.argv.pop(1)
    name, _, readers = targets.READERS[kind]
    folder = Path(tempfile.mkdtemp(prefix="guided-"))
    corpus = folder / "corpus"
    corpus.mkdir()
    targets.make_reader(corpus, kind)

    def one(content: bytes) -> None:
        Path(name).write_bytes(content)
        for reader in readers:
            with contextlib.suppress(UserError, OSError):
                reader(name)

    os.chdir(folder)
    atheris.Setup([*sys.argv, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
