#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
# check_page.py -- a page of sae-report as a parser of HTML sees it: elements nest, names are there once and references
# lead to them, nothing comes from outside and nothing runs. Exits 1 and says what is wrong.
#
#     tests/check_page.py PAGE.html
import base64
import sys
from html.parser import HTMLParser

VOID = {"meta", "br", "img"}
KNOWN = set("""html head meta title style body h1 h2 h3 nav ul li a main section dl dt dd details summary pre p b br div
    span table caption thead tbody tr th td figure figcaption svg path text circle image use article ol code img
    """.split())


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids, self.wanted, self.seen, self.open = set(), set(), {}, []

    def handle_starttag(self, tag, attributes):
        assert tag in KNOWN, f"<{tag}>"
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on") and name not in ("style", "action", "xlink:href"), f"attribute {name}"
            if name == "id":
                assert value not in self.ids, f"id {value} twice"
                self.ids.add(value)
            elif name in ("href", "src") and value.startswith("#"):
                self.wanted.add(value[1:])
            elif name in ("href", "src"):
                assert value.startswith("data:image/png;base64,"), f"{name} {value[:80]}"
                png = base64.b64decode(value.split(",")[1], validate=True)
                assert png.startswith(b"\x89PNG\r\n\x1a\n") and png.endswith(b"IEND\xaeB`\x82"), "not a PNG"
        names = dict(attributes)
        if tag in ("svg", "img"):
            assert names.get("aria-label") or names.get("alt") or "aria-hidden" in names, f"<{tag}> without a text"

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> where {self.open[-1:]} is open"
        self.open.pop()


text = open(sys.argv[1], encoding="utf-8", newline="").read()
page = Page()
page.feed(text)
page.close()
assert not page.open, f"not closed: {page.open}"
assert page.wanted <= page.ids, f"lead nowhere: {sorted(page.wanted - page.ids)}"
assert page.seen["title"] == page.seen["h1"] == 1
for outside in ("url(", "@import", "://", "<script"):
    assert outside not in text, outside
