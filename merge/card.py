"""The model card of a merge: which models, which method, and the recipe itself."""

import yaml

from merge.methods import get_method
from merge.recipe import Recipe


def model_card(recipe: Recipe) -> str:
    """Return a README.md with front matter that the hub understands."""
    references = list(recipe.references())
    front = {"base_model": references, "library_name": "transformers", "tags": ["mergekit", "merge"]}
    about = (get_method(recipe.merge_method).__doc__ or "").splitlines()[0]
    models = "\n".join(f"* {reference}" for reference in references)
    base = f", with {recipe.base_model} as the base model" if recipe.base_model else ""
    return (
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---\n"
        f"# Merged model\n\nA merge of language models, made by `{recipe.merge_method}`{base}. {about}\n\n"
        f"## Models\n\n{models}\n\n## Recipe\n\n```yaml\n{recipe.to_yaml()}```\n"
    )
