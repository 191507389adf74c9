"""A page as its reader sees it."""

from html.parser import HTMLParser
from pathlib import Path


class PageParser(HTMLParser):
    """What a page holds: `source`, all attributes as (tag, name, value), and the text outside scripts and styles."""

    def __init__(self, path: Path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.attributes, self.text, self.inside = [], "", []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text += data
