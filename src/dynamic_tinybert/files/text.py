"""Decode the text of a file: follow byte order marks and refuse files that are not text."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from dynamic_tinybert.errors import DynamicTinyBertError

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which UTF-8 cannot encode."""


class NoTextError(DynamicTinyBertError, ValueError):
    """A file is not text. The message follows the file's name: "is not text but a PDF: ..."."""


class UndecodableError(NoTextError):
    """A file is not text in the expected encoding.

    Attributes:
        encoding: The usual spelling of the encoding: "UTF-8".
        position: The position of the first wrong byte, from 0.
    """

    def __init__(self, encoding: str, position: int) -> None:
        self.encoding = encoding
        self.position = position
        super().__init__(f"is not text in {encoding} (byte {position:,})")


def text_blocks(
    file: BinaryIO, *, encoding: str | None = None, errors: str = "strict", nul: bool = False, size: int = 1 << 20
) -> Iterator[str]:
    """Yield the text of a file in blocks, in bounded memory. Line ends do not change.

    Args:
        file: The file, open for reading bytes, at its beginning.
        encoding: The encoding if there is no byte order mark; None means UTF-8.
        errors: How to handle bytes that are not text in the encoding: the `errors` of `bytes.decode`.
        nul: Whether NUL characters are allowed.
        size: How many bytes to read at once.

    Returns:
        Blocks of 1 character or more; none for an empty file. Joined, they are the text without its byte order mark.

    Raises:
        NoTextError: The file is not text: it begins like another kind of file, or holds NUL characters.
        UndecodableError: The file is not text in the encoding, and `errors` is "strict".
        OSError: The file cannot be read.
    """
    block = file.read(max(size, _LONGEST_MAGIC))
    kind = next((kind for magic, kind in _MAGIC.items() if block.startswith(magic)), None)
    if kind:
        advice = "save it in a file whose name ends in .pdf" if kind == "a PDF" else "extract its text first"
        raise NoTextError(f"is not text but {kind}: {advice}")
    encoding = next((name for mark, name in _MARKS.items() if block.startswith(mark)), encoding or "utf-8")
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    done = 0
    while True:
        done += len(block)
        try:
            text = decoder.decode(block, not block)
        except UnicodeDecodeError as error:
            position = done - len(error.object) + error.start
            raise UndecodableError(encoding.removesuffix("-sig").upper(), position) from None
        if "\0" in text and not nul:
            raise NoTextError("is not text: it contains NUL bytes")
        if text:
            yield text
        if not block:
            return
        block = file.read(size)


def decode_text(data: bytes, name: str) -> str:
    """Decode the text of a whole file. Line ends do not change.

    Args:
        data: The content of the file.
        name: What to call the file in messages.

    Raises:
        NoTextError: It is not text. The message is one line that says what to do.
    """
    try:
        return "".join(text_blocks(io.BytesIO(data)))
    except UndecodableError as error:
        raise NoTextError(
            f"{name} is not text in {error.encoding} (byte {error.position:,} of {len(data):,}): if it is text in "
            "another encoding, convert it, for example with iconv -f latin1 -t utf-8"
        ) from None
    except NoTextError as error:
        raise NoTextError(f"{name} {error}") from None


_MARKS = {  # byte order marks; UTF-32 is first, because its mark begins like that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
_MAGIC = {
    b"%PDF-": "a PDF",
    b"PK\x03\x04": "a ZIP archive (perhaps an office document)",
    b"\x1f\x8b": "compressed with gzip",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x7fELF": "a program",
}
_LONGEST_MAGIC = max(map(len, (*_MARKS, *_MAGIC)))


def encodable(text: str) -> str:
    """Replace each lone surrogate, which UTF-8 cannot encode, with U+FFFD."""
    return text if text.isascii() else SURROGATE.sub("\ufffd", text)
