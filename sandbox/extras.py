"""Commands that install what the demo needs and an installation lacks: no index has the distribution, so its name alone finds nothing.

    from a clone     pip install '.[demo]'        from a wheel     pip install 'watershed_pipeline-….whl[demo]'

pip notes where it installed a distribution from (PEP 610): that is the place that has the extra, in this very version.
"""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.base.errors import WatershedError

DISTRIBUTION = "watershed-pipeline"
EITHER = "pip install '.[demo]' in a clone of Watershed, or pip install 'watershed_pipeline-….whl[demo]' with its wheel"


def demo_command() -> str | None:
    """`pip install 'PLACE[demo]'`, PLACE being the clone or the wheel that this Watershed came from; None when that is not known."""
    source = _installed_from()
    if source is None:
        clone = Path(__file__).resolve().parent.parent
        return _pip(str(clone), editable=True) if (clone / "setup.cfg").exists() else None
    parts = urlsplit(source["url"])
    if parts.scheme != "file":
        return (
            f"pip install {shlex.quote(f'{DISTRIBUTION}[demo] @ ' + source['url'])}"
            if "archive_info" in source
            else None
        )
    place = url2pathname(parts.path)
    return _pip(place, bool(source.get("dir_info", {}).get("editable"))) if Path(place).exists() else None


def missing(what: str, otherwise: str = "") -> tuple[str, str | None]:
    """(text, repair) of an error for something of the extra `demo` that is not installed; `otherwise`, what does without it."""
    command = demo_command()
    told = f"run `{command}`" if command else EITHER
    return f"{what} is not installed: {told}{f', or {otherwise}' if otherwise else ''}", command


def need(module: str, what: str) -> None:
    """WatershedError unless the module can be imported: before two minutes of work, not after."""
    if find_spec(module) is None:
        text, repair = missing(what)
        raise WatershedError(text, repair=repair)


def _pip(place: str, editable: bool) -> str:
    return f"pip install {'-e ' if editable else ''}{shlex.quote(f'{place}[demo]')}"


def _installed_from() -> dict[str, Any] | None:
    """direct_url.json of this distribution: `url`, and dir_info, archive_info or vcs_info."""
    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return None
    found: dict[str, Any] | None = json.loads(text) if text else None
    return found
