"""XML: one element a row; its attributes and its child elements become columns, as text.

lxml parses it by the piece. Entities are refused, and so is what libxml2 refuses by default: text
nested more than 256 deep, and values of more than 10 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO, Literal

from lxml import etree
from pydantic import Field, field_validator

from producers.formats.file_options import FileOptions
from producers.formats.row import BadRow, Row, UnfinishedFile, UnreadableFile

BLOCK = 1 << 18
MOST_BETWEEN = 16 * 1024 * 1024
"""Bytes without the end of a row: they are held in memory."""


class XmlOptions(FileOptions):
    """What a row is.

    Attributes:
        row_element: The tag of a row, or the path to it: `catalog/products/item`. An attribute
            `id` of a row becomes `{row_element}_id`.
        nested: What a child that holds elements, or stands twice, becomes: JSON, or a rejected row.
    """

    row_element: Annotated[str, Field(min_length=1)] = "row"
    nested: Literal["json", "reject"] = "json"

    @field_validator("row_element")
    @classmethod
    def _names_elements(cls, path: str) -> str:
        parts = [part for part in path.split("/") if part]
        if not parts:
            raise ValueError("it names no element")
        for part in parts:
            if ":" in part or "{" in part:
                raise ValueError(
                    f"namespaces do not count: name it without its prefix, not {part!r}"
                )
            try:
                etree.QName(part)
            except ValueError:
                raise ValueError(f"{part!r} is no name of an element") from None
        return path


def read(stream: BinaryIO, options: XmlOptions) -> Iterator[Row | BadRow]:
    """Read the row elements one by one, whatever their namespace; entities are refused.

    An attribute of a child element becomes `{child}_{attribute}`. The outermost element of the
    row's name is a row: one within it is a child. A row without children is its text, in a column
    of the row's name.

    Raises:
        UnreadableFile: It is not well-formed, declares entities, or holds other elements only.
    """
    found = _Rows(options)
    since, is_empty, root = 0, True, None
    try:
        while True:
            block = stream.read(BLOCK)
            since += len(block)
            if block:
                found.parser.feed(block)
                is_empty = False
            elif is_empty:
                raise UnfinishedFile("it is not well-formed XML: it is empty")
            else:
                root = found.parser.close()
            for row in found.ended():
                since = 0
                yield row
            if since > MOST_BETWEEN:
                raise UnreadableFile(
                    f"it has {MOST_BETWEEN >> 20} MB without the end of a <{options.row_element}>",
                    "Set `row_element` to the tag of a row.",
                )
            if not block:
                break
    except etree.LxmlError as error:
        raise _refused(error) from None
    if found.number == 0 and root is not None and len(root):
        raise UnreadableFile(
            f"it has elements, but no <{options.row_element}>",
            "Set `row_element` to the tag of a row.",
        )


class _Rows:
    """The row elements of a file, as the parser comes to their ends."""

    def __init__(self, options: XmlOptions) -> None:
        self.number = 0
        self._path = [part for part in options.row_element.split("/") if part]
        self._tag = self._path[-1]
        self._nested_as = options.nested
        self._depth = 0
        self.parser = etree.XMLPullParser(
            events=("start", "end"),
            tag=f"{{*}}{self._tag}",
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
            remove_comments=True,
            remove_pis=True,
        )

    def ended(self) -> Iterator[Row | BadRow]:
        """The rows that have ended since the last call; the parser lets go of them."""
        events: Any = self.parser.read_events()
        for event, element in events:
            if element.getparent() is None:
                continue  # the whole document is no row
            self._depth += 1 if event == "start" else -1
            if event == "start" or self._depth or not _is_at(element, self._path):
                continue
            _no_entities(element)
            self.number += 1
            yield _row(self.number, element, self._tag, self._nested_as)
            _forget(element)


def _refused(error: Exception) -> UnreadableFile:
    """Not the message, which may quote what stands in the file: what libxml2 calls it."""
    line = getattr(error, "lineno", None)
    text = str(error)
    place = f" (line {line})" if line else ""
    if "Excessive depth" in text or "depth" in text:
        return UnreadableFile(f"it is nested more than 256 elements deep{place}")
    if "entity" in text.lower() or "amplification" in text.lower():
        return UnreadableFile("it declares entities, which are refused")
    if "encoding" in text.lower():
        return UnreadableFile(f"it is not well-formed XML: its encoding is another one{place}")
    if "Premature end" in text or "Document is empty" in text:
        return UnfinishedFile(f"it is not well-formed XML: it ends in the middle{place}")
    return UnreadableFile(f"it is not well-formed XML{place}")


def _is_at(element: Any, path: list[str]) -> bool:
    if len(path) == 1:
        return True
    above = [_local(parent.tag) for parent in element.iterancestors()]
    return above[: len(path) - 1] == path[-2::-1]


def _no_entities(element: Any) -> None:
    dtd = element.getroottree().docinfo.internalDTD
    if dtd is None:
        return
    refers = next(element.iter(etree.Entity), None) is not None
    if refers or next(iter(dtd.iterentities()), None) is not None:
        raise UnreadableFile("it declares entities, which are refused")


def _forget(element: Any) -> None:
    """Drop an element and what stands before it, or the tree would grow to the file's size."""
    parent = element.getparent()
    while parent is not None:
        while element.getprevious() is not None:
            del parent[0]
        element, parent = parent, parent.getparent()


def _row(number: int, element: Any, tag: str, nested: str) -> Row | BadRow:
    values: dict[str, Any] = {}
    twice: set[str] = set()
    reason = "it has text between its elements" if _is_mixed(element) else ""
    found: list[tuple[str, Any]] = [
        (f"{tag}_id" if n == "id" else _local(n), text) for n, text in element.attrib.items()
    ]
    if not len(element) and element.text and element.text.strip():
        found.append((tag, element.text))  # a row that is one value
    for child in element:
        name = _local(child.tag)
        if len(child):
            if nested == "reject":
                reason = f"its element <{name}> is not a single text"
            elif any(map(_is_mixed, child.iter())):
                reason = f"its element <{name}> has text between its elements"
            found.append((name, _nested(child)))
            continue
        found.append((name, child.text or ""))
        found.extend((f"{name}_{_local(n)}", text) for n, text in child.attrib.items())
    for name, value in found:
        if name not in values:
            values[name] = value
        elif nested == "reject":
            reason = f"it says <{name}> twice"
        elif name in twice:
            values[name].append(value)
        else:
            twice.add(name)
            values[name] = [values[name], value]
    if not reason:
        return Row(number, values, element.sourceline or 0)
    element.tail = None
    text = etree.tostring(element, encoding="utf-8")
    return BadRow(number, text, reason, element.sourceline or 0)


def _nested(element: Any) -> Any:
    """An element as JSON: its text, or an object; what stands several times is an array."""
    found = [(f"@{_local(name)}", text) for name, text in element.attrib.items()]
    if not len(element):
        if not found:
            return element.text or ""
        found.append(("#text", element.text or ""))
    found += [(_local(child.tag), _nested(child)) for child in element]
    made: dict[str, Any] = {}
    several: set[str] = set()
    for name, value in found:
        if name not in made:
            made[name] = value
        elif name in several:
            made[name].append(value)
        else:
            several.add(name)
            made[name] = [made[name], value]
    return made


def _local(name: str) -> str:
    """A tag or attribute without its namespace."""
    return name.rpartition("}")[2]


def _is_mixed(element: Any) -> bool:
    if not len(element):
        return False
    texts = [element.text, *(child.tail for child in element)]
    return any(text and text.strip() for text in texts)
