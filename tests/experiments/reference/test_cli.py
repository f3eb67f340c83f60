"""``docs/cli.md`` says what the command line says."""

from experiments.cli import COMMANDS
from experiments.reference.cli import cli_page
from tests.conftest import ROOT


def test_the_page_is_the_command_line() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == cli_page(), "write it again: python -m experiments.reference.cli > docs/cli.md"


def test_every_command_has_a_section_and_an_example() -> None:
    page = cli_page()
    for entry in COMMANDS:
        assert f"\n## mergesearch {entry.name}\n" in page
        assert f"\nmergesearch {entry.examples[0]}\n" in page
