"""Sounds in a notebook: each has a player that says its name to those who do not see the text above it."""

import base64

import IPython.display

from audiomnist.experiments import audible_heatmaps
from audiomnist.study.notebook import Made
from audiomnist.study.outcome import Outcome


def test_a_player_has_the_caption_as_its_name(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda one: shown.append(one.data))
    sounds = {"a": (b"bytes of a", 'a "quiet" one'), "b": (b"bytes of b", "R<0")}
    Made(audible_heatmaps.EXPERIMENT, Outcome(sounds=sounds)).sounds()
    assert capsys.readouterr().out.splitlines() == [
        'audible_heatmaps/a.wav: a "quiet" one', "audible_heatmaps/b.wav: R<0"
    ]  # fmt: skip
    names = ["a &quot;quiet&quot; one", "R&lt;0"]
    data = [base64.b64encode(sound).decode() for sound, _ in sounds.values()]
    assert shown == [
        f'<audio controls aria-label="{name}" src="data:audio/wav;base64,{text}"></audio>'
        for name, text in zip(names, data, strict=True)
    ]
