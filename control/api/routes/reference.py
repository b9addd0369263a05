"""The page on which people read and try the API: Swagger UI from the package that brings it. No byte of it is
loaded from anywhere else."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from common.errors import NotFound

PAGE = "/docs"
START = "start.js"
_PACKAGE, _FOLDER = "fastapi_swagger", "resources"
_FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
PATHS = (PAGE, *(f"{PAGE}/{name}" for name in (START, *_FILES)))
"""What is served to anyone: it says no more than ``/openapi.json``."""

_HTML = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Computility API</title>
<link rel="icon" href="{PAGE}/favicon-32x32.png">
<link rel="stylesheet" href="{PAGE}/swagger-ui.css">
</head>
<body>
<div id="reference"></div>
<script src="{PAGE}/swagger-ui-bundle.js"></script>
<script src="{PAGE}/{START}"></script>
</body>
</html>
"""
_SCRIPT = (
    'SwaggerUIBundle({url: "/openapi.json", dom_id: "#reference", deepLinking: true, docExpansion: "none", '
    'filter: true, defaultModelsExpandDepth: 0, validatorUrl: null, layout: "BaseLayout"});\n'
)
_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
_KEPT = {"Cache-Control": "public, max-age=3600"}

router = APIRouter(include_in_schema=False)


@router.get(PAGE)
async def page() -> Response:
    return Response(_HTML, media_type="text/html", headers=_POLICY)


@router.get(f"{PAGE}/{{name}}")
async def part(name: str) -> Response:
    if name == START:
        return Response(_SCRIPT, media_type="text/javascript", headers=_KEPT)
    if name not in _FILES:
        raise NotFound(f"no such file: {PAGE}/{name}")
    return Response(_read(name), media_type=_FILES[name], headers=_KEPT)


@cache
def _read(name: str) -> bytes:
    return files(_PACKAGE).joinpath(_FOLDER, name).read_bytes()
