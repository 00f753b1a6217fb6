"""What is wrong with the structure of a page, seen without a browser."""

from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta"}  # elements without an end
NAMED = ("alt", "aria-label", "title")  # where an element's name may stand that has no text


class Structure(HTMLParser):
    """Reads a page; `faults` are sentences."""

    def __init__(self, text):
        super().__init__()
        self.faults, self.levels, self.ids, self.links = [], [], [], []
        self.count, self.open, self.named = {}, [], set()
        self.feed(text)
        self.close()
        headings = self.levels
        if headings[:1] != [1] or headings.count(1) != 1:
            self.faults.append(f"expected one h1, first of the headings, got {headings}")
        self.faults += [f"h{b} after h{a}" for a, b in zip(headings, headings[1:], strict=False) if b > a + 1]
        for name in ("title", "main"):
            if self.count.get(name) != 1:
                self.faults.append(f"expected one {name}, got {self.count.get(name, 0)}")
        self.faults += [f"id {name} twice" for name in {one for one in self.ids if self.ids.count(one) > 1}]
        self.faults += [f"no place for #{name}" for name in self.links if name not in self.ids]

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.count[tag] = self.count.get(tag, 0) + 1
        self.ids += [found["id"]] if "id" in found else []
        if tag == "html" and not found.get("lang"):
            self.faults.append("html without lang")
        if tag in ("h1", "h2", "h3", "h4"):
            self.levels.append(int(tag[1]))
        in_label = "label" in self.open
        if tag in ("img", "audio", "select", "input", "nav") and not in_label and not any(map(found.get, NAMED)):
            self.faults.append(f"{tag} without a name")
        if tag == "th" and not found.get("scope"):
            self.faults.append("th without scope")
        for name in ("src", "href", "action"):
            place = found.get(name, "")
            if place.startswith("#"):
                self.links.append(place[1:])
            if place.startswith(("http:", "https:", "//")):
                self.faults.append(f"{tag} leads to {place}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} is closed where it is not open")


def faults(text):
    """Sentences about a page's HTML; none where it has a language, a title, one main part and one h1, headings in
    order, names for pictures, players and controls, links that lead somewhere, and asks for nothing elsewhere."""
    return Structure(text).faults
