"""The Jinja that chat templates are written for: `transformers`' settings, extensions and functions, in a sandbox."""

from __future__ import annotations

import datetime
import json
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.tokens.marks import any_of, marked

TODAY = datetime.datetime(2024, 7, 26)  # Llama 3's own date where its template finds no clock
# Methods whose words are looked for in a text, and never written.
_LOOKS = {
    "split",
    "rsplit",
    "startswith",
    "endswith",
    "strip",
    "lstrip",
    "rstrip",
    "find",
    "count",
    "index",
    "partition",
}


class _Generation(Extension):
    """`{% generation %}` … `{% endgeneration %}`, around what the assistant says: read, and no more."""

    tags = {"generation"}  # noqa: RUF012 -- jinja2's own declaration of it

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's body, in a scope of its own."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """Without the escapes for HTML that Jinja's own has."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _environment() -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    made.filters["tojson"] = _to_json
    made.globals |= {"raise_exception": _raise_exception, "strftime_now": TODAY.strftime, "dict": _dict}
    return made


def _dict(*pairs: Any, **named: Any) -> dict[Any, Any]:
    """What `dict` makes, without its class's attributes."""
    return dict(*pairs, **named)


_ENVIRONMENT = _environment()


@lru_cache(maxsize=16)
def compiled(template: str | nodes.Template) -> Template:
    """A template ready to render; jinja2's errors where it is none."""
    return _ENVIRONMENT.from_string(template)


@lru_cache(maxsize=16)
def with_marked_words(template: str, special: tuple[str, ...]) -> nodes.Template:
    """The template with MARK around each special token in its own words, save those that it only looks for."""
    tree, pattern = _ENVIRONMENT.parse(template), any_of(special)
    if pattern is None:
        return tree
    looked_for = {id(const) for node in tree.find_all((nodes.Compare, nodes.Call)) for const in _looked_for(node)}

    def mark(text: str) -> str:
        return pattern.sub(lambda found: marked(found[0]), text)

    for data in tree.find_all(nodes.TemplateData):
        data.data = mark(data.data)
    for const in tree.find_all(nodes.Const):
        if isinstance(const.value, str) and id(const) not in looked_for:
            const.value = mark(const.value)
    return tree


def _looked_for(node: nodes.Node) -> list[nodes.Const]:
    if isinstance(node, nodes.Call) and not (isinstance(node.node, nodes.Getattr) and node.node.attr in _LOOKS):
        return []
    return [*node.find_all(nodes.Const)]
