"""Places where files are: any pyarrow filesystem, and HTTP. A place lists files with their versions, and opens them.

version(file) changes when the file does: its size, its time of change, its ETag where there is one
"""

from __future__ import annotations

import base64
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as fs

from ingestion.origins.format import Stream
from pipeline.base.errors import OriginAway, OriginError

GLOB = re.compile(r"[*?\[]")
AWAY = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|THROTTLING|[Tt]imeout|timed out|curlCode"
)
TIMEOUT_S = 60
WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
LISTERS = 16


@dataclass(frozen=True)
class Found:
    """A file: `path` as its place knows it, `name` as a person does, without a secret."""

    path: str
    name: str
    version: str


class ArrowPlace:
    """Files of a pyarrow filesystem, whose names begin with `shown` instead of `root`."""

    def __init__(self, filesystem: fs.FileSystem, pattern: str, root: str, shown: str) -> None:
        self._fs, self._pattern, self._root, self._shown = filesystem, pattern, root, shown

    def files(self) -> list[Found]:
        """The files that the pattern names, by name; OriginError without one."""
        infos = self._matching() if GLOB.search(self._pattern, len(self._root)) else [self._one()]
        infos.sort(key=lambda info: info.path)
        with ThreadPoolExecutor(LISTERS) as pool:
            versions = list(pool.map(self._version, infos))
        return [Found(i.path, self._name(i.path), v) for i, v in zip(infos, versions, strict=True)]

    def version(self, path: str) -> str:
        """The version of a file as it is now; "" when it is gone."""
        info = self._fs.get_file_info(path)
        return self._version(info) if info.type == fs.FileType.File else ""

    @contextmanager
    def opened(self, path: str) -> Iterator[Stream]:
        """The file's bytes, in order."""
        with self._fs.open_input_stream(path, compression=None) as stream:
            yield stream

    def random(self, path: str) -> Callable[[], IO[bytes]] | None:
        """Opener of the file with any place at hand."""

        def opened() -> Any:
            return self._fs.open_input_file(path)

        return opened

    def _name(self, path: str) -> str:
        return self._shown + path.removeprefix(self._root) if path.startswith(self._root) else path

    def _one(self) -> fs.FileInfo:
        info = self._fs.get_file_info(self._pattern)
        if info.type == fs.FileType.Directory:
            raise OriginError(
                f"{self._name(self._pattern)} is a folder; name its files, as {self._name(self._pattern)}/*.csv"
            )
        if info.type != fs.FileType.File:
            raise OriginError(f"there is no file {self._name(self._pattern)}")
        return info

    def _matching(self) -> list[fs.FileInfo]:
        first = GLOB.search(self._pattern, len(self._root))
        assert first is not None
        fixed = self._pattern[: first.start()].rpartition("/")[0]
        rest = self._pattern[len(fixed) :]
        deep = "**" in rest or rest.count("/") > 1
        selector = fs.FileSelector(fixed or ".", allow_not_found=True, recursive=deep)
        wanted = re.compile(re.escape(self._root) + _regex(self._pattern[len(self._root) :]))
        every = self._fs.get_file_info(selector)
        found = [
            info for info in every if info.type == fs.FileType.File and wanted.fullmatch(info.path.removeprefix("./"))
        ]
        if not found:
            raise OriginError(
                f"no file matches {self._name(self._pattern)}; there are {len(every):,} files and folders in {self._name(fixed)}"
            )
        return found

    def _version(self, info: fs.FileInfo) -> str:
        version = f"{info.size}-{info.mtime_ns}"
        if isinstance(self._fs, fs.LocalFileSystem):
            return version
        with self._fs.open_input_stream(info.path, compression=None) as stream:
            told: Any = stream.metadata() or {}
            etag = told.get("ETag", b"")
        return f"{version}-{etag.decode() if isinstance(etag, bytes) else etag}"


