"""The model card of a merge: which models, which method, and the recipe itself."""

import re

import yaml

from merge.methods import get_method
from merge.recipe.schema import Recipe


def model_card(recipe: Recipe) -> str:
    """Return a README.md with front matter that the hub understands."""
    references = list(recipe.references())
    front = {"base_model": references, "library_name": "transformers", "tags": ["mergekit", "merge"]}
    about = (get_method(recipe.merge_method).__doc__ or "").splitlines()[0]
    models = "\n".join(f"* {as_text(reference)}" for reference in references)
    base = f", with {as_text(recipe.base_model)} as the base model" if recipe.base_model else ""
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"
        f"# Merged model\n\nA merge of language models, made by `{recipe.merge_method}`{base}. {about}\n\n"
        f"## Models\n\n{models}\n\n## Recipe\n\n{fenced(recipe.to_yaml(), 'yaml')}\n"
    )


def as_text(value: object) -> str:
    r"""Return a text that Markdown shows as it is: on one line, without marks of tables, Markdown and HTML.

    >>> as_text("<b>|x[1]")
    '&lt;b&gt;\\|x\\[1\\]'
    """
    text = " ".join(str(value).split())
    for mark, safe in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(mark, safe)
    for mark in "|`*[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def fenced(text: str, language: str) -> str:
    """Return a block of code that nothing in the text can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
