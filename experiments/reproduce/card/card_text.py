"""Reads a model card, from a file or the hub, as clean text: decodes it and flattens saved HTML."""

import html
import os
import re
import unicodedata
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from experiments.errors import InputError

MAX_BYTES = 5_000_000
"""Largest card that is read."""

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_MARKUP = re.compile(r"<(?:html|body|table|pre|div|p|h[1-6])\b", re.IGNORECASE)
_TAG = re.compile(
    r"</?(?:br|b|i|u|a|p|em|strong|span|div|img|center|font|h[1-6]|code|sub|sup|hr|ul|ol|li)\b[^<>]*>", re.I
)
_PLAIN = str.maketrans(
    {"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2028": "\n", "\u2029": "\n", "\u201c": '"', "\u201d": '"',
     "\u2018": "'", "\u2019": "'", "\u2011": "-", "\u2212": "-", "\ufeff": "", "\u200b": "", "\u200c": "",
     "\u200d": "", "\u00ad": "", "\t": " "}
)  # fmt: skip
MAX_RUN = 300
"""Longest run of one punctuation mark that is kept; patterns would need quadratic time on longer ones."""
_RUN = re.compile(rf"([^\w\n])\1{{{MAX_RUN},}}")
_QUOTED = re.compile(r"^[ ]{0,3}>(?:[ ]|$)", re.MULTILINE)
"""The mark of a quotation in Markdown."""
_DASHES = re.compile(r"^([ ]*)[\u2013\u2014\u2022](?=\s)", re.MULTILINE)


@dataclass(frozen=True)
class CardText:
    """A model card as text.

    Attributes:
        name: File or hub id, for messages.
        text: Its text with plain quotes, spaces and line ends; tables of saved HTML as pipe tables.
    """

    name: str
    text: str

    def line(self, offset: int) -> int:
        """Return the line number of a character offset, counted from 1."""
        return self.text.count("\n", 0, offset) + 1


def read_card_text(card: str) -> CardText:
    """Read a card.

    Args:
        card: A file, or a hub id ``org/name``.

    Raises:
        InputError: There is no such card, or it is empty, too large, or no text.
    """
    path = Path(card)
    if path.is_dir():
        path = path / "README.md"
    if path.is_file():
        return CardText(card, clean(_bytes(path), card))
    if _REPO.fullmatch(card) and path.suffix.lower() not in {".md", ".txt", ".html"}:
        return CardText(card, clean(_bytes(_fetch(card)), card))
    raise InputError(f"{card}: must be a model card file or a hub id org/name, got neither")


def _bytes(path: Path) -> bytes:
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise InputError(f"{path}: must be a model card of at most {MAX_BYTES} bytes, got {size}")
    return path.read_bytes()


def _fetch(repository: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, "README.md", endpoint=os.environ.get("HF_ENDPOINT")))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{repository}: no such file, and the hub gives no card: {reason}") from None


def clean(raw: bytes, name: str = "card") -> str:
    """Return a card's bytes as text; recognises UTF-8, UTF-16 and Windows-1252.

    Raises:
        InputError: It is no text.
    """
    text = _decoded(raw)
    if "\x00" in text:
        raise InputError(f"{name}: must be text, got binary data")
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_PLAIN)
    text = _QUOTED.sub("", text)
    text = _DASHES.sub(r"\1-", unicodedata.normalize("NFC", text))
    text = _RUN.sub(lambda run: run.group()[:MAX_RUN], text)
    if _MARKUP.search(text):
        text = _from_html(text)
    return _TAG.sub(" ", html.unescape(text))


def _decoded(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16", "replace")
    if raw[1:200:2].count(0) > 40:
        return raw.decode("utf-16-le", "replace")
    if raw[0:200:2].count(0) > 40:
        return raw.decode("utf-16-be", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


class _Flat(HTMLParser):
    """Turns saved HTML into text: tables into pipe tables, ``pre`` into fenced blocks, blocks into lines."""

    BLOCKS = frozenset({"p", "div", "br", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.cells: list[str] | None = None
        self.rows = 0
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in {"script", "style"}:
            self.hidden += 1
        elif tag == "table":
            self.rows = 0
            self.parts.append("\n\n")
        elif tag == "tr":
            self.cells = []
        elif tag in {"td", "th"} and self.cells is not None:
            self.cells.append("")
        elif tag == "pre":
            self.parts.append("\n```\n")
        elif tag in self.BLOCKS and self.cells is None:
            self.parts.append("\n" + "#" * int(tag[1]) + " " if re.fullmatch("h[1-6]", tag) else "\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self.hidden = max(0, self.hidden - 1)
        elif tag == "tr" and self.cells is not None:
            self.parts.append(f"| {' | '.join(' '.join(cell.split()) for cell in self.cells)} |\n")
            if self.rows == 0:
                self.parts.append("|" + " --- |" * len(self.cells) + "\n")
            self.rows, self.cells = self.rows + 1, None
        elif tag == "pre":
            self.parts.append("\n```\n")
        elif tag in self.BLOCKS and self.cells is None:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self.hidden:
            return
        if self.cells is None:
            self.parts.append(data)
        elif self.cells:
            self.cells[-1] += data


def _from_html(text: str) -> str:
    """Return saved HTML as text; Markdown with some HTML in it keeps its Markdown."""
    parser = _Flat()
    parser.feed(text)
    parser.close()
    return "".join(parser.parts)