class HttpPlace:
    """One file behind an http(s) URL; `secret` is a bearer token, or user:password."""

    def __init__(self, url: str, secret: str = "") -> None:
        self._url = url
        parts = urlsplit(url)
        self.name = f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"
        basic = f"Basic {base64.b64encode(secret.encode()).decode()}"
        self._headers = {"Authorization": basic if ":" in secret else f"Bearer {secret}"} if secret else {}
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler,
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            urllib.request.HTTPDefaultErrorHandler,
            _SameHost,
            urllib.request.HTTPErrorProcessor,
        ):
            self._opener.add_handler(handler())

    def files(self) -> list[Found]:
        """The file; OriginError where the server has none."""
        return [Found(self.name, self.name, self.version(self.name))]

    def version(self, path: str) -> str:
        """The version that the server tells, "" when it does not."""
        try:
            with self._request("HEAD") as answer:
                return _told(answer.headers)
        except OriginAway:
            raise
        except OriginError:  # not every server answers HEAD
            with self._request("GET") as answer:
                return _told(answer.headers)

    @contextmanager
    def opened(self, path: str) -> Iterator[Stream]:
        """The file's bytes; OriginAway when the connection ends before them."""
        with self._request("GET") as answer:
            yield _Whole(answer)

    def random(self, path: str) -> Callable[[], IO[bytes]] | None:
        """None: a server need not give parts of a file."""
        return None

    def _request(self, method: str) -> Any:
        request = urllib.request.Request(
            self._url, headers={"Accept-Encoding": "identity", **self._headers}, method=method
        )
        try:
            return self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            kind = OriginAway if error.code in WORTH_ANOTHER_TRY else OriginError
            raise kind(f"{self.name}: the server answers {error.code} {error.reason}") from None
        except OSError as error:
            raise OriginAway(f"{self.name} cannot be reached: {getattr(error, 'reason', error)}") from None


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Redirections are followed, but a secret does not go to another host."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            made.remove_header("Authorization")
        return made


class _Whole:
    """An answer that is whole, or an error."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        length = answer.headers.get("Content-Length")
        self._due = int(length) if length and length.isdigit() else None
        self._got = 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""
        found: bytes = self._answer.read(size if size >= 0 else None)
        self._got += len(found)
        if size and not found and self._due is not None and self._got < self._due:
            raise OriginAway(f"the connection ended after {self._got:,} of {self._due:,} bytes")
        return found


Place = ArrowPlace | HttpPlace


def place(pattern: str, filesystem: fs.FileSystem | None, secret: str) -> Place:
    """The place of a path, a pattern or a URL; `secret` is "" or what its credentials' name stands for."""
    if filesystem is not None:
        return ArrowPlace(filesystem, pattern, "", "")
    if pattern.lower().startswith(("http://", "https://")):
        return HttpPlace(pattern, secret)
    if "://" not in pattern:
        path = Path(pattern).expanduser()
        return ArrowPlace(
            fs.LocalFileSystem(), str(path.absolute()), "" if path.is_absolute() else f"{Path.cwd()}/", ""
        )
    parts = urlsplit(pattern)
    user, _, password = secret.partition(":")
    owner = f"{quote(user, safe='')}:{quote(password, safe='')}@" if secret else ""
    query = f"?{parts.query}" if parts.query else ""
    try:
        found, root = fs.FileSystem.from_uri(f"{parts.scheme}://{owner}{parts.netloc}/{query}")
    except (pa.ArrowInvalid, OSError) as error:
        text = str(error).replace(owner, "") if owner else str(error)
        raise OriginError(f"{shown(pattern)} cannot be opened: {text}") from None
    root = root.rstrip("/")
    return ArrowPlace(found, f"{root}/{unquote(parts.path).lstrip('/')}", root, f"{parts.scheme}://{parts.netloc}")


def shown(pattern: str) -> str:
    """The pattern without what may be a secret: the options behind a URL's ?."""
    return pattern.partition("?")[0] if "://" in pattern else pattern


def explained(error: BaseException) -> OriginError:
    """OriginAway for what is worth another try, else OriginError, of an error while a file is read."""
    text = " ".join(str(error).split()) or type(error).__name__
    return (OriginAway if AWAY.search(text) else OriginError)(text[:500])


def _told(headers: Any) -> str:
    told = [headers.get(name) for name in ("ETag", "Last-Modified", "Content-Length")]
    return " ".join(one for one in told if one) if told[0] or told[1] else ""


def _regex(pattern: str) -> str:
    """A pattern of names as a regular expression: * and ? do not go through /, ** does."""
    found, at = "", 0
    while at < len(pattern):
        rest = pattern[at:]
        if rest.startswith("**/"):
            found, at = found + r"(?:[^/]+/)*", at + 3
        elif rest.startswith("**"):
            found, at = found + r".*", at + 2
        elif rest[0] in "*?":
            hidden = r"(?!\.)" if not at or pattern[at - 1] == "/" else ""
            found, at = found + hidden + ("[^/]*" if rest[0] == "*" else "[^/]"), at + 1
        elif rest[0] == "[" and (closed := re.match(r"\[!?[^\]/]+\]", rest)):
            found, at = found + closed[0].replace("[!", "[^").replace("\\", r"\\"), at + len(closed[0])
        else:
            found, at = found + re.escape(rest[0]), at + 1
    return found
