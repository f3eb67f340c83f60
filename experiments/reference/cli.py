"""Makes ``docs/cli.md`` from the command line: every command with its arguments, options and examples.

python -m experiments.reference.cli > docs/cli.md
"""

import sys
from collections.abc import Iterable, Iterator
from textwrap import dedent

from typer.core import TyperArgument, TyperGroup, TyperOption
from typer.main import get_command

from experiments.cli import COMMANDS, Entry, app
from experiments.running import json_lines

INTRODUCTION = """\
# The command line

`mergesearch COMMAND --help` shows the same as this page. `mergesearch --install-completion` has the shell complete
commands and options. Options that mergekit and lm-eval have too bear their names; `--num_fewshot` and `--num-fewshot`
are the same.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | a run failed, or `verify` found a difference |
| 2 | the input is wrong; one line says what must hold, what was found and what to do |
| 130 | Ctrl-C; what was finished is kept, and the same command goes on |
"""


def cli_page() -> str:
    """Return the page, Markdown."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    parts = [INTRODUCTION, _overview(COMMANDS)]
    for entry in sorted(COMMANDS, key=_order):
        command = group.commands[entry.name]
        parts.append("".join(_section(entry, command.help or "", command.params)))
    parts.append(_events(json_lines.__doc__ or ""))
    return "\n".join(parts)


def _order(entry: Entry) -> int:
    """Return where a command stands: its group's first command leads."""
    groups = list(dict.fromkeys(one.group for one in COMMANDS))
    return groups.index(entry.group) * len(COMMANDS) + COMMANDS.index(entry)


def _overview(entries: Iterable[Entry]) -> str:
    lines = ["| command | what it does |\n", "|---|---|\n"]
    for entry in sorted(entries, key=_order):
        first = dedent(entry.command.__doc__ or "").strip().split("\n\n")[0]
        lines.append(f"| [`{entry.name}`](#mergesearch-{entry.name}) | {_cell(first)} |\n")
    return "".join(lines)


def _section(entry: Entry, text: str, params: Iterable[object]) -> Iterator[str]:
    """Go through one command's section: use, what it does, arguments, options by group, examples."""
    arguments = [one for one in params if isinstance(one, TyperArgument)]
    options = [one for one in params if isinstance(one, TyperOption) and not one.hidden and one.name != "help"]
    yield f"## mergesearch {entry.name}\n\n"
    use = " ".join(f"{one.metavar or one.name}" for one in arguments)
    yield f"`mergesearch {entry.name}{' [OPTIONS]' if options else ''}{f' {use}' if use else ''}`\n\n"
    yield f"{dedent(text).strip()}\n\n"
    if arguments:
        yield "| argument | |\n|---|---|\n"
        yield from (f"| `{_cell(one.metavar or one.name or '')}` | {_cell(one.help or '')} |\n" for one in arguments)
        yield "\n"
    groups = list(dict.fromkeys(one.rich_help_panel or "Options" for one in options))
    for group in groups:
        yield f"| {group} | |\n|---|---|\n"
        for one in options:
            if (one.rich_help_panel or "Options") == group:
                yield f"| {_names(one)} | {_cell(one.help or '')}{_default(one)} |\n"
        yield "\n"
    yield "```sh\n" + "".join(f"mergesearch {example}\n" for example in entry.examples) + "```\n"


def _names(option: TyperOption) -> str:
    """Return an option's names, the negative one too, with its value where it takes one."""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag or option.count:
        return names
    return f"{names} `{_cell(option.metavar or 'VALUE')}`"


def _default(option: TyperOption) -> str:
    value = option.default
    if option.is_flag:
        return " Default: yes." if value is True and option.secondary_opts else ""
    return f" Default: {value}." if isinstance(value, str | int | float) and not option.count else ""


def _events(text: str) -> str:
    """Return what ``--json`` writes, which the renderer's own head says."""
    _, _, body = text.partition("\n\n")
    return f"## Events of --json\n\n`search` and `demo` write one object a line.\n\n{body.replace('``', '`').strip()}\n"


def _cell(text: str) -> str:
    """Return a text that stays in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(cli_page())
