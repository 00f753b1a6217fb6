"""HTML pages that are complete in themselves: style, script and data inside, nothing asked of anybody.

page.css and page.js serve every page, viewer.html and viewer.js those that show relevance.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from pathlib import Path

# what a page that lies in a file may load: what is in it, and nothing from anywhere
CLOSED = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def part(name: str, module: str = __file__) -> str:
    """The text of a file beside a module's own file, this one's where none is given."""
    return Path(module).with_name(name).read_text(encoding="utf-8")


def embedded(data: bytes, kind: str) -> str:
    """An address that holds a file of that kind ("image/png")."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def player(wav: bytes, name: str) -> str:
    """The browser's own player of a WAV file, with a name for those who do not see what it stands under."""
    return f'<audio controls aria-label="{html.escape(name)}" src="{embedded(wav, "audio/wav")}"></audio>'


def document(title: str, body: str, scripts: Iterable[str] = (), data: object = None, policy: str = CLOSED) -> str:
    """A page whose body is HTML, with the text of `scripts` run after page.js.

    data: a JSON value that scripts find in the element `data`, or None; ValueError where it holds NaN, which is no
    JSON. policy: the content security policy.
    """
    inside = ""
    if data is not None:  # no <, so that no name in it can end the script element
        text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
        inside = f'<script type="application/json" id="data">{text}</script>\n'
    run = "\n".join([part("page.js"), *scripts])
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{part('page.css')}</style>\n</head>\n"
        f"<body>\n{body}\n{inside}<script>\n{run}</script>\n</body>\n</html>\n"
    )
