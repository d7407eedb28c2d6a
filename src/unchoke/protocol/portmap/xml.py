"""XML from routers: a small tree of it, within bounds, without document types and entities.

Names lose their namespace prefix, since routers differ in them. A document type or an entity declaration is refused before the
parser sees it, a reference to an entity that XML does not define by itself is plain text, and the declared encoding does not count:
the bytes are UTF-8, or become it. Depth, elements and bytes are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.parsers import expat

from unchoke.errors import ProtocolError

MAX_SIZE = 256 * 1024

#: A device description is six elements deep and has under 300.
MAX_DEPTH = 32
MAX_ELEMENTS = 4000

_DECLARATION = re.compile(r"<!(?!--|\[CDATA\[)")
_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#x[0-9a-fA-F]{1,6});)")
_BAD = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class Element:
    """``name`` without a prefix, ``text`` (stripped) directly in it, and its children in their order."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def find(self, name: str) -> Element | None:
        """The first child of that name."""
        return next((child for child in self.children if child.name == name), None)

    def word(self, name: str) -> str:
        """The text of the first child of that name, or ""."""
        child = self.find(name)
        return child.text if child is not None else ""

    def walk(self) -> Iterator[Element]:
        """This element and all below it, in the document's order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))

    def __repr__(self) -> str:
        return f"<Element {self.name} [{len(self.children)} children]>"


def parse(data: bytes) -> Element:
    """The root of a document. Raises ProtocolError."""
    if len(data) > MAX_SIZE:
        raise ProtocolError(f"XML of more than {MAX_SIZE} bytes")
    text = _BAD.sub("", data.decode("utf-8-sig", "replace")).strip()
    if _DECLARATION.search(text):
        raise ProtocolError("XML with a document type or entities")
    if text.count("&") > MAX_ELEMENTS:  # a quarter of a million of them would take 35 ms
        raise ProtocolError("XML with too many references")
    builder = _Builder()
    try:
        parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler = builder.start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.characters
        parser.Parse(_AMPERSAND.sub("&amp;", text).encode("utf-8"), True)
    except expat.ExpatError as error:
        raise ProtocolError(f"not XML: {error}") from None
    if builder.root is None:
        raise ProtocolError("not XML: nothing in it")
    return builder.root


class _Builder:
    __slots__ = ("_count", "_path", "_texts", "root")

    def __init__(self) -> None:
        self.root: Element | None = None
        self._path: list[Element] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def start(self, name: str, _: object) -> None:
        self._count += 1
        if len(self._path) >= MAX_DEPTH or self._count > MAX_ELEMENTS:
            raise ProtocolError("XML that is too deep or too long")
        element = Element(name.rpartition(":")[2])
        if self._path:
            self._path[-1].children.append(element)
        else:
            self.root = element
        self._path.append(element)
        self._texts.append([])

    def end(self, _: str) -> None:
        self._path.pop().text = "".join(self._texts.pop()).strip()

    def characters(self, text: str) -> None:
        if self._texts:
            self._texts[-1].append(text)


def escape(text: str) -> str:
    """``text`` as the content of an element."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
