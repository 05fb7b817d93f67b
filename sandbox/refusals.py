"""The errors of the Assistants API, in its own wording."""

from typing import Any

from sandbox.messages import Json, Response

MAX_BODY = 1024 * 1024
MAX_PAIRS = 16
MAX_KEY = 64
MAX_VALUE = 512

TYPES = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


class ApiError(Exception):
    """A call that returns an error body."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or {}

    def response(self) -> Response:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return Response.json({"error": error}, self.status, self.headers)


# --- credentials and paths ---------------------------------------------------------------------------------------


def no_key(auth: str) -> ApiError:
    how = "an api-key header" if auth == "api-key" else "an Authorization header (Authorization: Bearer YOUR_KEY)"
    return ApiError(f"You didn't provide an API key. You need to provide your API key in {how}.", status=401)


def wrong_key() -> ApiError:
    return ApiError("Incorrect API key provided.", status=401, code="invalid_api_key")


def unknown_url(method: str, path: str) -> ApiError:
    return ApiError(f"Invalid URL ({method} {path})", status=404)


def wrong_method(method: str, path: str, allowed: str) -> ApiError:
    return ApiError(
        f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)",
        status=405,
        code="method_not_supported",
        headers={"allow": allowed},
    )


def not_found(kind: str, wanted: str) -> ApiError:
    return ApiError(f"No {kind} found with id '{wanted}'.", status=404)


def unknown_cursor(kind: str, wanted: str, *, param: str) -> ApiError:
    """The cursor of a page is not in the list."""
    return ApiError(f"No {kind} found with id '{wanted}'.", param=param)


def too_many_requests(retry_after: str | None) -> ApiError:
    return ApiError(
        "Rate limit reached for requests. Please try again later.",
        status=429,
        kind="requests",
        code="rate_limit_exceeded",
        headers={"retry-after": retry_after} if retry_after is not None else None,
    )


def not_http() -> ApiError:
    return ApiError("This is not HTTP/1.1.")


def server_error() -> ApiError:
    message = "The server had an error while processing your request. Sorry about that!"
    return ApiError(message, status=500, kind="server_error")


# --- the body -----------------------------------------------------------------------------------------------------


def too_large() -> ApiError:
    return ApiError(f"Maximum content size limit ({MAX_BODY}) exceeded.", status=413)


def not_json() -> ApiError:
    return ApiError(
        "We could not parse the JSON body of your request. This API expects a JSON payload, but what was sent was not"
        " valid JSON."
    )


def missing(param: str) -> ApiError:
    return ApiError(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)


def wrong_type(param: str, expected: str, value: Any) -> ApiError:
    message = f"Invalid type for '{param}': expected {expected}, but got {TYPES[type(value)]} instead."
    return ApiError(message, code="invalid_type", param=param)


def check_properties(body: Json, allowed: frozenset[str], *, within: str = "") -> None:
    for name in body:
        if name not in allowed:
            param = f"{within}{name}"
            raise ApiError(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def check_integer(param: str, value: int, *, minimum: int, maximum: int | None = None) -> None:
    if value < minimum:
        raise ApiError(
            f"Invalid '{param}': integer below minimum value. Expected a value >= {minimum}, but got {value} instead.",
            code="integer_below_min_value",
            param=param,
        )
    if maximum is not None and value > maximum:
        raise ApiError(
            f"Invalid '{param}': integer above maximum value. Expected a value <= {maximum}, but got {value} instead.",
            code="integer_above_max_value",
            param=param,
        )


def check_metadata(metadata: Json) -> None:
    """Allows at most 16 pairs, with keys of at most 64 and values of at most 512 characters (not bytes)."""
    if len(metadata) > MAX_PAIRS:
        raise ApiError(
            f"Invalid 'metadata': too many properties. Expected an object with at most {MAX_PAIRS} properties, "
            f"but got an object with {len(metadata)} properties instead.",
            code="object_above_max_properties",
            param="metadata",
        )
    for key, value in metadata.items():
        if len(key) > MAX_KEY:
            raise ApiError(
                f"Invalid property name in 'metadata': '{key[:3]}...{key[-3:]}' is too long. "
                f"Expected a string with maximum length {MAX_KEY}, but got a string with length {len(key)} instead.",
                code="property_name_above_max_length",
                param=f"metadata.{key}",
            )
        if not isinstance(value, str):
            raise wrong_type(f"metadata.{key}", "a string", value)
        if len(value) > MAX_VALUE:
            raise ApiError(
                f"Invalid 'metadata.{key}': string too long. "
                f"Expected a string with maximum length {MAX_VALUE}, "
                f"but got a string with length {len(value)} instead.",
                code="string_above_max_length",
                param=f"metadata.{key}",
            )


# --- the state of a run -------------------------------------------------------------------------------------------


def cannot(verb: str, status: str) -> ApiError:
    """`Cannot update run with status 'in_progress'.`"""
    return ApiError(f"Cannot {verb} run with status '{status}'.")
