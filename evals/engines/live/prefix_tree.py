"""From requests to forward passes in which every token that several requests share is computed once.

The inputs of all requests form a tree of tokens. Neighbouring branches with a long common beginning become a
`PrefixGroup`: the beginning is its `prefix`, computed once; what follows it is packed into rows. In a row, the nodes of
the tree stand in depth-first order; node i attends to node j exactly when j <= i < end[j], and its position is its
depth. Where
attention takes a row in segments, a pass is one row without padding; else several rows of like length. All of this
depends on tokens alone, so it is done once and reused whatever the weights are.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from evals.engines.live.scoring_plan import Ints, PassBudget, Plan, PlannedPass, PrefixGroup, Targets
from evals.prompts.token_cache import TokenPair

WIDTH_COST = 5e-4
"""Attention of a token per token of its row's width, as a share of its work in linear layers; less in large models."""
PASS_COST = 20.0
"""Tokens that could be computed in the time in which a pass reads the weights."""
SLACK = 0.02
"""Room in rows that are to be alike, as questions are not cut."""


@dataclass(frozen=True)
class _Input:
    """The tokens that one request feeds to the model, the last of all left out, cut from the left to fit."""

    request: int
    tokens: Ints
    context: int
    targets: Ints

    @property
    def stem(self) -> Ints:
        return self.tokens[: self.context]


@dataclass
class _TokenTree:
    """The tree of one question's inputs below a prefix, in depth-first order."""

    ids: Ints
    depth: Ints
    end: Ints
    paths: list[tuple[_Input, Ints]]

    @property
    def scored(self) -> int:
        return sum(len(one.targets) for one, _ in self.paths)


@dataclass
class _PackedRow:
    trees: list[_TokenTree] = field(default_factory=list)
    length: int = 0
    scored: int = 0

    def add(self, tree: _TokenTree) -> None:
        self.trees.append(tree)
        self.length += len(tree.ids)
        self.scored += tree.scored


