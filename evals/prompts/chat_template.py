"""Renders messages with a tokenizer's chat template, as lm-eval does."""

from collections.abc import Callable
from typing import Any

from evals.errors import TaskError


def chat_renderer(tokenizer: Any) -> Callable[..., str]:
    """Return what lm-eval's ``HFLM.apply_chat_template`` does: a template that refuses a system role gets none.

    Raises:
        TaskError: The tokenizer has no template, or several without a default; when a message is rendered.
    """

    def render(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:  # noqa: FBT001, FBT002 - lm-eval's signature
        import jinja2

        template = getattr(tokenizer, "chat_template", None)
        if template is None or (isinstance(template, dict) and "default" not in template):
            got = "none" if template is None else f"{', '.join(sorted(template))} without a default"
            raise TaskError(
                f"apply_chat_template: the model's tokenizer must have a chat template, got {got}; leave it out, or "
                "give the recipe one (chat_template: chatml)"
            )
        options = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            "continue_final_message": not add_generation_prompt,
        }
        try:
            return str(tokenizer.apply_chat_template(messages, **options))
        except jinja2.exceptions.TemplateError:
            rest = [message for message in messages if message["role"] != "system"]
            return str(tokenizer.apply_chat_template(rest, **options))

    return render
