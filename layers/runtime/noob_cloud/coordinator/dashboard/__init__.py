"""One page for a browser: runs, queue, workers, dead letters. It holds no data of its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@cache
def page() -> str:
    """Return the page."""
    return Path(__file__).with_name("page.html").read_text(encoding="utf-8")


@router.get("/")
@router.get("/dashboard")
async def show() -> HTMLResponse:
    """Send the page; it asks for a token and then for data."""
    return HTMLResponse(page(), headers=_HEADERS)


@router.get("/favicon.ico")
async def icon() -> Response:
    """Have none: the page brings its own."""
    return Response(status_code=204)
