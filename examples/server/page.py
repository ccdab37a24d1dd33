"""The page of examples/serve.py --page: its files, and what they ask the server for."""

from pathlib import Path

from fastapi.responses import Response

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


def add_page(app, look):
    """Adds the page to the server.

    Args:
        app: The application.
        look: Takes a request and what it asks for, `"models"`, `"stories"` or
            `"runs"`, and returns the response.
    """

    def add_file(address, content, kind):
        async def file(request):
            return Response(content, media_type=kind, headers=HEADERS)

        app.add_route(address, file)

    def add_look(kind):
        async def answer(request):
            return await look(request, kind)

        app.add_route(f"/page/{kind}", answer, methods=["POST"])

    for address, (name, kind) in FILES.items():
        add_file(address, (STATIC / name).read_bytes(), kind)
    for kind in ("models", "stories", "runs"):
        add_look(kind)
