"""The windows, on a stand-in for Tk that notes what is drawn, and on matplotlib's canvas without a screen."""

import signal
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
from matplotlib.backend_bases import KeyEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from audiomnist.recording import window
from audiomnist.recording.picture import Bar, Text, picture
from audiomnist.recording.prompter import BACKSPACE, ENTER, ESCAPE, View

WIDTH, HEIGHT = 1000, 500
VIEW = View(
    "series", "Speak", "a text for $5$", "ENTER", digits=(3, 1, 4), active=1, progress=0.25, progress_text="1 of 4",
    level=-20.0,
)  # fmt: skip


class Prompter:
    """Notes the keys that it gets; ends at ESC, fails at "!"."""

    def __init__(self):
        self.view, self.outcome, self.keys = VIEW, None, []

    def send(self, key):
        if key == "!":
            raise OSError("a full disk")
        if key is not None:
            self.keys.append(key)
        if key == ESCAPE:
            self.outcome = "stopped by key"


@pytest.fixture
def screen(monkeypatch):
    """A stand-in for Tk. `screen.act` is what its user does; what was drawn and asked for is noted."""
    screen = SimpleNamespace(drawn=[], asked=[], ended=False, waiting=[], act=lambda: None, handlers={}, gone=False)

    class Tk:
        def __getattr__(self, name):
            return lambda *values, **named: screen.asked.append((name, *values, named))

        def protocol(self, name, handler):
            screen.handlers[name] = handler

        bind = protocol

        def after(self, milliseconds, work):
            screen.waiting.append(work)

        def mainloop(self):
            screen.waiting.pop(0)()
            screen.act()

        def quit(self):
            screen.ended = True

        def destroy(self):
            screen.gone = True

    class Canvas:
        def __init__(self, root, **named):
            pass

        def pack(self, **named):
            pass

        def winfo_width(self):
            return WIDTH

        def winfo_height(self):
            return HEIGHT

        def delete(self, what):
            assert what == "all"
            screen.drawn.clear()

        def create_rectangle(self, *place, **named):
            screen.drawn.append(("rectangle", place, named))

        def create_text(self, *place, **named):
            screen.drawn.append(("text", place, named))

    font = SimpleNamespace(Font=lambda root, family, size, weight: (size, weight))
    tkinter = SimpleNamespace(Tk=Tk, Canvas=Canvas, font=font, TclError=RuntimeError)
    monkeypatch.setitem(sys.modules, "tkinter", tkinter)
    monkeypatch.setitem(sys.modules, "tkinter.font", font)

    def key(keysym, char=""):
        screen.handlers["<Key>"](SimpleNamespace(keysym=keysym, char=char))

    screen.key = key
    return screen


def test_tk_draws_the_picture_to_scale(screen):
    prompter = Prompter()
    screen.act = lambda: screen.key("Escape")
    window.run_tk(prompter, full_screen=True)
    assert ("attributes", "-fullscreen", True, {}) in screen.asked and screen.gone
    texts = [part for part in picture(VIEW) if isinstance(part, Text)]
    bars = [part for part in picture(VIEW) if isinstance(part, Bar)]
    found = [
        (place, named["text"], named["fill"], named["font"]) for kind, place, named in screen.drawn if kind == "text"
    ]
    assert found == [
        (
            (part.x * WIDTH, part.y * HEIGHT), part.text, part.colour,
            (-max(8, round(part.size * HEIGHT)), "bold" if part.bold else "normal"),
        )
        for part in texts
    ]  # fmt: skip
    boxes = [(place, named) for kind, place, named in screen.drawn if kind == "rectangle"]
    assert len(boxes) == 2 * len(bars) == 4
    for bar, (filled, inside), (frame, outside) in zip(bars, boxes[::2], boxes[1::2], strict=True):
        assert frame == pytest.approx(
            (0.08 * WIDTH, (bar.y - bar.height / 2) * HEIGHT, 0.92 * WIDTH, (bar.y + bar.height / 2) * HEIGHT)
        )
        assert filled == pytest.approx((*frame[:2], frame[0] + bar.filled * 0.84 * WIDTH, frame[3]))
        assert inside["fill"] == outside["outline"] == bar.colour


