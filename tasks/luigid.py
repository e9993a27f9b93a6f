"""`python -m tasks.luigid`: Luigi's scheduler with its UI, a history that lasts, and pages that tasks link to; `watershed up` starts it.

    /history      what ran, from schema `luigi` of Postgres        /lake/PATH    a manifest of the lake, as it is; nothing else of it

Luigi knows no authentication: it listens on loopback unless told otherwise. The URL of Postgres stays in this process: in no argument,
file or log. Its links outlive the nights that set them, until a purge deletes the manifest.
"""

import argparse
import logging
import sys
from typing import Any

import luigi.server
import tornado.web
from luigi.db_task_history import Base, DbTaskHistory
from luigi.scheduler import Scheduler
from luigi.setup_logging import DaemonLogging

from pipeline.base.errors import LakeError, WatershedError
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.settings import Settings
from serving.postgres.connection import engine
from serving.task_history import history_sessions

LOOPBACK, PORT = "127.0.0.1", 8082
LOG = logging.getLogger("luigi-interface")


class History(DbTaskHistory):
    """Luigi's own history on our engine: its constructor would want the URL in a configuration, and a schema on the search_path."""

    def __init__(self, settings: Settings) -> None:
        self.tasks: dict[str, Any] = {}
        self.engine = engine(
            settings.postgres_url(),
            application_name="watershed luigid",
            outage_patience_s=settings.start_patience_s,
            say=LOG.warning,
        )
        self.session_factory = history_sessions(self.engine, Base.metadata)


class LakePage(tornado.web.RequestHandler):
    """GET of a manifest, by its path in the lake. 404 for all else, whatever the path looks like when it is decoded."""

    def initialize(self, lake: Lake) -> None:
        """Tornado calls it for each request."""
        self.lake = lake

    def get(self, path: str) -> None:
        """The manifest's JSON."""
        if not layout.is_manifest(path):
            raise tornado.web.HTTPError(404, reason="Only manifests are served here")
        try:
            content = self.lake.read_bytes(path)
        except LakeError:
            raise tornado.web.HTTPError(404, reason="No such manifest; a purge may have deleted it") from None
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.finish(content)


def serve_lake(lake: Lake) -> None:
    """From now on, the application that luigi.server makes has the pages under /lake/, beside its own."""
    luigis_own = luigi.server.app

    def app(scheduler: Scheduler) -> tornado.web.Application:
        made: tornado.web.Application = luigis_own(scheduler)
        made.add_handlers(".*", [(r"/lake/(.*)", LakePage, {"lake": lake})])
        return made

    luigi.server.app = app


def main(arguments: list[str] | None = None) -> None:
    """Run it until SIGTERM; exit code 1 with one message when the settings or Postgres do not let it begin."""
    parser = argparse.ArgumentParser(prog="python -m tasks.luigid", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--address", default=LOOPBACK, help="where it listens; it knows no authentication")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--state-path", default=None, help="a file that keeps the tasks over a restart")
    parser.add_argument("--logdir", default=None)
    parser.set_defaults(background=False)
    given = parser.parse_args(arguments)
    try:
        settings = Settings.load()
        DaemonLogging.setup(given)
        serve_lake(Lake(settings.lake))
        kept = {"state_path": given.state_path} if given.state_path else {}
        scheduler = Scheduler(task_history_impl=History(settings), record_task_history=True, **kept)
    except WatershedError as error:
        sys.exit(f"luigid: {error}")
    luigi.server.run(api_port=given.port, address=given.address, scheduler=scheduler)


if __name__ == "__main__":
    main()
