"""The HTTP interface of a finished run."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi import Request as HTTPRequest
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.serving import request as asking
from recbole_recfound.serving.http.batching import Batcher, QueueFull
from recbole_recfound.serving.http.messages import (
    AddAnswer,
    AddRequest,
    GenerateAnswer,
    GenerateRequest,
    Health,
    Item,
    Problem,
    RecommendAnswer,
    RecommendRequest,
    SearchAnswer,
    SearchRequest,
)
from recbole_recfound.serving.http.pages import add_pages
from recbole_recfound.serving.recommender import Recommender

MOST_BYTES = 1 << 20
"""Largest body of a request."""
LONGEST_ERROR = 1_000
ARGUMENTS = {"self", "task", "max_new_tokens"}
"""Names of `Recommender.generate` that no slot of a prompt has."""
KEY_HEADER = "X-API-Key"
KEY = APIKeyHeader(name=KEY_HEADER, auto_error=False)
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": description}
    for status, description in (
        (400, "the request is wrong"),
        (401, "a wrong key, or none"),
        (413, "the body is too large"),
        (415, "the body is not JSON"),
        (422, "a value is wrong"),
        (503, "too many requests wait"),
        (504, "it took too long"),
    )
}
logger = logging.getLogger(__name__)


def create_app(
    run: Recommender,
    facts: Mapping[str, Any],
    *,
    baselines: Mapping[str, Recommender] | None = None,
    api_key: str | None = None,
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]", "testserver"),
    adds_items: bool = True,
    batcher: Batcher | None = None,
) -> FastAPI:
    """Build the application of a loaded run.

    Args:
        run: the loaded run.
        facts: `model`, `dataset` and `tasks` of the run.
        baselines: trained baselines of the run by name, which answer beside it.
        api_key: every request but that for the page and the health needs it in the header `X-API-Key`; None: no key.
        hosts: names under which the server may be asked (a page of another site cannot rebind its name to this
            server); `*` allows all.
        adds_items: whether items may be added; not where several processes serve, of which one would know them.
        batcher: runs the model; None: one with default limits.
    """
    others = dict(baselines or {})
    model = batcher or Batcher()
    titles = {item: titled(run, item) for item in range(1, len(run.tokens))}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await model.start()
        yield
        await model.stop()

    app = FastAPI(
        title=f"{facts['model']} on {facts['dataset']}",
        version=version("recbole_recfound"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
    )
    app.add_middleware(KnownHosts, hosts=hosts)
    _answer_errors(app)
    app.add_middleware(BodyLimit)

    async def check_key(given: Annotated[str | None, Depends(KEY)]) -> None:
        if api_key is not None and not hmac.compare_digest((given or "").encode(), api_key.encode()):
            raise HTTPException(401, f"a wrong key, or none, in the header {KEY_HEADER}")

    guarded = [Depends(check_key)]

    @app.post("/recommend", dependencies=guarded, summary="Best items for a history, a known user or a text")
    async def recommend(body: RecommendRequest) -> RecommendAnswer:
        if body.model is not None and body.model not in others:
            known = ", ".join(others) or "none"
            raise ConfigError(f"model: got {body.model!r}, expected one of the run's baselines ({known})")
        asked = others[body.model] if body.model else run
        if body.task is not None:
            asked = asked.of_task(body.task)
        fields = body.model_dump(exclude={"model", "task"})
        found = await model.recommend(asked, asking.Request(**fields))
        return RecommendAnswer(items=[Item(item=token, text=text, score=score) for token, text, score in found])

    @app.get(
        "/items",
        dependencies=guarded,
        summary="Items whose text holds all words of a query; the item with this token first",
    )
    async def search(asked: Annotated[SearchRequest, Query()]) -> SearchAnswer:
        words = asked.query.casefold().split()
        found = [
            {"item": token, "text": text}
            for token, text, folded in titles.values()
            if token == asked.query or all(word in folded for word in words)
        ]
        found.sort(key=lambda item: item["item"] != asked.query)
        return SearchAnswer(items=found[: asked.limit])

    @app.post("/items", dependencies=guarded, summary="Add items, which can be recommended at once")
    async def add(body: AddRequest) -> AddAnswer:
        if not adds_items:
            raise ConfigError("items: a server with several workers adds none: start it with --workers 1")
        loop = asyncio.get_running_loop()

        def added() -> None:
            """Add the items, and let them be found, also where nobody waits for the answer any longer."""
            run.add_items(body.items)
            items = [run.item_ids[str(record[run.item_field])] for record in body.items]
            loop.call_soon_threadsafe(titles.update, {item: titled(run, item) for item in items})

        await model.call(added)
        return AddAnswer(added=len(body.items), items=len(run.tokens) - 1)

    @app.post("/generate", dependencies=guarded, summary="Answer of a generative task")
    async def generate(body: GenerateRequest) -> GenerateAnswer:
        if named := ARGUMENTS & body.fields.keys():
            raise ConfigError(f"fields: got {', '.join(sorted(named))}, expected slots of the prompt")
        asked = partial(run.generate, body.task, max_new_tokens=body.max_new_tokens, **body.fields)
        return GenerateAnswer(answer=await model.call(asked))

    @app.get("/health", summary="State of the server")
    async def health() -> Health:
        return Health(
            status="ok",
            model=facts["model"],
            dataset=facts["dataset"],
            items=len(run.tokens) - 1,
            waiting=model.waiting,
            tasks=list(facts["tasks"]),
            baselines=list(others),
            item_field=run.item_field,
            columns=run.item_columns,
        )

    add_pages(app)
    return app


def titled(run: Recommender, item: int) -> tuple[str, str, str]:
    """Return token, text and text in lower case of an item id."""
    return run.tokens[item], run.texts[item], run.texts[item].casefold()


def _answer_errors(app: FastAPI) -> None:
    """Answer every error with one line."""

    def handler(status: int) -> Callable[[HTTPRequest, Exception], Awaitable[Response]]:
        async def answer(request: HTTPRequest, error: Exception) -> Response:
            return problem(status, str(error))

        return answer

    async def invalid(request: HTTPRequest, error: RequestValidationError) -> Response:
        lines = [f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in error.errors()]
        return problem(422, "; ".join(lines[:3]))

    async def refused(request: HTTPRequest, error: StarletteHTTPException) -> Response:
        return problem(error.status_code, str(error.detail))

    async def full(request: HTTPRequest, error: Exception) -> Response:
        return problem(503, "too many requests wait: try again", {"Retry-After": "1"})

    async def late(request: HTTPRequest, error: Exception) -> Response:
        return problem(504, "it took too long")

    async def unexpected(request: HTTPRequest, error: Exception) -> Response:
        logger.exception("%s %s", request.method, request.url.path, exc_info=error)
        return problem(500, "internal error; the server's log says more")

    app.add_exception_handler(RequestValidationError, invalid)  # type: ignore[arg-type]
    app.add_exception_handler(StarletteHTTPException, refused)  # type: ignore[arg-type]
    app.add_exception_handler(QueueFull, full)
    app.add_exception_handler(TimeoutError, late)
    app.add_exception_handler(ConfigError, handler(400))
    app.add_exception_handler(DataError, handler(400))
    app.add_exception_handler(Exception, unexpected)


def problem(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error as one line.

    Args:
        status: of HTTP.
        text: what is wrong.
        headers: further ones.
    """
    return JSONResponse({"error": " ".join(text.split())[:LONGEST_ERROR]}, status, dict(headers or {}))


