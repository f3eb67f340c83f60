"""The merge methods, one file each. The folder is the registry: a new file is a new method."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from merge.documents import one_line
from merge.errors import RecipeError, did_you_mean
from merge.method import AbstractMethod, Parameter

__all__ = ["AbstractMethod", "Parameter", "get_method", "method_names", "source_of"]


@cache
def _registry() -> dict[str, type[AbstractMethod]]:
    found: dict[str, type[AbstractMethod]] = {}
    for module in iter_modules(__path__):
        for value in vars(import_module(f"{__name__}.{module.name}")).values():
            if not (isinstance(value, type) and issubclass(value, AbstractMethod)) or value is AbstractMethod:
                continue
            if found.setdefault(value.method, value) is not value:
                raise TypeError(f"two merge methods are called '{value.method}'")
    return dict(sorted(found.items()))


def method_names() -> tuple[str, ...]:
    """Return the name of every merge method, sorted."""
    return tuple(_registry())


def source_of(name: str) -> str:
    """Return where a method comes from, a paper or a program: what its file says after ``Source:``."""
    module = import_module(get_method(name).__module__)
    text = (module.__doc__ or "").partition("Source:")[2].partition("\n\n")[0]
    return " ".join(text.split())


def get_method(name: str) -> type[AbstractMethod]:
    """Return a merge method by its name in a recipe.

    Raises:
        RecipeError: There is none.
    """
    if name not in _registry():
        raise RecipeError(f"merge_method: unknown method {one_line(repr(name), 80)}{did_you_mean(name, _registry())}")
    return _registry()[name]
