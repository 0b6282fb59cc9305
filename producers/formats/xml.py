"""XML: one element a row; its attributes and its child elements become columns, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, BinaryIO
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse
from pydantic import Field

from lake.config import Section
from producers.formats.row import BadRow, Row, UnreadableFile


class XmlOptions(Section):
    """What a row is.

    Attributes:
        row_element: The tag of a row; an attribute `id` of it becomes `{row_element}_id`.
    """

    row_element: Annotated[str, Field(min_length=1)] = "row"


def read(stream: BinaryIO, options: XmlOptions) -> Iterator[Row | BadRow]:
    """Read the row elements one by one, whatever their namespace; entities are refused.

    An attribute of a child element becomes `{child}_{attribute}`.

    Raises:
        UnreadableFile: It is not well-formed, declares entities, or holds other elements only.
    """
    tag = options.row_element
    number = 0
    elements = 0
    parents: list[Element] = []
    try:
        for event, element in iterparse(stream, events=("start", "end")):
            if event == "start":
                elements += 1
                parents.append(element)
                continue
            parents.pop()
            if _local(element.tag) != tag or not parents:
                continue
            number += 1
            yield _row(number, element, tag)
            parents[-1].remove(element)  # or the tree would grow to the size of the file
    except DefusedXmlException:
        raise UnreadableFile("it declares entities, which are refused") from None
    except (ParseError, LookupError, ValueError) as error:
        # Not the message of the last two: they may quote what stands in the file.
        what = error if isinstance(error, ParseError) else "its encoding is unknown"
        raise UnreadableFile(f"it is not well-formed XML: {what}") from None
    if number == 0 and elements > 1:
        raise UnreadableFile(f"it has elements, but no <{tag}>")


def _row(number: int, element: Element, tag: str) -> Row | BadRow:
    values: dict[str, str] = {}
    reason = "it has text between its elements" if _text_between(element) else ""
    found = [(f"{tag}_id" if n == "id" else _local(n), text) for n, text in element.attrib.items()]
    for child in element:
        name = _local(child.tag)
        if len(child):
            reason = f"its element <{name}> is not a single text"
        found.append((name, child.text or ""))
        found.extend((f"{name}_{_local(n)}", text) for n, text in child.attrib.items())
    for name, text in found:
        if name in values:
            reason = f"it says <{name}> twice"
        values[name] = text
    element.tail = None
    return BadRow(number, tostring(element), reason) if reason else Row(number, values)


def _local(name: str) -> str:
    """A tag or attribute without its namespace."""
    return name.rpartition("}")[2]


def _text_between(element: Element) -> bool:
    texts = [element.text, *(child.tail for child in element)]
    return any(text and text.strip() for text in texts)
