"""Compiling what views need before it is needed: once for each state of the sources (kernels.cache); after that it is only loaded.

after warm_up(views), nothing that a worker, a night or an audit does with these views compiles anything
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count

from pipeline.aggregates.sketches import DistinctCount, Quantile
from pipeline.decode.tokens import is_token
from pipeline.definition.marks import FromRecord, Text
from pipeline.definition.view import View
from pipeline.kernels import cache
from pipeline.kernels.compiling import Kernel, compile_all, needed

ALWAYS = ("hashing", "json", "log_time", "records", "reduce", "tables")
SHOWN_AFTER_S = 2.0


def kernels_of(views: Iterable[View]) -> list[Kernel]:
    """All that reading, folding and merging these views may call."""
    chosen = list(views)
    sketched = any(
        isinstance(aggregate, DistinctCount | Quantile) for view in chosen for aggregate in view.aggregates.values()
    )
    columns = {column for view in chosen for column in view.source.columns}
    read = any(is_token(column) for column in columns)
    looked_up = {type for view in chosen for type in view.looked_up.values()}
    wide = any(type.kind == "wide" for type in {*looked_up, *(column.type for column in columns)})
    valid = any(lookup.as_of is not None for view in chosen for lookup in view.lookups.values())
    marked = {type(mark) for column in columns for mark in column.marks}
    around, exploded = any(issubclass(m, FromRecord) for m in marked), any(view.source.exploded for view in chosen)
    more = {"sketches": sketched, "tokens": read, "ascii": Text in marked, "wide": wide}
    more |= {"texts": around, "elements": exploded, "validity": valid}
    formats = {module for view in chosen for module in view.source.format.kernels}
    return needed(*ALWAYS, *(module for module, wanted in more.items() if wanted), *sorted(formats))


def cold(views: Iterable[View]) -> list[Kernel]:
    """Kernels that are not compiled yet, here or in the folder that is kept."""
    return [one for one in kernels_of(views) if not one.is_kept()]


def warm_up(views: Iterable[View]) -> None:
    """Load all that these views need; what is not compiled yet is compiled, and said on standard error."""
    kernels = kernels_of(views)
    missing = [one for one in kernels if not one.is_kept()]
    if missing:
        with _shown(len(missing)) as done:
            compile_all(missing, done)
    for one in kernels:
        one.ready()


@contextmanager
def _shown(kernels: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, when it takes its time; a line elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.print(f"compiling {kernels} kernels, once, into {cache.folder() or 'memory'} ...", markup=False)
        yield lambda title: None
        return
    columns = (
        TextColumn("compiling, once"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
    )
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=kernels)
    begun = count()
    later = threading.Timer(SHOWN_AFTER_S, bar.start)
    later.start()
    try:
        yield lambda title: bar.update(task, completed=next(begun), description=title, refresh=True)
    finally:
        later.cancel()
        later.join()
        bar.stop()
