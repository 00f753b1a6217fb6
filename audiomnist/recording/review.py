"""Looking at a take and moving its cut marks: the marks are pure, the window is matplotlib's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from audiomnist.recording.plan import Prompt
from audiomnist.recording.utterances import LONG

Mark = tuple[float, float]  # begin and end in s
NEAR = 0.08  # s; a mark this near is grabbed
SHORTEST = 0.05  # s between a begin and its end
GUESS = (0.3, 0.9)  # s after a digit was shown, where marks are put for an utterance that was not found
POINTS = 4000  # of the drawn waveform
HELP = "drag the ends, click plays, D discards the digit under the pointer, ENTER saves, N next without saving, Q ends"


class Marks:
    """The begin and end of each prompt of a take, None where there is nothing to keep."""

    def __init__(self, marks: Sequence[Mark | None], total: float):
        self.marks, self.total = list(marks), total

    def nearest(self, time: float) -> tuple[int, int] | None:
        """(prompt, 0 begin or 1 end) of the mark next to `time` s, None when none is near."""
        ends = [(abs(m[side] - time), k, side) for k, m in enumerate(self.marks) if m for side in (0, 1)]
        distance, k, side = min(ends, default=(np.inf, 0, 0))
        return (k, side) if distance <= NEAR else None

    def move(self, prompt: int, side: int, time: float) -> None:
        """Put a mark to `time` s, within the take and so that its other end stays on its side."""
        start, stop = self.marks[prompt]
        if side == 0:
            start = min(max(time, 0.0), stop - SHORTEST)
        else:
            stop = max(min(time, self.total), start + SHORTEST)
        self.marks[prompt] = (start, stop)

    def at(self, time: float) -> int | None:
        """The prompt whose segment holds `time` s."""
        return next((k for k, m in enumerate(self.marks) if m and m[0] <= time <= m[1]), None)

    def discard(self, prompt: int) -> None:
        self.marks[prompt] = None

    def restore(self, prompt: int, onset: float) -> None:
        """Marks where the utterance of a prompt that was shown at `onset` s should be."""
        start = min(onset + GUESS[0], self.total - 2 * SHORTEST)
        self.marks[prompt] = (max(0.0, start), min(onset + GUESS[1], self.total))

    def problems(self) -> list[str]:
        """What keeps these marks from being saved: segments that overlap or are too long."""
        found = []
        there = [(m, k) for k, m in enumerate(self.marks) if m]
        for (first, k), (second, j) in zip(there, there[1:], strict=False):
            if second[0] < first[1]:
                found.append(f"segments {k + 1} and {j + 1} overlap")
        found += [f"segment {k + 1} is longer than {LONG:g} s" for m, k in there if m[1] - m[0] > LONG]
        return found


def review_take(
    title: str,
    samples: np.ndarray,
    rate: int,
    series: Sequence[Prompt],
    onsets: Sequence[float],
    marks: Sequence[Mark | None],
    doubts: Sequence[Sequence[str]],
    play: Callable[[np.ndarray], None],
) -> tuple[str, list[Mark | None]]:
    """Show one take until a key ends it; returns ("save" | "next" | "quit", the marks).

    samples: int16 (N,) at `rate` Hz; `play` gets the samples of a clicked segment. A click where a digit has no
    segment gives it one.
    """
    import matplotlib
    import matplotlib.pyplot as plt

    total = len(samples) / rate
    model = Marks(marks, total)
    outcome, grabbed, moved = ["quit"], [None], [False]
    with matplotlib.rc_context({key: [] for key in matplotlib.rcParams if key.startswith("keymap.")}):
        figure, axes = plt.subplots(figsize=(14, 5), layout="constrained")
        size = max(1, len(samples) // POINTS)
        blocks = samples[: len(samples) // size * size].reshape(-1, size)
        times = np.arange(len(blocks)) * size / rate
        peak = max(1, int(np.abs(samples.astype(np.int32)).max(initial=0)))

        def draw(notice: str = "") -> None:
            axes.clear()
            axes.fill_between(times, blocks.min(axis=1), blocks.max(axis=1), color="0.35", linewidth=0)
            for k, ((digit, _), onset) in enumerate(zip(series, onsets, strict=True)):
                axes.axvline(onset, color="0.8", linewidth=1, zorder=0)
                mark = model.marks[k]
                colour = "tab:orange" if doubts[k] else "tab:green"
                x = onset + 0.5 if mark is None else sum(mark) / 2
                axes.text(x, 1.12 * peak, str(digit), ha="center", fontsize=16, color="tab:red" if not mark else colour)
                if doubts[k]:
                    axes.text(x, -1.3 * peak, "\n".join(doubts[k]), ha="center", va="top", fontsize=6, color=colour)
                if mark:
                    axes.axvspan(*mark, color=colour, alpha=0.25)
                    for time in mark:
                        axes.axvline(time, color=colour, linewidth=2)
            axes.set(xlim=(0, total), ylim=(-1.6 * peak, 1.3 * peak), xlabel="time (s)")
            axes.set_title(f"{title}\n{notice or HELP}", fontsize=10, color="tab:red" if notice else "black")
            figure.canvas.draw_idle()

        def press(event) -> None:
            if event.inaxes is axes:
                grabbed[0], moved[0] = model.nearest(event.xdata), False

        def drag(event) -> None:
            if grabbed[0] is not None and event.inaxes is axes:
                moved[0] = True
                model.move(*grabbed[0], event.xdata)
                draw()

        def release(event) -> None:
            held, grabbed[0] = grabbed[0], None
            if moved[0] or event.inaxes is not axes:
                return
            k = held[0] if held else model.at(event.xdata)
            if k is not None:
                start, stop = model.marks[k]
                play(samples[round(start * rate) : round(stop * rate)])
                return
            near = [k for k, onset in enumerate(onsets) if model.marks[k] is None and 0 <= event.xdata - onset < 1.3]
            if near:
                model.restore(near[-1], onsets[near[-1]])
                draw()

        def key(event) -> None:
            if event.key in ("d", "D") and event.inaxes is axes and model.at(event.xdata) is not None:
                model.discard(model.at(event.xdata))
                draw()
            elif event.key == "enter":
                if model.problems():
                    draw("; ".join(model.problems()))
                else:
                    outcome[0] = "save"
                    plt.close(figure)
            elif event.key in ("n", "N", "q", "Q", "escape"):
                outcome[0] = "next" if event.key in ("n", "N") else "quit"
                plt.close(figure)

        for name, handler in (
            ("button_press_event", press), ("motion_notify_event", drag), ("button_release_event", release),
            ("key_press_event", key),
        ):  # fmt: skip
            figure.canvas.mpl_connect(name, handler)
        draw()
        plt.show(block=True)
    return outcome[0], model.marks


def show_pictures(paths: Sequence[str]) -> bool:
    """Show picture files in windows of matplotlib, without waiting; False where it can open none."""
    import matplotlib
    import matplotlib.pyplot as plt

    for path in paths:
        try:
            figure = plt.figure(path, figsize=(11, 5.5))
        except Exception:  # each toolkit fails in its own way
            return False
        if getattr(figure.canvas, "required_interactive_framework", None) is None:
            return False
        figure.clear()
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.imshow(matplotlib.image.imread(path))
        figure.canvas.manager.show()
        figure.canvas.draw()
        figure.canvas.flush_events()
    return True