def test_tk_gives_keys_and_time_to_the_session_and_ends_with_it(screen):
    prompter = Prompter()

    def act():
        for keysym, char in [("y", "y"), ("Return", "\r"), ("KP_Enter", "\r"), ("BackSpace", "\b"), ("Shift_L", "")]:
            screen.key(keysym, char)
        assert not screen.ended and len(screen.waiting) == 1
        screen.waiting.pop(0)()  # the next tick asks for one more
        assert len(screen.waiting) == 1
        screen.key("Escape", "\x1b")
        assert screen.ended
        screen.waiting.pop(0)()
        assert screen.waiting == []

    screen.act = act
    window.run_tk(prompter)
    assert prompter.keys == ["y", ENTER, ENTER, BACKSPACE, ESCAPE] and prompter.outcome == "stopped by key"


def test_tk_draws_again_only_what_has_changed(screen):
    prompter = Prompter()

    def act():
        screen.drawn.append("still there")
        screen.key("y", "y")
        assert screen.drawn[-1] == "still there"
        prompter.view = View("pause", pause=0.5)
        screen.key("y", "y")
        assert len(screen.drawn) == 2
        screen.handlers["WM_DELETE_WINDOW"]()

    screen.act = act
    window.run_tk(prompter)
    assert prompter.outcome == "stopped" and screen.ended


def test_tk_hands_on_what_went_wrong(screen):
    prompter = Prompter()
    screen.act = lambda: screen.key("exclam", "!")
    with pytest.raises(OSError, match="a full disk"):
        window.run_tk(prompter)
    assert screen.ended and screen.gone


def test_a_polite_kill_closes_the_window(screen):
    before = signal.getsignal(signal.SIGTERM)
    prompter = Prompter()
    screen.act = lambda: signal.raise_signal(signal.SIGTERM)
    window.run_tk(prompter)
    assert prompter.outcome == "stopped" and screen.ended and signal.getsignal(signal.SIGTERM) is before


def test_without_a_screen_there_is_one_sentence(screen, monkeypatch):
    def refuse():
        raise RuntimeError("no display name")

    monkeypatch.setattr(sys.modules["tkinter"], "Tk", refuse)
    with pytest.raises(window.WindowError, match="window: expected a screen, or --terminal, got no display name"):
        window.run_tk(Prompter())
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(window.WindowError, match="window: expected Tk .*, got "):
        window.run_tk(Prompter())
    with pytest.raises(window.WindowError, match=r"got matplotlib's \w+, which opens none"):
        window.run_window(Prompter())


def test_matplotlib_draws_the_picture_and_gives_keys(monkeypatch):
    plt.switch_backend("agg")
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "a stand-in", raising=False)
    prompter, seen = Prompter(), {}

    def act(block):
        (axes,) = plt.gcf().axes
        canvas = plt.gcf().canvas
        seen["texts"] = [
            (text.get_text(), text.get_position(), to_hex(text.get_color()), text.get_fontsize()) for text in axes.texts
        ]
        seen["bars"] = [(bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()) for bar in axes.patches]
        seen["limits"] = axes.get_xlim(), axes.get_ylim()
        for name in ("y", "enter", "backspace", "space", "shift", "escape"):
            canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, name, 0, 0))
        assert not plt.get_fignums()

    monkeypatch.setattr(plt, "show", act)
    window.run_matplotlib(prompter)
    assert prompter.keys == ["y", ENTER, BACKSPACE, " ", ESCAPE] and prompter.outcome == "stopped by key"
    parts = picture(VIEW)
    assert seen["limits"] == ((0, 1), (1, 0))  # y from the top
    wanted = [
        (part.text.replace("$", r"\$"), (part.x, part.y), part.colour, pytest.approx(part.size * 6.6 * 72 * 0.75))
        for part in parts
        if isinstance(part, Text)
    ]
    assert seen["texts"] == wanted
    bars = [bar for bar in parts if isinstance(bar, Bar)]
    assert seen["bars"] == [
        pytest.approx((0.08, bar.y - bar.height / 2, share * 0.84, bar.height))
        for bar in bars
        for share in (bar.filled, 1)
    ]


def test_matplotlib_hands_on_what_went_wrong_and_stops_where_it_is_closed(monkeypatch):
    plt.switch_backend("agg")
    monkeypatch.setattr(FigureCanvasAgg, "required_interactive_framework", "a stand-in", raising=False)

    def fail(block):
        canvas = plt.gcf().canvas
        canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, "!", 0, 0))

    monkeypatch.setattr(plt, "show", fail)
    with pytest.raises(OSError, match="a full disk"):
        window.run_matplotlib(Prompter())
    assert not plt.get_fignums()
    monkeypatch.setattr(plt, "show", lambda block: plt.close("all"))
    prompter = Prompter()
    window.run_matplotlib(prompter)
    assert prompter.outcome == "stopped"
