"""Reads scores out of running text: a benchmark's name, perhaps a metric and shots, then numbers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from experiments.reproduce.card.benchmarks import AVERAGE, BENCHMARKS, asked

_WORDS = r"(?:type|value|name|and|or|is|was|at|of|the|scores?|results?|main|test|validation|to|reaches|gets|gives|with)"
_METRIC = (
    r"(?:inst|prompt)_level_\w+|normali[sz]ed[ ]accuracy|exact[ _]match|acc_norm|(?:strict[ ])?acc(?:uracy)?\b|mc[12]\b"
)
_EVENT = re.compile(
    rf"""(?P<space>\s+)
    | (?P<shots>num_few_?shots?:?\s+\d+|\(?\d+[ -]?shots?\)?)
    | (?P<bench>{"|".join(f"(?:{b.pattern})" for b in BENCHMARKS if "subject" not in b.pattern)})(?![A-Za-z0-9])
    | (?P<average>{AVERAGE})(?![A-Za-z])
    | (?P<metric>{_METRIC})
    | (?P<number>[-+]?\d{{1,3}}(?:\.\d+)?[ ]?%|\d{{1,3}}\.\d+)(?![\w.%-]*\w)
    | (?P<fill>[:=|*(),;\-\u2013&%]+(?=\s|$|\d)|[:=|*(),;]|{_WORDS}\b)
    | (?P<join>(?:on|in|for)\b)
    | (?P<word>\S+)""",
    re.VERBOSE | re.IGNORECASE,
)
_SUBJECT = re.compile(next(b.pattern for b in BENCHMARKS if "subject" in b.pattern), re.IGNORECASE)
PATIENCE = 5
"""Words between a name and its number."""
LIST = 3
"""As many names in a row, without a number between, are the head of a table."""


@dataclass(frozen=True)
class Read:
    """A score read from text.

    Attributes:
        name: The benchmark as it is called there; empty for the average.
        shots: Number of examples that is told with it.
        metric: The metric as it is called there.
        value: Its number; the first of several.
    """

    name: str
    shots: int | None
    metric: str
    value: float


@dataclass
class _Row:
    """A name, and what was read since."""

    name: str
    shots: int | None = None
    metric: str = ""
    value: float | None = None
    words: int = 0


@dataclass
class _Scanner:
    """Takes events one by one; `found` fills up.

    Attributes:
        row: The name that numbers belong to.
        heads: Names read in a row without a number between.
        numbers: Numbers since the last name.
        loose: A number that may belong to a name that follows, as in "62.6 on ARC", and whether "on" was read.
    """

    found: list[Read] = field(default_factory=list)
    row: _Row | None = None
    heads: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    loose: tuple[float, bool] | None = None

    def name(self, name: str) -> None:
        if self.loose is not None and self.loose[1] and name:
            self.found.append(Read(name, None, "", self.loose[0]))
            self.row, self.heads, self.loose = None, [], None
            return
        following = self.row is not None and self.row.value is None
        self.finish()
        self.heads = [*self.heads, name] if following else [name]
        self.row, self.numbers, self.loose = _Row(name), [], None

    def shots(self, said: str) -> None:
        if self.row is not None and self.row.value is None:
            self.row.shots = int("".join(filter(str.isdigit, said)))

    def metric(self, said: str) -> None:
        if self.row is None:
            return
        if self.row.value is None:
            self.row.metric = f"{self.row.metric} {said}".strip()
        else:
            name, shots = self.row.name, self.row.shots
            self.finish()
            self.row = _Row(name, shots, said)

    def number(self, value: float) -> None:
        self.loose = (value, False)
        if self.row is None:
            return
        if self.row.value is None:
            self.row.value = value
        self.numbers.append(value)
        heads = list(dict.fromkeys(self.heads))
        if len(heads) >= LIST and len(self.numbers) == len(heads):
            self.found += [Read(head, None, "", v) for head, v in zip(heads, self.numbers, strict=True)]
            self.row, self.heads, self.numbers = None, [], []

    def join(self) -> None:
        if self.loose is not None:
            self.loose = (self.loose[0], True)
        self.word(keep=True)

    def word(self, *, keep: bool = False) -> None:
        self.loose = self.loose if keep else None
        if self.row is not None:
            self.row.words += 1
            if self.row.words > PATIENCE:
                self.finish()
                self.heads, self.numbers = [], []

    def finish(self) -> None:
        """Note the score of the last name, if it has one."""
        row = self.row
        if row is not None and row.value is not None and 0 <= row.value <= 100:
            self.found.append(Read(row.name, row.shots, row.metric, row.value))
        self.row = None


def scan(text: str) -> list[Read]:
    """Return the scores that a text tells, in its order."""
    scanner = _Scanner()
    for kind, said in _events(text):
        if kind in ("bench", "average"):
            scanner.name(said if kind == "bench" else "")
        elif kind == "shots":
            scanner.shots(said)
        elif kind == "metric":
            scanner.metric(said)
        elif kind == "number":
            scanner.number(float(said.rstrip("% ")))
        elif kind == "join":
            scanner.join()
        elif kind == "word":
            scanner.word()
    scanner.finish()
    return scanner.found


def _events(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        subject = _SUBJECT.match(text, place)
        if subject is not None and asked(subject.group()) is not None:
            yield "bench", subject.group()
            place = subject.end()
            continue
        match = _EVENT.match(text, place)
        if match is None:
            place += 1
            continue
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group()
        place = match.end()
