"""Internal. Turns annotations into JSON Schema (2020-12), and collects the named types of a document.

pydantic does it for builtins, typing, dataclasses, enums, TypedDicts, dates, and its own models.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_type_hints

try:
    import pydantic
    from pydantic.errors import PydanticUserError
except ImportError as error:
    raise ImportError("pydantic 2 is not installed; `pip install zmqservices[schema]` brings it") from error

JsonSchema = dict[str, Any]
Mode = Literal["validation", "serialization"]

#: The place of named types in a document.
NAMED = "#/components/schemas/"

class Types:
    """The types of one document. After `resolve`, `named` has the types to which it refers, for its `components.schemas`."""

    def __init__(self) -> None:
        self.named: dict[str, JsonSchema] = {}
        self._pending: list[tuple[JsonSchema, Mode, pydantic.TypeAdapter[Any]]] = []

    def of(self, annotation: Any, given: bool = True, **more: Any) -> JsonSchema:
        """The schema of a value of a caller (`given`), or of a result. `resolve` fills it in. An empty schema allows any value.

        `more` is added to the schema.
        """
        schema: JsonSchema = {}
        if annotation not in (inspect.Parameter.empty, Any, object):
            mode: Mode = "validation" if given else "serialization"
            try:
                adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(annotation)
                adapter.json_schema(mode=mode)
                self._pending.append((schema, mode, adapter))
            except (PydanticUserError, TypeError, NameError):
                # A class of the application that JSON cannot represent.
                schema["description"] = f"a Python {_name_of(annotation)}"
        schema.update(more)
        return schema

    def resolve(self) -> None:
        """Fill in all schemas, and give different types different names."""
        with warnings.catch_warnings():
            # A default that JSON cannot represent is left out.
            warnings.simplefilter("ignore")
            inputs = [(number, mode, adapter) for number, (_, mode, adapter) in enumerate(self._pending)]
            found, rest = pydantic.TypeAdapter.json_schemas(inputs, ref_template=NAMED + "{model}")
        for number, (schema, mode, _) in enumerate(self._pending):
            schema.update(found[number, mode])
        self.named = rest.get("$defs", {})
        self._pending.clear()


def _name_of(annotation: object) -> str:
    return getattr(annotation, "__qualname__", None) or str(annotation)


def signature_of(method: Callable[..., Any]) -> inspect.Signature:
    """The signature with resolved annotations. Annotations with unknown names stay texts, which allow any value."""
    signature = inspect.signature(method)
    try:
        hints: Mapping[str, Any] = get_type_hints(method, include_extras=True)
    except Exception:  # For example a name that exists only for type checkers.
        hints = {}

    def resolved(name: str, annotation: object) -> object:
        found = hints.get(name, annotation)
        return inspect.Parameter.empty if isinstance(found, str) else found

    return signature.replace(
        parameters=[each.replace(annotation=resolved(each.name, each.annotation)) for each in signature.parameters.values()],
        return_annotation=resolved("return", signature.return_annotation),
    )


def described(of: object) -> dict[str, str]:
    """`summary` and `description` from a docstring."""
    text = inspect.getdoc(of) if not isinstance(of, type) or of.__doc__ else None
    if not text:
        return {}
    summary = text.split("\n\n")[0].replace("\n", " ")
    return {"summary": summary} if text == summary else {"summary": summary, "description": text}
