"""Bodies that come as forms with files; `curl -F image=@cat.png -F n=2 localhost:8400/v1/images/variations` sends one.

A form's values are texts, so they are read less strictly than JSON: "2" is a number here.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from bottega.server.errors import ApiError, invalid
from bottega.server.making import ClientGone
from bottega.server.schemas import Origin

Form = TypeVar("Form", bound=BaseModel)
_FILES, _FIELDS, _LONGEST_FIELD = 20, 60, 1 << 20
_INNER = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")  # how clients write lists, `image[]`, and objects, `bottega[door]`


async def read_form(request: Request, shape: type[Form]) -> Form:
    """Read a body of type multipart/form-data; what it needs on the disk meanwhile is gone when this returns.

    Raises:
        ApiError: 400, it is no form, or a field is missing, unknown or not allowed.
        HTTPException: 413, it is too large.
        ClientGone: the client left before all of it had come.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise ApiError(400, "send pictures as multipart/form-data, each as a part with a filename")
    found: dict[str, list[Any]] = {}
    try:
        async with request.form(max_files=_FILES, max_fields=_FIELDS, max_part_size=_LONGEST_FIELD) as parts:
            for name, part in parts.multi_items():
                found.setdefault(name, []).append(await part.read() if isinstance(part, UploadFile) else part)
    except ClientDisconnect:
        raise ClientGone from None
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise ApiError(400, f"the form cannot be read: {str(error.detail).rstrip('.')}") from None
    try:
        return shape.model_validate(_nested(found), strict=False)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        raise invalid(faults, frozenset(shape.model_fields | Origin.model_fields)) from None


def described_form(shape: type[BaseModel]) -> dict[str, Any]:
    """Return a route's body for `/openapi.json`, as FastAPI's `openapi_extra` takes it.

    What the shape refers to must be described by another route too.
    """
    schema = shape.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _nested(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Return the fields of a form: what comes once as it is, what comes several times as a list, objects as such."""
    values: dict[str, Any] = {}
    for name, given in found.items():
        value = given[0] if len(given) == 1 else given
        inner = _INNER.fullmatch(name)
        if inner is None:
            values[name] = value
        elif not inner[2]:
            values[inner[1]] = value
        else:
            outer = values.setdefault(inner[1], {})
            if isinstance(outer, dict):
                outer[inner[2]] = value
    return values
