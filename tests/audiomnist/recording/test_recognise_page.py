"""`recognise --page`: who may ask the server what, what it answers, and the page with a microphone that says a word."""

import base64
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import correlate, resample_poly

from audiomnist.recording import recognise
from audiomnist.recording.recognise_page import LARGEST, PageError, PageServer, answers, page
from lrp import Network
from tests.chromium import look
from tests.html_structure import faults

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "notebooks" / "one_recording"
DEPLOY, WEIGHTS, SEVEN = (str(FOLDER / name) for name in ("deploy.prototxt", "small.caffemodel", "seven.wav"))
DIGITS = tuple("0123456789")


def wav(samples, rate=48000):
    """The bytes of a WAV file, by Python's own writer."""
    blob = io.BytesIO()
    with wave.open(blob, "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.asarray(samples).astype("<i2").tobytes())
    return blob.getvalue()


def spoken(before=0.5, after=4.0):
    """The seven, with silence (s) before and after it, int16 at 48 kHz."""
    with wave.open(SEVEN) as file:
        rate, samples = file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
    word = resample_poly(samples.astype(float), 48000, rate)
    parts = [np.zeros(round(before * 48000)), word, np.zeros(round(after * 48000))]
    return np.concatenate(parts).clip(-32767, 32767)


@pytest.fixture(scope="module")
def small():
    return {"small": Network(DEPLOY, WEIGHTS)}


@pytest.fixture(scope="module")
def server(small):
    def answer(blob):
        return answers(blob, small, DIGITS, "epsilon_plus_flat")

    with PageServer(page(small, DIGITS), answer) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(server, method="GET", place=None, body=None, **headers):
    """(status, headers, body) of one request, as another program on this computer would send it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, server.place if place is None else place, body, headers)
    answer = connection.getresponse()
    said = answer.status, answer.headers, answer.read()
    connection.close()
    return said


def refused(server, *arguments, **options):
    """(status, sentence) of a refusal."""
    status, headers, body = ask(server, *arguments, **options)
    assert headers["Content-Type"] == "application/json"
    return status, json.loads(body)["error"]


def test_the_page_is_whole_and_cannot_be_framed(server):
    status, headers, body = ask(server)
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Frame-Options"] == "DENY" and headers["Cache-Control"] == "no-store"
    assert faults(body.decode()) == []
    status, headers, body = ask(server, place=server.place + "recorder.js")
    assert status == 200 and headers["Content-Type"].startswith("text/javascript") and b"registerProcessor" in body
    assert refused(server, place=server.place + "../setup.py") == (
        404, "request: expected a file of the page, got ../setup.py"
    )  # fmt: skip


def test_it_is_for_this_computer_and_this_page_alone(server):
    assert server.server_address[0] == "127.0.0.1" and len(server.place) >= 20
    other = 403, "request: expected one of the page that was opened, got another"
    wrong_token = server.place[:-2] + ("a" if server.place[-2] != "a" else "b") + "/"
    for method in ("GET", "POST"):
        for place in ("/", "/recorder.js", wrong_token, server.place[:-1]):
            assert refused(server, method, place) == other
        for host in ("localhost", "evil.example", f"evil.example:{server.server_port}"):
            assert refused(server, method, Host=host) == other
        assert refused(server, method, Origin="http://evil.example") == other
    with PageServer("", lambda blob: None) as another:
        assert another.place != server.place
        with pytest.raises(PageError, match=rf"^--port: expected a port that is free, got {another.server_port} "):
            PageServer("", lambda blob: None, another.server_port)


@pytest.mark.parametrize("length", [LARGEST + 1, 10**30, -1, "many"])
def test_a_request_that_is_too_large_is_not_read(server, length):
    said = refused(server, "POST", Content_Length=str(length))
    assert said == (413, f"recording: expected at most {LARGEST} bytes, got {length}")


@pytest.mark.parametrize(
    "body, said",
    [
        (b"", "expected a WAV file, got an empty file"),
        (b"RIFF and nothing else", "expected a WAV file, got no RIFF/WAVE header (the file begins with b'RIFF')"),
        (wav(np.ones(9000))[:-50], "expected a whole file, got a truncated one: 18000 bytes of samples promised, "
         "17950 there"),
        (wav(np.zeros(96000)), "expected a spoken digit, got nothing that sounds like a word"),
        (wav(np.ones(7)), "expected a spoken digit, got 0.000 s of sound"),
        (wav(np.zeros(21 * 8000), 8000), "expected at most 20 s, got 21.000 s"),
        (wav(spoken()[::12], 4000), "expected a sample rate of 8000 Hz or more, got 4000 Hz"),
    ],
)  # fmt: skip
def test_what_is_no_spoken_digit_is_one_sentence(server, body, said):
    assert refused(server, "POST", body=body) == (422, f"recording: {said}")


@pytest.mark.parametrize("rate", [48000, 16000])
def test_a_seven_is_heard_and_explained(server, rate):
    status, _, body = ask(server, "POST", body=wav(spoken()[:: 48000 // rate], rate))
    (said,) = json.loads(body)
    assert status == 200 and said["name"] == "small" and said["best"] == 7
    names, shares = zip(*said["classes"], strict=True)
    assert names == DIGITS and sum(shares) == pytest.approx(1) and shares[7] == max(shares) > 0.5
    (one,) = said["report"]["recordings"]
    assert said["report"]["classes"] == list(DIGITS) and one["prediction"] == 7
    (explained,) = one["explanations"].values()
    scores = np.array([explained[name]["score"] for name in DIGITS])
    assert np.log(shares) - np.log(shares[0]) == pytest.approx(scores - scores[0])  # of a softmax
    for sound in (one["sound"], *(explained[name]["sound"] for name in DIGITS)):
        with wave.open(io.BytesIO(base64.b64decode(sound))) as file:
            assert (file.getframerate(), file.getnframes()) == (8000, 8000)


def test_a_browser_that_goes_away_leaves_no_traceback(capfd):
    asked, gone, before = threading.Event(), threading.Event(), threading.active_count()

    def answer(blob):
        asked.set()
        assert gone.wait(30)
        return ["x" * 10**7]  # more than what fits into a socket on its way

    with PageServer("", answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        with socket.create_connection(server.server_address) as connection:
            request = f"POST {server.place} HTTP/1.0\r\nHost: {server.host}\r\nContent-Length: 1\r\n\r\nx"
            connection.sendall(request.encode())
            assert asked.wait(30)
        gone.set()
        while threading.active_count() > before + 1:
            time.sleep(0.01)
        server.shutdown()
        thread.join()
    assert capfd.readouterr().err == ""


def run(*arguments):
    command = [sys.executable, "-m", "audiomnist", "recognise", "--no-show", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(number):
    with run("--page", "--network", DEPLOY, WEIGHTS) as program:
        assert program.stdout.readline().startswith("http://127.0.0.1:")
        program.send_signal(number)
        _, said = program.communicate(timeout=60)
    assert (program.returncode, said) == (130, "recognise.py: stopped; nothing was left half-written\n")


@pytest.mark.parametrize(
    "arguments, status, said",
    [
        (["--wav", SEVEN], 2, "not allowed with argument"),
        (["--port", "65536"], 2, "expected a whole number of at least 0 and at most 65535"),
        (["--task", "gender"], 1, f"recognise.py: {DEPLOY}: expected 2 classes, as the task has, got 10\n"),
    ],
)
def test_a_misuse_is_one_sentence(arguments, status, said, capsys):
    command = ["--page", "--no-show", "--network", DEPLOY, WEIGHTS, *arguments]
    if status == 2:
        with pytest.raises(SystemExit, match="2"):
            recognise.main(command)
    else:
        assert recognise.main(command) == status
    assert said in capsys.readouterr().err


def test_a_network_of_other_inputs_is_refused(tmp_path, capsys):
    text = Path(DEPLOY).read_text(encoding="utf-8")
    (tmp_path / "deploy.prototxt").write_text(text.replace("dim: 227", "dim: 230", 1), encoding="utf-8")
    assert recognise.main(["--page", "--network", str(tmp_path / "deploy.prototxt"), WEIGHTS]) == 1
    said = "expected an input of one of the shapes (1, 227, 227), (1, 1, 8000), got (1, 230, 227)"
    assert capsys.readouterr().err == f"recognise.py: {tmp_path / 'deploy.prototxt'}: {said}\n"


def test_the_small_network_answers_in_the_terminal_too(tmp_path, capsys):
    arguments = ["--network", DEPLOY, WEIGHTS, "--wav", SEVEN, "--no-show", "--no-play", "--output", str(tmp_path)]
    assert recognise.main(arguments) == 0
    assert capsys.readouterr().out.startswith("small: 7 9")
    assert {path.name for path in tmp_path.iterdir()} == {"seven.wav", "seven_small.png", "seven_small_relevance.wav"}


# the microphone says seven; then everything that can go wrong
LOOK = """
  const said = {}, text = id => page.locator("#" + id).textContent();
  const done = () => page.waitForFunction(() => !document.getElementById("listen").ariaDisabled);
  const pressed = async () => { await page.keyboard.press("Enter"); await done(); };
  page.once("request", request => { said.sent = request.postDataBuffer().toString("base64"); });
  await page.keyboard.press("Tab");
  await pressed();
  said.heard = [await text("status"), await text("problem")];
  said.focus = await page.evaluate(() => document.activeElement.id);
  said.first = await page.locator("tbody tr").first().textContent();
  const colours = await page.locator("canvas").evaluate(canvas => {
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width - 90, canvas.height), found = [0, 0];
    for (let k = 0; k < data.length; k += 4) {
      if (data[k] > data[k + 2] + 60) found[0]++;
      if (data[k + 2] > data[k] + 60) found[1]++;
    }
    return found;
  });
  said.coloured = colours.map(count => count > 200);
  const sound = page.locator("audio").last();
  await sound.focus();
  await page.keyboard.press("Space");
  await page.locator(".cursor").waitFor();
  await page.locator(".cursor").waitFor({state: "hidden"});
  said.played = await sound.evaluate(one => one.ended);
  said.mistakes = await mistakes(await page.content());
  said.windows = await windows();
  const file = page.locator("#file"), buffer = base64 => Buffer.from(base64, "base64");
  said.problems = [];
  for (const base64 of [DAMAGED, SILENT]) {
    await file.setInputFiles({name: "a.wav", mimeType: "audio/wav", buffer: buffer(base64)});
    await page.waitForFunction(() => document.getElementById("problem").textContent);
    await done();
    said.problems.push(await text("problem"));
  }
  for (const name of ["NotAllowedError", "NotFoundError", "NotReadableError"]) {
    await page.evaluate(name => {
      navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", name); };
    }, name);
    await page.locator("#listen").click();
    await done();
    said.problems.push(await text("problem"));
  }
  await page.route("**/*", route => route.abort());  // as if the program had ended
  await file.setInputFiles({name: "a.wav", mimeType: "audio/wav", buffer: buffer(SILENT)});
  await page.waitForFunction(() => document.getElementById("problem").textContent.startsWith("program"));
  said.problems.push(await text("problem"));
  said.status = await text("status");
  return said;