def common_prefix(a: Ints, b: Ints) -> int:
    """Return how many tokens two sequences begin with in common."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n


def build_plan(requests: Sequence[TokenPair], max_length: int, budget: PassBudget) -> Plan:
    """Plan the passes for `requests`; a context that does not fit into `max_length` loses its beginning."""
    inputs = [_input(i, request, max_length) for i, request in enumerate(requests)]
    groups: list[PrefixGroup] = []
    unique = pairs = 0
    loose: list[list[_Input]] = []
    for questions, shared in _shared_runs(_by_context(inputs), budget):
        if shared:
            trees = [_tree(question, shared) for question in questions]
            groups.append(_group(questions[0][0].tokens[:shared], trees, budget))
            unique += shared + sum(len(tree.ids) for tree in trees)
            pairs += shared * (shared + 1) // 2 + _pairs(trees)
        else:
            loose += questions
    if loose:
        trees = [_tree(question, 0) for question in loose]
        groups.append(PrefixGroup(None, tuple(_passes(trees, 0, budget))))
        unique += sum(len(tree.ids) for tree in trees)
        pairs += _pairs(trees)
    run = sum(f.ids.size for g in groups for f in (*g.passes, *([g.prefix] if g.prefix else [])))
    return Plan(tuple(groups), len(inputs), run, sum(len(i.tokens) for i in inputs), unique, pairs)


def _pairs(trees: Sequence[_TokenTree]) -> int:
    return sum(int((tree.depth + 1).sum()) for tree in trees)


def _input(number: int, request: TokenPair, max_length: int) -> _Input:
    whole = np.array((*request.context, *request.continuation)[-(max_length + 1) :], dtype=np.int64)
    targets = np.array(request.continuation, dtype=np.int64)
    if len(targets) > max_length or not len(request.context) or not len(targets):
        raise ValueError(f"a request must have 1 to {max_length} tokens to score after a context, got {len(targets)}")
    return _Input(number, whole[:-1], len(whole) - len(targets), targets)


def _by_context(inputs: Sequence[_Input]) -> list[list[_Input]]:
    """Return inputs with the same context together, in the order of their tokens."""
    questions: dict[bytes, list[_Input]] = {}
    for one in inputs:
        questions.setdefault(one.stem.tobytes(), []).append(one)
    return sorted(questions.values(), key=lambda question: question[0].stem.tolist())


def _shared_runs(questions: Sequence[list[_Input]], budget: PassBudget) -> Iterator[tuple[list[list[_Input]], int]]:
    """Return runs of questions with the length of the prefix that each run is given; 0 for none.

    A question whose own context is long gets a causal row of its own, unless most of that context is shared.
    """
    for run, shared in _neighbours(questions, budget.min_prefix):
        together = []
        for question in run:
            own = len(question[0].stem) - shared
            if own >= budget.own_pass and own >= 4 * shared:
                yield [question], len(question[0].stem)
            else:
                together.append(question)
        if together:
            yield together, shared if len(together) > 1 else 0


def _neighbours(questions: Sequence[list[_Input]], least: int) -> Iterator[tuple[list[list[_Input]], int]]:
    """Cut the sorted questions into runs that share a stem of `least` tokens; 0 where there is none."""
    run, shared = [questions[0]], 0
    for question in questions[1:]:
        common = common_prefix(run[-1][0].stem, question[0].stem)
        if common >= least and common >= shared / 2:
            shared = common if len(run) == 1 else min(shared, common)
            run.append(question)
        else:
            yield run, shared
            run, shared = [question], 0
    yield run, shared


def _tree(question: Sequence[_Input], start: int) -> _TokenTree:
    """Lay out the tree of what follows the first `start` tokens."""
    ids: list[int] = []
    depth: list[int] = []
    paths: list[tuple[_Input, Ints]] = []
    before, path = np.empty(0, np.int64), np.empty(0, np.int64)
    for one in sorted(question, key=lambda one: one.tokens.tolist()):
        tokens = one.tokens[start:]
        kept = common_prefix(before, tokens)
        path = np.concatenate([path[:kept], np.arange(len(ids), len(ids) + len(tokens) - kept)])
        ids += tokens[kept:].tolist()
        depth += range(start + kept, start + len(tokens))
        paths.append((one, path))
        before = tokens
    end = np.zeros(len(ids), np.int64)
    for _, nodes in paths:
        if len(nodes):
            end[nodes] = np.maximum(end[nodes], nodes[-1] + 1)
    return _TokenTree(np.array(ids, np.int64), np.array(depth, np.int64), end, paths)


def _group(prefix: Ints, trees: Sequence[_TokenTree], budget: PassBudget) -> PrefixGroup:
    if len(trees) == 1 and 0 < len(trees[0].ids) <= budget.row:
        return PrefixGroup(None, (_stem_and_branches(prefix, trees[0]),))
    reads = _LogitReads()
    last = len(prefix) - 1
    for tree in trees:
        for one, _ in tree.paths:
            if one.context == len(prefix):
                reads.add(last, one.targets[0], one.request)
    positions = np.arange(len(prefix), dtype=np.int64)[None]
    head = PlannedPass(prefix[None], positions, None, reads.needed, reads.targets)
    return PrefixGroup(head, tuple(_passes([tree for tree in trees if len(tree.ids)], len(prefix), budget)))


def _stem_and_branches(stem: Ints, tree: _TokenTree) -> PlannedPass:
    """Return one pass for a stem and the tree below it, so that the weights are read once."""
    start = len(stem)
    reads = _LogitReads()
    for one, path in tree.paths:
        if one.context == start:
            reads.add(start - 1, one.targets[0], one.request)
        _read_path(reads, one, path, start, start)
    ids, positions = np.concatenate([stem, tree.ids]), np.concatenate([np.arange(start), tree.depth])
    causal = bool((tree.end == len(tree.ids)).all())
    end = None if causal else tree.end[None]
    return PlannedPass(ids[None], positions[None], end, reads.needed, reads.targets, start)


class _LogitReads:
    """Which logits of a pass are needed, and which tokens' probabilities are read from them."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._read: list[tuple[int, int, int]] = []

    def add(self, place: int, token: int, request: int) -> None:
        row = self._places.setdefault(place, len(self._places))
        self._read.append((row, token, request))

    @property
    def needed(self) -> Ints:
        return np.array(list(self._places), dtype=np.int64)

    @property
    def targets(self) -> Targets:
        read = np.array(self._read, dtype=np.int64).reshape(-1, 3)
        return Targets(read[:, 0], read[:, 1], read[:, 2])


