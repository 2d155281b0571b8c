"""The page `/docs`: all of it is ours, and nothing else may run in it."""

from __future__ import annotations

import re

import httpx
import pytest
from fastapi import FastAPI

from runtime.rest import RequestCounters, make_app


@pytest.fixture
def client() -> httpx.AsyncClient:
    app: FastAPI = make_app(
        title="Mail & more", version="1", counters=RequestCounters(), problems={}, on_bug=lambda error: None
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_all_that_the_page_loads_is_served_here(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>Mail &amp; more</title>" in page.text
    assert "//" not in page.text
    found = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(found) == 4
    kinds = {}
    for one in found:
        answer = await client.get(f"/{one}")
        assert answer.status_code == 200, one
        assert answer.headers["x-content-type-options"] == "nosniff"
        kinds[one.rpartition("/")[2]] = answer.headers["content-type"].partition(";")[0]
    assert kinds == {
        "favicon-32x32.png": "image/png",
        "swagger-ui.css": "text/css",
        "swagger-ui-bundle.js": "text/javascript",
        "begin.js": "text/javascript",
    }
    begin = (await client.get("/docs/begin.js")).text
    assert 'url: "openapi.json"' in begin
    assert "SwaggerUIBundle" in (await client.get("/docs/swagger-ui-bundle.js")).text
    assert (await client.get("/openapi.json")).json()["info"]["title"] == "Mail & more"


async def test_the_page_runs_asks_and_shows_nothing_of_others(client: httpx.AsyncClient) -> None:
    page = await client.get("/docs")
    rules = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert not re.search(r"https?:|\*|unsafe", page.headers["content-security-policy"])
    # What the rules would not run is not there.
    assert not re.search(r"<script>|<script [^>]*>[^<]|\son[a-z]+=|style=", page.text)


@pytest.mark.parametrize("path", ["/redoc", "/docs/oauth2-redirect", "/docs/__init__.py", "/docs/..%2fmain.py"])
async def test_no_other_pages(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 404