"""


@pytest.mark.slow
def test_the_page_hears_a_seven(server, tmp_path):
    word = tmp_path / "word.wav"
    word.write_bytes(wav(spoken()))
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
             f"--use-file-for-fake-audio-capture={word}%noloop")  # fmt: skip
    steps = LOOK
    for name, blob in (("DAMAGED", wav(np.ones(9000))[:-50]), ("SILENT", wav(np.zeros(48000)))):
        steps = steps.replace(name, json.dumps(base64.b64encode(blob).decode()))
    said = look(server.address, steps, flags)
    assert said["heard"] == ["small hears: 7", ""] and said["first"].startswith("7") and said["focus"] == "listen"
    with wave.open(io.BytesIO(base64.b64decode(said["sent"]))) as file:
        rate, count = file.getframerate(), file.getnframes()  # the rate is that of the machine's loudspeakers
        assert file.getparams()[:2] == (1, 2) and 2 * rate <= count < 2.1 * rate
        sent = resample_poly(np.frombuffer(file.readframes(count), "<i2").astype(float), 48000, rate)
    likeness = correlate(sent, spoken(0, 0), "full", "fft")
    assert likeness.max() > 0.9 * np.sum(spoken(0, 0) ** 2)  # as loud as it was; a busy machine may lose some
    assert said["coloured"] == [True, True] and said["played"]
    assert said["mistakes"] == [] and said["windows"] == [[[], 0]] * 4
    assert [problem.split(", got ")[0] for problem in said["problems"]] == [
        "recording: expected a whole file",
        "recording: expected a spoken digit",
        "microphone: expected leave to listen",
        "microphone: expected one",
        "microphone: expected one that is free",
        "program: expected an answer",
    ]
    assert said["status"] == ""


@pytest.mark.slow
def test_a_browser_that_denies_the_microphone(server):
    steps = """
      await page.locator("#listen").click();
      await page.waitForFunction(() => document.getElementById("problem").textContent);
      return page.locator("#problem").textContent();
    """
    assert look(server.address, steps).startswith("microphone: expected ")
