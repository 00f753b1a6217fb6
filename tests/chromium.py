"""Pages in a real browser: Chromium, driven by Playwright, with axe-core and html-validate.

npm install --prefix tests/browser --no-package-lock     brings what they need beside Chromium and Node
"""

import json
import shutil
import subprocess
from pathlib import Path

from tests.needs import need

DRIVER = Path(__file__).with_name("browser") / "drive.mjs"
CLIENT = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required")  # root has no sandbox


def look(url, steps, flags=()):
    """What JavaScript `steps` (the body of an async function) return for a page at `url`, with JSON's types.

    They are given Playwright's `page`, `barriers()` (axe's serious findings), `mistakes(text)` (invalid HTML) and
    `windows(look)` (barriers and width at a desk's and a telephone's size, light and dark). The window is 1280 pixels
    wide; flags: further ones of Chromium's. The page must ask for nothing but what `url` begins, and not complain in
    the console.
    """
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    there = program and shutil.which("node") and (DRIVER.parent / "node_modules").is_dir()
    need(
        "chromium", there, f"NOT TESTED IN A BROWSER: Chromium, Node or its packages are missing ({__name__} says more)"
    )
    asked = {"url": url, "steps": steps, "flags": [*CLIENT, *flags]}
    done = subprocess.run(
        ["node", str(DRIVER)],
        input=json.dumps(asked | {"executablePath": program}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["complaints"] == []
    assert [one for one in said["requests"] if not one.startswith((url, "data:"))] == []
    return said.get("result")
