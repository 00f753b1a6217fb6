"""`recognise --page`: a page that listens in the browser, asks the networks here, and shows and plays why they say so.

The server is for this computer alone, and for this page alone: it listens on the loopback address, the page's address
holds a random token that no other page of the browser knows, and requests by another name (of a site that leads here)
or from another site are refused. What is said lies in a temporary folder only while it is explained.
"""

from __future__ import annotations

import html
import json
import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import numpy as np

from audiomnist.arguments import DIGITS
from audiomnist.explain import inputs
from audiomnist.explain.page import document, part
from audiomnist.explain.report import Report, contents
from audiomnist.recording.recognise import LISTEN, NAME, single_utterance, softmax
from audiomnist.runs.engine import interrupt_on_sigterm
from audiomnist.signal.inputs import network_inputs
from audiomnist.signal.wav import RecordingError, read_wav, to_int16, wav_bytes
from caffe_proto import UserError, sentence, write_file
from lrp import Network

ADDRESS = "127.0.0.1"
LONGEST = 20.0  # s of a recording in which a word is looked for
LARGEST = 4 * 2**20  # bytes of a request: that long at 96 kHz
PATIENCE = 10  # s that a connection may stay silent
TITLE = "Say a digit, see and hear why"
# no other site may be asked, and the recorder's script, which runs beside the page, comes from here
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class PageError(UserError, RuntimeError):
    """The page cannot be served."""


def answers(wav: bytes, networks: dict[str, Network], classes: tuple[str, ...], composite: str) -> list[dict]:
    """What each network makes of the loudest word of a WAV file, as JSON values, for every class.

    Of each network: name; best: its answer's index; classes: [name, probability] of each; report: what viewer.js shows.
    Raises RecordingError, LRPError.
    """
    samples, rate = read_wav(wav, max_seconds=LONGEST)
    word = wav_bytes(single_utterance(to_int16(samples), rate), rate)
    network_inputs(word, NAME)  # says what is wrong with it, and not where it lies for a moment
    found = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, NAME)
        write_file(path, word)
        recording = inputs.read_wav(path)
        for name, network in networks.items():
            entry = Report(folder, network).entry(network.fitted(recording), [composite])
            (explained,) = entry["explanations"].values()
            shares = softmax(np.array([explained[str(k)]["score"] for k in range(len(classes))]))
            found.append(
                {
                    "name": name,
                    "best": entry["prediction"],
                    "classes": list(zip(classes, shares.tolist(), strict=True)),
                    "report": contents([entry], classes),
                }
            )
    return found


def page(networks: dict[str, Network], classes: tuple[str, ...]) -> str:
    """The page, before anything was said."""
    words = {"networks": ", ".join(networks), "classes": ", ".join(classes), "seconds": f"{LISTEN:g}"}
    words = {name: html.escape(text) for name, text in words.items()}
    body = Template(part("recognise.html", __file__)).substitute(words) + part("viewer.html")
    return document(TITLE, body, [part("viewer.js"), part("recognise.js", __file__)], {"seconds": LISTEN}, POLICY)


class PageServer(ThreadingHTTPServer):
    """Serves `text` (HTML) at `address`, and there gives `answer(WAV bytes)`, a JSON value, to what is posted.

    answer raises UserError for what is no spoken digit. port: 0 for a free one. Raises PageError.
    """

    daemon_threads = True  # a browser keeps connections open that must not keep this process from ending

    def __init__(self, text: str, answer: Callable[[bytes], object], port: int = 0) -> None:
        self.answer, self.one_at_a_time = answer, threading.Lock()
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise PageError("--port", "a port that is free", f"{port} ({error.strerror})") from None
        self.host = f"{ADDRESS}:{self.server_port}"
        self.place = f"/{secrets.token_urlsafe(16)}/"
        script = "text/javascript; charset=utf-8"
        self.files = {"": ("text/html; charset=utf-8", text), "recorder.js": (script, part("recorder.js", __file__))}

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away while it was answered is no error."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """What a browser is to open."""
        return f"http://{self.host}{self.place}"


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = PATIENCE

    def log_message(self, *_: object) -> None:
        """Nothing: the terminal is the user's."""

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _say(self, status: int, value: object) -> None:
        self._send(status, "application/json", json.dumps(value, allow_nan=False))

    def _file(self) -> str | None:
        """The name after the token, or None where the request is none of this page's."""
        ours = self.headers.get("Host") == self.server.host
        ours &= self.headers.get("Origin", f"http://{self.server.host}") == f"http://{self.server.host}"
        token, name = self.path[: len(self.server.place)], self.path[len(self.server.place) :]
        if ours and secrets.compare_digest(token.encode(), self.server.place.encode()):
            return name
        self._say(403, {"error": sentence("request", "one of the page that was opened", "another")})
        return None

    def do_GET(self) -> None:
        name = self._file()
        if name in self.server.files:
            self._send(200, *self.server.files[name])
        elif name is not None:
            self._say(404, {"error": sentence("request", "a file of the page", name)})

    def do_POST(self) -> None:
        if self._file() is None:
            return
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(DIGITS, length) or int(length) > LARGEST:
            expected, got = f"at most {LARGEST} bytes", length or "no length"
            self._say(413, {"error": sentence("recording", expected, got)})
            return
        wav = self.rfile.read(int(length))
        try:
            with self.server.one_at_a_time:
                found = self.server.answer(wav)
        except RecordingError as error:
            self._say(422, {"error": sentence("recording", error.expected, error.got)})
        except UserError as error:
            self._say(422, {"error": str(error)})
        else:
            self._say(200, found)


def serve(
    networks: dict[str, Network], classes: tuple[str, ...], composite: str, port: int, show: Callable[[str], object]
) -> None:
    """Serve the page until Ctrl-C or SIGTERM, which raise KeyboardInterrupt; `show` is given its address.

    Raises PageError.
    """
    interrupt_on_sigterm()

    def answer(wav: bytes) -> list[dict]:
        return answers(wav, networks, classes, composite)

    with PageServer(page(networks, classes), answer, port) as server:
        show(server.address)
        server.serve_forever()
