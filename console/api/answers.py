"""Answers in JSON, and refusals as exceptions: raised anywhere below a route, they become its answer."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from pipeline.base.errors import WatershedError


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """The content as JSON, with a line's end: people read it in a terminal."""
    return Response(json.dumps(content, ensure_ascii=False) + "\n", status, headers, "application/json")


class Refusal(Exception):
    """A request that gets no other answer than why: `status`, and {"error", "repair"}."""

    def __init__(
        self, status: int, error: str | WatershedError, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(str(error))
        told: dict[str, Any] = {"error": error} if isinstance(error, str) else error.fields()
        self.status, self.headers, self.content = status, headers, told | more

    def answer(self) -> Response:
        """The answer."""
        return answer(self.content, self.status, self.headers)


__all__ = ["Refusal", "answer"]
