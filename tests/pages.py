"What tests see of a page."

from html.parser import HTMLParser

from on_disk import ODD_NAMES

HOSTILE = [
    "<script>alert(1)</script>.mp3",
    '"><img src=x onerror=alert(1)>.wav',
    "' onload='alert(1)",
    "&lt;b&gt;",
    "]]></style><b>",
    "gpj.\u202ecod",
    "\ud800",
    *(name.decode(errors="surrogateescape") for name in ODD_NAMES),
]
EMPTY = {"img", "rect"}
OURS = {"div", "style", "header", "strong", "span", "table", "tr", "th", "td", "code", "figcaption", "figure", "img"}
OURS |= {"audio", "video", "svg", "rect", "title", "details", "summary"}


class Page(HTMLParser):
    "A page of HTML: its tags, their attributes, and its text; wrong nesting is an error"

    def __init__(self, html):
        super().__init__()
        html.encode()
        self.tags, self.attributes, self.texts, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert not [tag for tag in self._open if tag not in EMPTY], self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open[-1] in EMPTY and self._open[-1] != tag:
            self._open.pop()
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.texts.append(data)

    def is_ours(self):
        "Are there only our own tags, and nothing that runs or is fetched?"
        names = {name for name, _ in self.attributes}
        sources = [value for name, value in self.attributes if name in ("src", "href")]
        harmless = not any(name.startswith("on") for name in names)
        return set(self.tags) <= OURS and harmless and all(source.startswith("data:") for source in sources)
