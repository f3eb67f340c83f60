"""Reads scores out of running text: a benchmark's name, perhaps a metric and shots, then numbers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from experiments.reproduce.card.benchmarks import AVERAGE, BENCHMARKS, task_request

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
MAX_WORDS = 5
"""Most words between a benchmark's name and its number."""
MIN_HEADER = 3
"""Fewest benchmark names in a row, without a number between, that count as a table's header."""


@dataclass(frozen=True)
class ScannedScore:
    """A score read from running text.

    Attributes:
        name: The benchmark as the text calls it; empty for the average.
        shots: Number of few-shot examples given with it.
        metric: The metric as the text calls it.
        value: Its number; the first of several.
    """

    name: str
    shots: int | None
    metric: str
    value: float


@dataclass
class _Row:
    """A benchmark's name and what was read after it."""

    name: str
    shots: int | None = None
    metric: str = ""
    value: float | None = None
    words: int = 0


@dataclass
class _Scanner:
    """Takes events one by one and collects scores.

    Attributes:
        row: The name that numbers belong to.
        heads: Names read in a row without a number between.
        numbers: Numbers since the last name.
        loose: A number that may belong to a name that follows, as in "62.6 on ARC", and whether "on" was read.
    """

    scores: list[ScannedScore] = field(default_factory=list)
    row: _Row | None = None
    heads: list[str] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    loose: tuple[float, bool] | None = None

    def name(self, name: str) -> None:
        if self.loose is not None and self.loose[1] and name:
            self.scores.append(ScannedScore(name, None, "", self.loose[0]))
            self.row, self.heads, self.loose = None, [], None
            return
        following = self.row is not None and self.row.value is None
        self.finish()
        self.heads = [*self.heads, name] if following else [name]
        self.row, self.numbers, self.loose = _Row(name), [], None

    def shots(self, text: str) -> None:
        if self.row is not None and self.row.value is None:
            self.row.shots = int("".join(filter(str.isdigit, text)))

    def metric(self, text: str) -> None:
        if self.row is None:
            return
        if self.row.value is None:
            self.row.metric = f"{self.row.metric} {text}".strip()
        else:
            name, shots = self.row.name, self.row.shots
            self.finish()
            self.row = _Row(name, shots, text)

    def number(self, value: float) -> None:
        self.loose = (value, False)
        if self.row is None:
            return
        if self.row.value is None:
            self.row.value = value
        self.numbers.append(value)
        heads = list(dict.fromkeys(self.heads))
        if len(heads) >= MIN_HEADER and len(self.numbers) == len(heads):
            self.scores += [ScannedScore(head, None, "", v) for head, v in zip(heads, self.numbers, strict=True)]
            self.row, self.heads, self.numbers = None, [], []

    def join(self) -> None:
        if self.loose is not None:
            self.loose = (self.loose[0], True)
        self.word(keep=True)

    def word(self, *, keep: bool = False) -> None:
        self.loose = self.loose if keep else None
        if self.row is not None:
            self.row.words += 1
            if self.row.words > MAX_WORDS:
                self.finish()
                self.heads, self.numbers = [], []

    def finish(self) -> None:
        """Note the score of the last name, if it has one."""
        row = self.row
        if row is not None and row.value is not None and 0 <= row.value <= 100:
            self.scores.append(ScannedScore(row.name, row.shots, row.metric, row.value))
        self.row = None


def scan(text: str) -> list[ScannedScore]:
    """Return the scores of a text, in its order."""
    scanner = _Scanner()
    for kind, event in _events(text):
        if kind in ("bench", "average"):
            scanner.name(event if kind == "bench" else "")
        elif kind == "shots":
            scanner.shots(event)
        elif kind == "metric":
            scanner.metric(event)
        elif kind == "number":
            scanner.number(float(event.rstrip("% ")))
        elif kind == "join":
            scanner.join()
        elif kind == "word":
            scanner.word()
    scanner.finish()
    return scanner.scores


def _events(text: str) -> Iterator[tuple[str, str]]:
    offset = 0
    while offset < len(text):
        subject = _SUBJECT.match(text, offset)
        if subject is not None and task_request(subject.group()) is not None:
            yield "bench", subject.group()
            offset = subject.end()
            continue
        match = _EVENT.match(text, offset)
        if match is None:
            offset += 1
            continue
        if match.lastgroup != "space":
            yield str(match.lastgroup), match.group()
        offset = match.end()
