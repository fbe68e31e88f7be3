"""Errors as OpenAI's clients read them: `{"error": {message, type, param, code}}` with the status they expect.

`pytest tests/server/test_errors.py` meets each of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from bottega.core.errors import (
    BottegaError,
    BusyError,
    ContextError,
    ControlError,
    InputError,
    Interrupted,
    NotFoundError,
    RefusedError,
    ReleaseError,
)
from bottega.core.request import Controls, Request

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 409: "conflict_error",
          429: "rate_limit_error", 500: "server_error", 503: "server_error"}
_CONTROL = re.compile(r"'(\w+)'|^(\w+):")  # how the lower floors name a control in a message


class ApiError(Exception):
    """An answer that is an error, made on purpose by a route.

    Args:
        status: HTTP status.
        message: what is wrong and what to do.
        param: the field it is about.
        code: a word for programs.
        headers: to send along.
        extra: more keys beside `error`.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers, self.extra = dict(headers or {}), dict(extra or {})

    def body(self) -> dict[str, Any]:
        """Return the error as it is sent, also in the middle of a stream."""
        kind = _KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}, **self.extra}

    def response(self) -> Response:
        """Return the error as an HTTP response."""
        return answer(self.body(), self.status, self.headers)


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return content as JSON in ASCII, so that half a surrogate pair in a quoted value cannot break it."""
    return Response(json.dumps(content, separators=(",", ":")), status, headers, "application/json")


def shown(value: Any) -> str:
    """Return a value of bearable length for a message."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}… ({len(text)} characters)"


def failure(request_id: str) -> ApiError:
    """Return what a client is told of a fault of ours: nothing but the id that stands in the log."""
    return ApiError(500, f"the server failed at this request; its log says why under {request_id}")


def unavailable(request_id: str) -> ApiError:
    """Return what is told while the workshop's store cannot be used; only the log says why."""
    return ApiError(503, f"the workshop's store cannot be used now; the server's log says why under {request_id}",
                    code="unavailable", headers={"retry-after": "5"})


def stopping() -> ApiError:
    """Return what is told while the server stops."""
    return ApiError(503, "the server is stopping; try again in some seconds", code="stopping",
                    headers={"retry-after": "5", "connection": "close"})


def translate(error: BottegaError) -> ApiError | None:
    """Return the answer for an error of the lower floors; None for one that is no fault of the request."""
    message = ". ".join(part for part in (error.problem, error.fix) if part)
    if isinstance(error, BusyError):
        return ApiError(429, message, code="queue_full", headers={"retry-after": str(math.ceil(error.retry_after))})
    if isinstance(error, RefusedError):
        gated = isinstance(error, ReleaseError)
        found = {"bottega": {"verdicts": [verdict.plain() for verdict in error.verdicts]}}
        return ApiError(403 if gated else 400, message, code="not_released" if gated else "content_filter", extra=found)
    if isinstance(error, NotFoundError):
        return ApiError(404, message, code="not_found")
    if isinstance(error, ControlError):
        return ApiError(400, message, param=_control(error))
    if isinstance(error, ContextError):
        return ApiError(400, message, code="context_length_exceeded")
    if isinstance(error, InputError):
        return ApiError(400, message, param=error.where if error.where in _FIELDS else None)
    return stopping() if isinstance(error, Interrupted) else None


def _control(error: ControlError) -> str | None:
    """Return the control that an error of the lower floors is about, under the name clients use."""
    if error.where in PARAMS:
        return PARAMS[error.where]
    quoted = _CONTROL.search(error.problem)
    names = ([quoted[1] or quoted[2]] if quoted else []) + [error.where.partition(".")[0]]
    return next((PARAMS.get(name, name) for name in names if name in Controls.model_fields), None)


_FIELDS = Request.model_fields.keys() | Controls.model_fields.keys() | {"model"}
PARAMS = {"format": "response_format", "format.calls": "tools"}  # controls that have another name in OpenAI's interface


def invalid(faults: Sequence[Mapping[str, Any]], names: frozenset[str]) -> ApiError:
    """Return the answer to a body that does not validate.

    Args:
        faults: pydantic's list.
        names: fields of the bodies; other words in a fault's place are pydantic's own.
    """
    fault = max(faults, key=lambda each: len(each["loc"]))  # where one of several shapes may come, the nearest one
    if fault["type"] == "json_invalid":
        where = fault["loc"][-1]
        return ApiError(400, f"the body is not JSON: {fault['ctx']['error']} at character {where}")
    param = _path(fault["loc"], names)
    if fault["type"] == "field":
        return ApiError(400, fault["ctx"]["problem"], param=".".join(filter(None, (param, fault["ctx"]["param"]))))
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        return ApiError(400, f"there is no field {shown(name)}; leave it out", param=name[:80])
    if not param and fault["type"] in ("missing", "model_attributes_type", "model_type", "dict_type"):
        return ApiError(400, "the body is not a JSON object; send one with content-type: application/json")
    if fault["type"] == "missing":
        return ApiError(400, f"'{param}' is missing", param=param)
    wishes = dict.fromkeys(other["msg"] for other in faults if _path(other["loc"], names) == param)
    wish = ", or ".join(wishes)
    return ApiError(400, f"{param}: {shown(fault['input'])} is not allowed. {wish}", param=param)


def _path(place: Sequence[int | str], names: frozenset[str]) -> str:
    """Return a fault's place as OpenAI writes it: `messages[0].content`."""
    path = ""
    for part in place[1:]:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part in names and path.rpartition(".")[2] != part:  # the tag of a union repeats the field's name
            path += f".{part}" if path else part
    return path
