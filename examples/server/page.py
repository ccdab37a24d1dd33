"""The page of examples/serve.py --page: its files, and what they ask the server for."""

from pathlib import Path

from starlette.responses import Response
from starlette.routing import Route

STATIC = Path(__file__).with_name("static")
FILES = {
    "/": ("index.html", "text/html"),
    "/page/page.js": ("page.js", "text/javascript"),
    "/page/page.css": ("page.css", "text/css"),
}
# The browser runs the page's own script and asks no other server for anything.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def page_routes(look):
    """The routes of the page, for the server.

    Args:
        look: Takes a request and what it asks for, `"models"`, `"stories"` or
            `"runs"`, and returns the response.

    Returns:
        List of `starlette.routing.Route`.
    """

    def file_route(address, content, kind):
        async def file(request):
            return Response(content, media_type=kind, headers=HEADERS)

        return Route(address, file)

    def look_route(kind):
        async def answer(request):
            return await look(request, kind)

        return Route(f"/page/{kind}", answer, methods=["POST"])

    return [
        *(
            file_route(address, (STATIC / name).read_bytes(), kind)
            for address, (name, kind) in FILES.items()
        ),
        *map(look_route, ("models", "stories", "runs")),
    ]
