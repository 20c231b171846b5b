"""The JSON of a request, read so that nothing odd gets through: one object of known fields."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from muxwrap.serving.requests import RequestError

TENANT = "tenant"
_MOST = 200  # characters of a tenant's name


def read_fields(body: bytes, required: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the object that a body holds.

    Args:
        body: JSON.
        required: name of the field that the input is in.
        optional: names of other fields, besides ``tenant``.

    Raises:
        RequestError: the body is no JSON object (400), or has other fields (422).
    """
    try:
        fields = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the body is not JSON ({_short(error)}); send {_example(required)}") from None
    if not isinstance(fields, dict):
        raise RequestError(400, f"the body is a {type(fields).__name__}; send an object, {_example(required)}")
    if required not in fields:
        raise RequestError(422, f"the field {required!r} is missing; send {_example(required)}")
    known = {required, TENANT, *optional}
    odd = next((name for name in fields if name not in known), None)
    if odd is not None:
        raise RequestError(422, f"unknown field {odd[:40]!r}; the known ones are {', '.join(sorted(known))}")
    return fields


def tenant_of(fields: Mapping[str, Any], header: str | None) -> str | None:
    """Return the tenant that a request names: in its body, or in the header ``X-Tenant``, which a gateway sets.

    Raises:
        RequestError: it is no short string, or body and header name two.
    """
    named = fields.get(TENANT)
    if named is not None and (not isinstance(named, str) or len(named) > _MOST):
        raise RequestError(422, f"the field {TENANT!r} is no string of at most {_MOST} characters; send one, or none")
    if header is not None and len(header) > _MOST:
        raise RequestError(422, f"the header X-Tenant is longer than {_MOST} characters; send a shorter one")
    if named is not None and header is not None and named != header:
        raise RequestError(422, "the field 'tenant' and the header X-Tenant differ; send one of them")
    return header if named is None else named


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _short(error: Exception) -> str:
    return "too deep" if isinstance(error, RecursionError) else str(error)[:80]


def _example(field: str) -> str:
    return f'{{"{field}": ...}}'
