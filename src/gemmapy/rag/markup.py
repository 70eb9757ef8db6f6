"""HTML as text: what a person would read, with headings and lists as Markdown has them.

Pure. Scripts, styles and what a page hides are left out, since a person who uploads a page has not read them; nothing
is fetched.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "canvas"}) | {
    "audio",
    "embed",
    "video",
    "head",
    "select",
}
_VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source"}) | {
    "track",
    "wbr",
}
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_LINES = frozenset({"li", "tr", "dt", "dd"})
_BLOCKS = (
    _LINES
    | frozenset(_HEADINGS)
    | {"address", "article", "aside", "blockquote", "body", "details", "div", "dl", "fieldset", "figcaption", "figure"}
    | {"footer", "form", "header", "html", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody"}
    | {"thead", "tfoot", "ul"}
)
_CLOSED_BY_ITS_LIKE = frozenset(["p", "li", "dt", "dd", "tr", "td", "th", "option"])
_ZERO = r"0*(\.0+)?\s*(px|pt|em|rem|%)?\s*(;|!|$)"
_HIDING = re.compile(
    rf"display\s*:\s*none|visibility\s*:\s*(hidden|collapse)|opacity\s*:\s*{_ZERO}|font-size\s*:\s*{_ZERO}"
)
_DEEPEST = 512
"""Tags in tags; what is deeper counts as its outermost kin, as in browsers."""
_SPACE = re.compile(r"\s+")


def read_html(source: str) -> tuple[str, str]:
    """A page's title (empty where it has none) and its text."""
    reader = _Reader()
    reader.feed(source)
    reader.close()
    return _SPACE.sub(" ", "".join(reader.title)).strip(), reader.text()


class _Reader(HTMLParser):
    """Keeps a stack of what is open, and whether it is hidden."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self._open: list[tuple[str, bool]] = []
        self._pieces: list[str] = []
        self._in_title = False

    def text(self) -> str:
        joined = re.sub(r"[ \t]+\n", "\n", "".join(self._pieces))
        return re.sub(r"\n{3,}", "\n\n", joined).strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and not self.title:
            self._in_title = True
        if tag in _VOID:
            if tag in ("br", "hr") and not self._is_hidden:
                self._pieces.append("\n" if tag == "br" else "\n\n")
            return
        if self._open and (
            (tag in _BLOCKS and self._open[-1][0] == "head")
            or (tag in _CLOSED_BY_ITS_LIKE and self._open[-1][0] == tag)
            or (tag in _BLOCKS and self._open[-1][0] == "p")
        ):
            self.handle_endtag(self._open[-1][0])
        if len(self._open) >= _DEEPEST:
            return
        self._open.append((tag, self._is_hidden or tag in _UNSEEN or _hides(attrs)))
        if self._is_hidden:
            return
        if tag in _BLOCKS:
            self._pieces.append("\n" if tag in _LINES else "\n\n")
        if tag in _HEADINGS:
            self._pieces.append(_HEADINGS[tag] + " ")
        elif tag == "li":
            self._pieces.append("- ")
        elif tag == "pre":
            self._pieces.append("```\n")
        elif tag in ("td", "th") and self._pieces and not self._pieces[-1].endswith("\n"):
            self._pieces.append(" | ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        places = [place for place, (name, _) in enumerate(self._open) if name == tag]
        if not places:
            return
        was_hidden = self._is_hidden
        del self._open[places[-1] :]
        if not was_hidden and tag in _BLOCKS:
            self._pieces.append("\n```\n\n" if tag == "pre" else "\n" if tag in _LINES else "\n\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        if self._is_hidden:
            return
        if any(name == "pre" for name, _ in self._open):
            self._pieces.append(data)
            return
        spaced = _SPACE.sub(" ", data)
        if self._pieces and self._pieces[-1].endswith(("\n", " ")):
            spaced = spaced.lstrip(" ")
        if spaced:
            self._pieces.append(spaced)

    @property
    def _is_hidden(self) -> bool:
        return bool(self._open) and self._open[-1][1]


def _hides(attrs: list[tuple[str, str | None]]) -> bool:
    for name, value in attrs:
        if name == "hidden" or (name == "aria-hidden" and (value or "").lower() == "true"):
            return True
        if name == "style" and value and _HIDING.search(value.lower()):
            return True
    return False
