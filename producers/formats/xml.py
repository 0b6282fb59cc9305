"""XML: one element a row; its attributes and its child elements become columns, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from producers.formats.row import BadRow, Options, Row, UnreadableFile


def read(stream: BinaryIO, options: Options) -> Iterator[Row | BadRow]:
    """Read the row elements one by one; entities are refused.

    Options:
        row_element: The tag of a row; an attribute `id` of it becomes `{row_element}_id`.

    Raises:
        UnreadableFile: It is not well-formed, or declares entities.
    """
    tag = str(options.get("row_element", "row"))
    number = 0
    try:
        for _, element in iterparse(stream, events=("end",)):
            if element.tag != tag:
                continue
            number += 1
            yield _row(number, element, tag)
            element.clear()
    except ParseError as error:
        raise UnreadableFile(f"it is not well-formed XML: {error}") from None
    except DefusedXmlException:
        raise UnreadableFile("it declares entities, which are refused") from None


def _row(number: int, element: Element, tag: str) -> Row | BadRow:
    values = {f"{tag}_id" if name == "id" else name: text for name, text in element.attrib.items()}
    for child in element:
        if child.tag in values or len(child):
            return BadRow(
                number, tostring(element), f"its element <{child.tag}> is not a single text"
            )
        values[child.tag] = child.text or ""
    return Row(number, values)
