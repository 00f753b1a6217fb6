"""What looks at pages sees what is wrong with one, each fault by itself, and nothing wrong with a good page."""

import pytest

from tests.html_structure import faults

GOOD = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>T</title></head><body><main><h1 id="a">T</h1>'
    '<h2>U</h2><h3>V</h3><h2>W</h2><img alt="a curve" src="data:,"><audio aria-label="a word"></audio>'
    '<label>digit <select></select></label><a href="#a">up</a><a href="a.csv">table</a>'
    '<table><tr><th scope="col">x</th></tr></table></main></body></html>'
)


def test_a_good_page():
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    "good, bad, fault",
    [
        (' lang="en"', "", "html without lang"),
        ("<title>T</title>", "", "expected one title, got 0"),
        ("<main>", "<main></main><main>", "expected one main, got 2"),
        ("<h2>U</h2>", "<h1>U</h1>", "expected one h1, first of the headings, got [1, 1, 3, 2]"),
        ("<h2>U</h2>", "", "h3 after h1"),
        ("<h2>U</h2>", '<h2 id="a">U</h2>', "id a twice"),
        ("#a", "#b", "no place for #b"),
        (' alt="a curve"', "", "img without a name"),
        (' aria-label="a word"', "", "audio without a name"),
        ("<label>digit <select></select></label>", "digit <select></select>", "select without a name"),
        (' scope="col"', "", "th without scope"),
        ('"data:,"', '"https://example.org/a.png"', "img leads to https://example.org/a.png"),
        ("<h3>V</h3>", "<h3><b>V</h3></b>", "h3 is closed where it is not open"),
    ],
)
def test_a_fault(good, bad, fault):
    assert good in GOOD and fault in faults(GOOD.replace(good, bad))
