"""One handler turns every failure of a request into the problem shape of CONTRACTS 1.

Outside AppError is a bug: the caller gets an id and nothing else, the log gets the traceback.
"""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from haechi.core import ids
from haechi.core.operations.model import InternalFault
from haechi.errors import AppError, BadRequest, Invalid, NotFound, Text
from haechi.rest import language

log = logging.getLogger(__name__)


class NoSuchRoute(NotFound):
    code = "web.no_such_route"
    detail = Text("'{path}' 주소는 없습니다.", "There is nothing at '{path}'.")
    remedy = Text("API 문서에서 주소를 확인하세요.", "Check the address in the API reference.")


class WrongMethod(Invalid):
    code = "web.method_not_allowed"
    http_status = 405
    detail = Text("이 주소는 {method}을(를) 받지 않습니다.", "This address does not take {method}.")
    remedy = Text("API 문서에서 메서드를 확인하세요.", "Check the method in the API reference.")


class Refused(Invalid):
    code = "web.refused"
    http_status = 400
    detail = Text("요청을 읽을 수 없습니다: {reason}", "The request cannot be read: {reason}")
    remedy = Text("요청 형식을 확인하세요.", "Check the form of the request.")


def problem_response(request: Request, error: AppError) -> Response:
    """`application/problem+json` in the caller's language, with the request's id."""
    body = error.problem(language(request))
    body["request_id"] = getattr(request.state, "request_id", ids.new_id("request"))
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse(
        body, status_code=error.http_status, media_type="application/problem+json", headers=headers
    )


def install(app: FastAPI) -> None:
    app.add_exception_handler(AppError, _app_error)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)


async def _app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    if error.http_status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return problem_response(request, error)


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields: list[dict[str, Any]] = [
        {"field": ".".join(map(str, item["loc"])), "problem": item["msg"]}
        for item in error.errors()[:50]
    ]
    problems = "; ".join(f"{item['field']}: {item['problem']}" for item in fields[:10])
    return problem_response(request, BadRequest(reason=problems, fields=fields))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    known: AppError
    if error.status_code == 404:
        known = NoSuchRoute(path=request.url.path[:200])
    elif error.status_code == 405:
        known = WrongMethod(method=request.method)
    else:
        known = Refused(reason=str(error.detail)[:200])
    response = problem_response(request, known)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _bug(request: Request, error: Exception) -> Response:
    fault_id = ids.new_id("request")
    log.error("fault %s in %s %s", fault_id, request.method, request.url.path, exc_info=error)
    return problem_response(request, InternalFault(fault_id=fault_id))
