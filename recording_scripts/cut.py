#!/usr/bin/env python3
"""`audiomnist cut`, cut a recorded session into a corpus: from any folder, installed or not."""

import os
import sys
from pathlib import Path

path = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH"))))
command = [sys.executable, "-m", "audiomnist", "cut", *sys.argv[1:]]
os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"})
