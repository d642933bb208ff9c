"""FastAPI on uvicorn with uvloop and httptools; the client is aiohttp's."""

from __future__ import annotations

from typing import Any

from bench.peers.aiohttp import HttpConnection
from bench.subject import Subject, parse


class FastApi(Subject):
    """A pydantic model in, a dict out."""

    name = "fastapi"
    about = "FastAPI on uvicorn, JSON"
    requirements = ("fastapi", "uvicorn[standard]", "aiohttp")
    modules = ("aiohttp",)
    style = "asyncio"

    def serve(self, address: str) -> None:
        import uvicorn

        host, port = parse(address)
        uvicorn.run(make_app(), host=host, port=port, log_level="warning", access_log=False)

    async def connect(self, address: str) -> HttpConnection:
        import aiohttp

        return HttpConnection(f"http://{address}", aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))


def make_app() -> Any:
    """The application. Annotations are given as objects: those of this module are texts."""
    from fastapi import FastAPI, Request, Response
    from pydantic import create_model

    app = FastAPI()
    numbers: Any = create_model("Numbers", a=(int, ...), b=(int, ...))

    async def add(body: Any) -> Any:
        return {"value": body.a + body.b}

    async def echo(request: Any) -> Any:
        return Response(await request.body())

    add.__annotations__ = {"body": numbers, "return": dict[str, int]}
    echo.__annotations__ = {"request": Request, "return": Response}
    app.post("/add")(add)
    app.post("/echo")(echo)
    return app
