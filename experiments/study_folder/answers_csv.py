"""The file of every candidate's answers, with which a later start goes on where they are the same so far.

Answers of a long study are millions of rows. An index beside the file says where the rows of each scoring end, so that
a study that is opened again writes only those that are new.
"""

import csv
import hashlib
import io
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from math import isnan
from pathlib import Path

from experiments.atomic_files import sync_folder, write_text_atomically
from search.results.observer import TrialRecord

COLUMNS = ("name", "part", "task", "leaf", "question", "metric", "value", "weight")


@dataclass(frozen=True)
class _Block:
    """The rows of one scoring: whose they are, at which byte they end, and their checksum."""

    key: str
    end: int
    sum: int

    def line(self) -> str:
        return f"{self.key} {self.end} {self.sum}\n"


@dataclass
class AnswersFile:
    """Writes the answers under another name until they are whole.

    What an earlier run wrote is kept as long as its blocks are those that are told now, in the same order.

    Attributes:
        path: The file.
    """

    path: Path
    _told: int = 0
    _end: int = field(default_factory=lambda: len(_header()))
    _before: list[_Block] = field(default_factory=list)

    def begin(self) -> None:
        """Look at what an earlier run left."""
        blocks = list(_blocks(self._index))
        size = _size(self._source)
        self._told, self._end = 0, len(_header())
        self._before = [block for block in blocks if block.end <= size][::-1]

    def add(self, record: TrialRecord) -> None:
        """Add the answers of one candidate, unless they stand there already."""
        if record.results is None:
            return
        key = _key(record)
        if self._before and self._before[-1].key == key and self._stands(self._before[-1]):
            self._tell(self._before.pop())
            return
        try:
            self._cut()
            rows = _rows(record)
            with self._draft.open("ab") as handle:
                handle.write(rows)
            block = _Block(key, self._end + len(rows), zlib.crc32(rows))
            self._tell(block)
            with self._index.open("a", encoding="utf-8") as index:
                index.write(block.line())
        except OSError as error:
            error.filename = error.filename or str(self._draft)  # a write that fails does not name its file
            raise

    def finish(self) -> None:
        """Give the file its name, if anything changed."""
        if self._source == self.path and not self._before and self._told:
            return
        self._cut()
        with self._draft.open("rb") as handle:
            os.fsync(handle.fileno())
        self._draft.replace(self.path)
        sync_folder(self.path.parent)

    @property
    def _draft(self) -> Path:
        return self.path.with_suffix(".csv.partial")

    @property
    def _index(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.index")

    @property
    def _source(self) -> Path:
        return self._draft if self._draft.exists() else self.path

    def _tell(self, block: _Block) -> None:
        self._told, self._end = self._told + 1, block.end

    def _stands(self, block: _Block) -> bool:
        """Tell whether a block's rows are still what was written."""
        with self._source.open("rb") as handle:
            handle.seek(self._end)
            return zlib.crc32(handle.read(block.end - self._end)) == block.sum

    def _cut(self) -> None:
        """Have the draft hold what was told so far, and nothing more."""
        if self._draft.exists() and not self._before and _size(self._draft) == self._end:
            return
        self._before = []
        write_text_atomically(self._index, "".join(block.line() for block in islice(_blocks(self._index), self._told)))
        if not self._told:
            self._draft.write_bytes(_header())
            return
        if self._source == self.path:
            shutil.copyfile(self.path, self._draft)
        os.truncate(self._draft, self._end)


def _blocks(index: Path) -> Iterator[_Block]:
    """Go through an index; a killed process may have left a part of its last line."""
    text = index.read_text(encoding="utf-8", errors="replace") if index.is_file() else ""
    for line in text.splitlines(keepends=True):
        words = line.split()
        if len(words) != 3 or not line.endswith("\n") or not (words[1] + words[2]).isdecimal():
            return
        yield _Block(words[0], int(words[1]), int(words[2]))


def _key(record: TrialRecord) -> str:
    """Return whose rows they are: a scoring has its name, and its times."""
    facts = (record.name, record.part, record.number, record.started, record.ended)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _header() -> bytes:
    return (",".join(COLUMNS) + "\n").encode()


def _rows(record: TrialRecord) -> bytes:
    assert record.results is not None
    table = record.results.answers
    columns = (table[name].tolist() for name in ("task", "leaf", "metric", "question", "value", "weight"))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for task, leaf, metric, question, value, weight in sorted(zip(*columns, strict=True)):  # however they were asked
        told = "" if isnan(value) else value
        writer.writerow((record.name, record.part, task, leaf, question, metric, told, weight))
    return text.getvalue().encode("utf-8")
