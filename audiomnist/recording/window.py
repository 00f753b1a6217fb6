"""The session in a window: Tk where Python has it, else whatever matplotlib can open. The only file with a GUI."""

from __future__ import annotations

import signal
from collections.abc import Callable

from audiomnist.recording.picture import BACKGROUND, LEFT, RIGHT, Bar, Text, picture
from audiomnist.recording.prompter import BACKSPACE, ENTER, ESCAPE, Prompter
from caffe_proto import UserError

TITLE = "Spoken digits: recording"
SIZE = 1100, 660  # pixels at the beginning
TICK = 20  # ms
KEYS = {"Return": ENTER, "KP_Enter": ENTER, "Escape": ESCAPE, "BackSpace": BACKSPACE}  # Tk's names
MATPLOTLIB_KEYS = {"enter": ENTER, "escape": ESCAPE, "backspace": BACKSPACE, "space": " "}
NEEDED = "Tk (Debian, Ubuntu: apt install python3-tk), or a window system for matplotlib, or --terminal"


class WindowError(UserError, RuntimeError):
    """No window can be opened; the message is one sentence for the user."""


def run_tk(prompter: Prompter, full_screen: bool = False) -> None:
    """Run a session in a Tk window until it ends or the window is closed (which stops it). Raises WindowError."""
    try:
        import tkinter
        import tkinter.font
    except ImportError as error:
        raise WindowError("window", NEEDED, error) from None
    try:
        root = tkinter.Tk()
    except tkinter.TclError as error:
        raise WindowError("window", "a screen, or --terminal", error) from None
    root.title(TITLE)
    root.geometry("{}x{}".format(*SIZE))
    root.configure(background=BACKGROUND)
    root.attributes("-fullscreen", full_screen)
    canvas = tkinter.Canvas(root, background=BACKGROUND, highlightthickness=0)
    canvas.pack(fill="both", expand=True)
    fonts: dict[tuple[int, bool], tkinter.font.Font] = {}
    shown = [None]
    failed: list[BaseException] = []

    def draw() -> None:
        width, height = canvas.winfo_width(), canvas.winfo_height()
        parts = picture(prompter.view)
        if (parts, width, height) == shown[0]:
            return
        shown[0] = (parts, width, height)
        canvas.delete("all")
        unit = min(height, width * SIZE[1] / SIZE[0])
        for part in parts:
            if isinstance(part, Bar):
                top, bottom = (part.y - part.height / 2) * height, (part.y + part.height / 2) * height
                left, right = LEFT * width, RIGHT * width
                end = left + part.filled * (right - left)
                canvas.create_rectangle(left, top, end, bottom, fill=part.colour, width=0)
                canvas.create_rectangle(left, top, right, bottom, outline=part.colour)
            else:
                key = -max(8, round(part.size * unit)), part.bold
                if key not in fonts:
                    weight = "bold" if part.bold else "normal"
                    fonts[key] = tkinter.font.Font(root, family="DejaVu Sans", size=key[0], weight=weight)
                canvas.create_text(part.x * width, part.y * height, text=part.text, font=fonts[key], fill=part.colour)

    def send(key: str | None) -> None:
        try:
            prompter.send(key)
            draw()
        except BaseException as error:  # Tk would print it and go on; the session must end instead
            failed.append(error)
        if failed or prompter.outcome is not None:
            root.quit()

    def press(event: tkinter.Event) -> None:
        key = KEYS.get(event.keysym, event.char)
        if key:
            send(key)

    def tick() -> None:
        send(None)
        if not failed and prompter.outcome is None:
            root.after(TICK, tick)

    def close() -> None:
        prompter.outcome = prompter.outcome or "stopped"
        root.quit()

    root.protocol("WM_DELETE_WINDOW", close)
    root.bind("<Key>", press)
    with _interruptible(close):
        root.after(0, tick)
        root.focus_force()
        root.mainloop()
    root.destroy()
    if failed:
        raise failed[0]


def run_matplotlib(prompter: Prompter, full_screen: bool = False) -> None:
    """The same in a window of matplotlib, with whichever toolkit it finds. Raises WindowError."""
    import matplotlib

    with matplotlib.rc_context({key: [] for key in matplotlib.rcParams if key.startswith("keymap.")}):
        try:
            import matplotlib.pyplot as plt

            figure = plt.figure(TITLE, figsize=(SIZE[0] / 100, SIZE[1] / 100), dpi=100, facecolor=BACKGROUND)
        except Exception as error:  # each toolkit fails in its own way
            raise WindowError("window", NEEDED, error) from None
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            got = f"matplotlib's {matplotlib.get_backend()}, which opens none"
            raise WindowError("window", NEEDED, got)
        if full_screen:
            figure.canvas.manager.full_screen_toggle()
        shown = [None]

        def draw() -> None:
            parts = picture(prompter.view)
            if parts == shown[0]:
                return
            shown[0] = parts
            figure.clear()
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, 1), ylim=(1, 0))
            axes.axis("off")
            points = figure.get_figheight() * 72
            for part in parts:
                if isinstance(part, Bar):
                    for filled in (part.filled, 1.0):
                        axes.barh(
                            part.y, filled * (RIGHT - LEFT), part.height, left=LEFT, edgecolor=part.colour,
                            color=part.colour if filled == part.filled else "none", linewidth=1,
                        )  # fmt: skip
                elif isinstance(part, Text):
                    weight = "bold" if part.bold else "normal"
                    text = part.text.replace("$", r"\$")  # no formulas
                    axes.text(part.x, part.y, text, ha="center", va="center", color=part.colour,
                              fontsize=part.size * points * 0.75, fontweight=weight)  # fmt: skip
            figure.canvas.draw_idle()

        failed: list[BaseException] = []

        def send(key: str | None) -> None:
            try:
                prompter.send(key)
                draw()
            except BaseException as error:
                failed.append(error)
            if failed or prompter.outcome is not None:
                plt.close(figure)

        def press(event) -> None:
            key = MATPLOTLIB_KEYS.get(event.key, event.key)
            if key and (len(key) == 1 or key in MATPLOTLIB_KEYS.values()):
                send(key)

        def close() -> None:
            plt.close(figure)

        figure.canvas.mpl_connect("key_press_event", press)
        timer = figure.canvas.new_timer(interval=2 * TICK, callbacks=[(send, (None,), {})])
        timer.start()
        draw()
        with _interruptible(close):
            plt.show(block=True)
        timer.stop()
        prompter.outcome = prompter.outcome or "stopped"
        if failed:
            raise failed[0]


class _interruptible:
    """Ctrl-C and a polite kill close the window, so that the session ends as with ESC."""

    def __init__(self, close: Callable[[], None]):
        self.close, self.before = close, {}

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.before[number] = signal.signal(number, lambda *_: self.close())

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


WINDOWS: dict[str, Callable[..., None]] = {"tk": run_tk, "matplotlib": run_matplotlib}


def run_window(prompter: Prompter, kind: str | None = None, full_screen: bool = False) -> None:
    """Run a session in a window of that kind; without a kind in Tk, or else in matplotlib's. Raises WindowError."""
    if kind is not None:
        return WINDOWS[kind](prompter, full_screen)
    try:
        import tkinter  # noqa: F401 (only whether it is there)
    except ImportError:
        return run_matplotlib(prompter, full_screen)
    return run_tk(prompter, full_screen)
