"""`watershed serve`: the HTTP API of the declared views."""

from importlib.util import find_spec
from typing import Annotated

import typer

from pipeline.base.errors import SettingsError
from pipeline.settings import Settings

HOST, PORT = "127.0.0.1", 8080
EXTRA = "pip install 'watershed-pipeline[serve]'"


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address to listen on; another than loopback needs api_token.")
    ] = HOST,
    port: Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0: any that is free.")] = PORT,
) -> None:
    """Serve the HTTP API: events pushed to /api/events/TOPIC. SIGTERM answers what was taken in, and stops."""
    for module in ("fastapi", "fastapi_offline", "uvicorn", "httptools", "uvloop"):
        if find_spec(module) is None:
            raise SettingsError(f"watershed serve needs {module}, of the extra [serve]", repair=EXTRA)
    from console.api.serving import serve as run

    run(Settings.load(), host, port)


__all__ = ["serve"]
