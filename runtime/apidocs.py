"""The page `/docs`: Swagger UI, served from here with all that belongs to it.

Nothing of it is fetched from elsewhere, and its Content-Security-Policy lets the browser run, ask and show nothing but
what this server gives: tokens are entered in this page.
"""

from __future__ import annotations

from html import escape
from importlib import resources
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Route

# Of swagger-ui's own files, which the package brings unchanged.
_PACKAGE: Final = "fastapi_swagger.resources"
_FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_BEGIN: Final = "begin.js"
_FILE_SECONDS: Final = 3600
"""How long a browser may keep a file."""

# https://www.w3.org/TR/CSP3/ Scripts are files of ours: neither what stands in the page nor a text that is made up is
# run. The program's pictures are `data:` in its stylesheet.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

# Addresses are relative, so that the page is good behind a proxy that serves it under another path.
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/begin.js"></script>
</body>
</html>
"""
# Without validatorUrl the page would show a picture of swagger.io's, and tell it where the API is.
_SCRIPT: Final = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
});
"""


def docs_routes(title: str) -> list[BaseRoute]:
    """`/docs` and its files, which show `/openapi.json`."""
    page = _PAGE.format(title=escape(title))

    async def show(_request: Request) -> Response:
        return HTMLResponse(page, headers={**_HEADERS, "Content-Security-Policy": _POLICY})

    return [Route("/docs", show), Route("/docs/{name}", _file)]


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    headers = {**_HEADERS, "Cache-Control": f"max-age={_FILE_SECONDS}"}
    if name == _BEGIN:
        return Response(_SCRIPT, media_type="text/javascript", headers=headers)
    if name not in _FILES:
        raise HTTPException(404)
    return FileResponse(str(resources.files(_PACKAGE) / name), media_type=_FILES[name], headers=headers)
