"""The page of examples/serve.py --page: its files, and what they ask the server for."""

import functools
from pathlib import Path

from fastapi.responses import Response

from .runs import Runs
from .servable import as_json
from .stories import Stories

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


def add_page(app, folder, read, work):
    """Adds the page to the server.

    Args:
        app: The application.
        folder: Path of the trained models.
        read: Takes a request and a function that checks what its JSON says.
        work: Takes a request, a function and its argument. Returns the answer once the
            function has been called in a thread, when it is the client's turn.
    """

    def add_file(address, content, kind):
        async def file(request):
            return Response(content, media_type=kind, headers=HEADERS)

        app.add_route(address, file)

    for address, (name, kind) in FILES.items():
        add_file(address, (STATIC / name).read_bytes(), kind)
    looking = {"stories": Stories(folder), "runs": Runs(folder)}
    models = {kind: each.models() for kind, each in looking.items()}
    add_file("/page/models", as_json(models), "application/json")

    async def look(each, request):
        return await work(request, each.look, await read(request, each.read))

    for kind, each in looking.items():
        app.add_route(f"/page/{kind}", functools.partial(look, each), methods=["POST"])
