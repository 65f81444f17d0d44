"""The pages of the server: a small one to try a run, and the list of its operations. Nothing comes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from fastapi import FastAPI, Response
from jinja2 import Environment, StrictUndefined

PAGE_FILES = {
    "": ("page.html", "text/html"),
    "page.js": ("page.js", "text/javascript"),
    "page.css": ("page.css", "text/css"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from elsewhere, and runs no script that a title might hold."""
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def add_pages(app: FastAPI) -> None:
    """Serve the pages.

    Args:
        app: with all operations.
    """
    for name, (file, kind) in PAGE_FILES.items():
        app.add_api_route(f"/{name}", _page(_text(file), kind), include_in_schema=False)
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(_text("operations.html.j2"))

    async def operations() -> Response:
        """List all operations."""
        return Response(
            template.render(schema=app.openapi(), operations=_operations(app.openapi())), 200, HEADERS, "text/html"
        )

    app.add_api_route("/docs", operations, include_in_schema=False)


def _text(file: str) -> str:
    return (resources.files(__package__) / file).read_text(encoding="utf-8")


def _page(text: str, kind: str) -> Callable[[], Any]:
    async def page() -> Response:
        """Return a file of the page."""
        return Response(text, 200, HEADERS, kind)

    return page


def _operations(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return path, method, summary and fields of each operation."""
    found = []
    for path, methods in schema["paths"].items():
        for method, one in methods.items():
            body = one.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            name = body.get("$ref", "").rpartition("/")[2]
            fields = schema["components"]["schemas"].get(name, {}).get("properties", {})
            parameters = {parameter["name"]: parameter for parameter in one.get("parameters", [])}
            found.append(
                {
                    "path": path,
                    "method": method.upper(),
                    "summary": one.get("summary", ""),
                    "fields": {field: about.get("description", "") for field, about in (parameters | fields).items()},
                }
            )
    return found
