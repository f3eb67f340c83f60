"""Chat templates by name, from the parents, or as given."""

from collections import Counter
from collections.abc import Callable

from merge.checkpoint.reader import Checkpoint
from merge.documents import DocumentError, read_json, read_text
from merge.errors import CheckpointError, RecipeError, did_you_mean
from merge.recipe.schema import Recipe

LARGEST = 50_000_000
"""Bytes of a tokenizer's settings."""

TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{{ message['content'] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "llama3": (
        "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] "
        "+ '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
        "{{ ' ' + message['content'] + eos_token }}{% else %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% endif %}"
        "{% endfor %}"
    ),
    "alpaca": (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
        "{% elif message['role'] == 'user' %}{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
        "{% else %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
    "exaone": (
        "{% for message in messages %}{{ '[|' + message['role'] + '|]' + message['content'] }}"
        "{{ '\n' if message['role'] == 'user' else '[|endofturn|]\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}"
    ),
}


def chat_template(recipe: Recipe, opened: Callable[[str], Checkpoint]) -> str | None:
    """Return the Jinja text of the result's chat template, None to keep that of the tokenizer.

    Raises:
        RecipeError: The name is not known.
        CheckpointError: A parent's template cannot be read.
    """
    wanted = recipe.chat_template
    if wanted is None or "{" in wanted:
        return wanted
    if wanted == "auto":
        found = Counter(text for ref in recipe.references() if (text := _own(opened(ref))) is not None)
        return found.most_common(1)[0][0] if found else None
    if wanted not in TEMPLATES:
        near = did_you_mean(wanted, ("auto", *TEMPLATES))
        raise RecipeError(
            f"{recipe.place}: chat_template: must be auto, {', '.join(TEMPLATES)} or Jinja, got '{wanted}'{near}"
        )
    return TEMPLATES[wanted]


def _own(checkpoint: Checkpoint) -> str | None:
    file, settings = (checkpoint.folder / name for name in ("chat_template.jinja", "tokenizer_config.json"))
    try:
        if file.is_file():
            return read_text(file)
        read = read_json(read_text(settings, LARGEST), str(settings)) if settings.is_file() else None
    except (OSError, DocumentError) as error:
        raise CheckpointError(f"{error}; fetch it again") from None
    text = read.get("chat_template") if isinstance(read, dict) else None
    return text if isinstance(text, str) else None