def _passes(trees: Sequence[_TokenTree], start: int, budget: PassBudget) -> list[PlannedPass]:
    """Fill rows, of the width that costs least, and cut rows of like length into passes."""
    if budget.segments:
        return [_forward([row], start) for row in _wide(trees, budget)]
    widths = [width for width in (budget.row // 4, budget.row // 2, 3 * budget.row // 4, budget.row) if width]
    cuts = [list(_cut(_filled(trees, width, budget.logits), budget)) for width in widths]
    return [_forward(rows, start) for rows in min(cuts, key=_cost)]


def _wide(trees: Sequence[_TokenTree], budget: PassBudget) -> list[_PackedRow]:
    """Fill as few rows as the budget allows, alike in length where that needs no more of them."""
    tokens = sum(len(tree.ids) for tree in trees)
    alike = math.ceil((1 + SLACK) * tokens / max(1, math.ceil(tokens / budget.tokens)))
    widths = min(alike, budget.tokens), budget.tokens
    return min((_filled(trees, width, budget.logits) for width in widths), key=len)


def _cost(cut: Sequence[Sequence[_PackedRow]]) -> float:
    """Return what passes cost, in tokens: padding, attention over the width of a row, reading the weights."""
    sizes = [(len(rows) * rows[0].length, rows[0].length) for rows in cut]
    return sum(tokens * (1 + width * WIDTH_COST) + PASS_COST for tokens, width in sizes)


def _filled(trees: Sequence[_TokenTree], width: int, logits: int) -> list[_PackedRow]:
    """Fill rows first-fit, longest question first; return them longest first."""
    rows: list[_PackedRow] = []
    for tree in sorted(trees, key=lambda tree: -len(tree.ids)):
        room, scored = width - len(tree.ids), logits - tree.scored
        row = next((row for row in rows if row.length <= room and row.scored <= scored), None)
        if row is None:
            rows.append(row := _PackedRow())
        row.add(tree)
    return sorted(rows, key=lambda row: -row.length)


def _cut(rows: Sequence[_PackedRow], budget: PassBudget) -> Iterator[Sequence[_PackedRow]]:
    """Cut rows, longest first, into passes that keep the budget without much padding."""
    while rows:
        longest, count, scored = rows[0].length, 0, 0
        for row in rows:
            scored += row.scored
            within = (count + 1) * longest <= budget.tokens and scored <= budget.logits
            if count and not (within and row.length >= 0.75 * longest):
                break
            count += 1
        yield rows[:count]
        rows = rows[count:]


def _forward(rows: Sequence[_PackedRow], start: int) -> PlannedPass:
    shape = (len(rows), rows[0].length)
    ids, positions = np.zeros(shape, np.int64), np.full(shape, start, np.int64)
    end = np.tile(np.arange(1, shape[1] + 1, dtype=np.int64), (shape[0], 1))
    reads = _LogitReads()
    for b, row in enumerate(rows):
        offset = 0
        for tree in row.trees:
            here = slice(offset, offset + len(tree.ids))
            ids[b, here], positions[b, here], end[b, here] = tree.ids, tree.depth, tree.end + offset
            for one, path in tree.paths:
                _read_path(reads, one, path, start, b * shape[1] + offset)
            offset += len(tree.ids)
    causal = all((end[b, : row.length] == row.length).all() for b, row in enumerate(rows))
    return PlannedPass(ids, positions, None if causal else end, reads.needed, reads.targets)


def _read_path(reads: _LogitReads, one: _Input, path: Ints, start: int, offset: int) -> None:
    """Read each scored token at the node before it; a node inside the prefix is read there."""
    first = len(one.tokens) - len(one.targets)
    for i, token in enumerate(one.targets.tolist()):
        if first + i >= start:
            reads.add(offset + int(path[first + i - start]), token, one.request)