class KnownHosts:
    """Refuse requests under another name than the server's, in JSON as every error.

    Args:
        app: the application inside.
        hosts: the names; `*` allows all.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str]) -> None:
        self.app, self.hosts = app, list(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        known = scope["type"] != "http"

        async def is_known(*_: Any) -> None:
            nonlocal known
            known = True

        async def no_answer(_: Message) -> None:
            """Leave the answer, which is plain text, to us."""

        if not known:
            await TrustedHostMiddleware(is_known, self.hosts, www_redirect=False)(scope, receive, no_answer)
        wrong = problem(400, f"Host: this server answers only to {', '.join(self.hosts)}")
        await (self.app if known else wrong)(scope, receive, send)


class BodyLimit:
    """Refuse bodies that are too large or no JSON, before they are read.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if not headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json"):
            return await problem(415, "the body must be JSON (Content-Type: application/json)")(scope, receive, send)
        too_large = problem(413, f"the body is larger than {MOST_BYTES:,} bytes")
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError:  # also more digits than Python reads
            return await problem(400, "Content-Length: no number of bytes")(scope, receive, send)
        if length > MOST_BYTES:
            return await too_large(scope, receive, send)
        # A body without a length is read to its limit here; what it holds is handed on as one message.
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > MOST_BYTES:
                return await too_large(scope, receive, send)
            if not message.get("more_body"):
                break
        whole = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

        async def again() -> Message:
            return next(whole, None) or await receive()

        return await self.app(scope, again, send)
