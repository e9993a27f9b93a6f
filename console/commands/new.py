"""`watershed new`: a views module written from a sample of a topic or a file, to be read, changed and tried."""

import importlib.util
import keyword
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from console.commands.sampled import asked_schemas, sample_of
from ingestion.draft import Draft, draft
from ingestion.formats import JSON, Form, avro
from ingestion.formats import message as message_form
from pipeline.base.errors import SettingsError
from pipeline.decode.schemas import NO_SCHEMAS
from pipeline.definition.formats import Avro, Protobuf
from pipeline.definition.names import check_name
from pipeline.settings import Settings

RECORDS = 2000


class Written(StrEnum):
    """Formats that a sample may be in."""

    json = "json"
    avro = "avro"
    protobuf = "protobuf"


def new(
    name: Annotated[
        str, typer.Argument(help="The module's name: NAME.py is written, and its views are named after it.")
    ],
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Look at this topic's oldest and newest records.")
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Look at a file: one JSON object a line.")] = None,
    format: Annotated[
        Written, typer.Option(help="What a record holds. Debezium's envelopes in JSON are recognised.")
    ] = Written.json,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The .avsc or .proto of all records; else a registry's.")
    ] = None,
    message: Annotated[
        str | None, typer.Option(metavar="NAME", help="The Protobuf message, as shop.Payment; the only one by default.")
    ] = None,
    records: Annotated[int, typer.Option(min=1, help="Records to look at.")] = RECORDS,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write into.")] = Path(),
) -> None:
    """Write a views module from a sample of a topic or a file: types, paths, key, identity, event time, a first view."""
    path = _free(name, out)
    form = _form(format, schema, message, file, out)
    sample = sample_of(topic, file, records)
    drafted = draft(name, topic or name, sample, form, out)
    try:
        with path.open("x", encoding="utf-8") as module:
            module.write(drafted.text)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}); name another folder: --out DIR") from None
    _tell(name, path, drafted, len(sample), "" if topic is None else f" --topic {topic}", file, out)


def _form(format: Written, schema: Path | None, name: str | None, file: Path | None, out: Path) -> Form:
    """The format of the sample, as the options say; SettingsError where they do not go together."""
    if format is Written.json:
        if schema is not None or name is not None:
            raise SettingsError(
                "--schema and --message are for --format avro and --format protobuf; JSON has no schema"
            )
        return JSON
    if file is not None:
        raise SettingsError(
            f"--file is for JSON, one object a line; look at records of {format} in their topic: --topic TOPIC"
        )
    if name is not None and format is Written.avro:
        raise SettingsError("--message is for --format protobuf; an Avro schema is of one record")
    if schema is None:
        if format is Written.protobuf:
            raise SettingsError(
                "--format protobuf needs --schema FILE, the .proto of bare messages; a topic in a registry's framing is declared by hand:"
                ' format=Protobuf("shop.Payment") (docs/EVENTS.md)'
            )
        return avro("", Avro(), asked_schemas(Settings.load()))
    quoted = '"' + os.path.relpath(schema, out).replace("\\", "\\\\").replace('"', '\\"') + '"'
    absolute = str(schema.absolute())
    if format is Written.avro:
        return avro(f"schema={quoted}", Avro(absolute), NO_SCHEMAS)
    return message_form(quoted, Protobuf(name, absolute))


def _free(name: str, out: Path) -> Path:
    """The path of the module; SettingsError where it is taken, or Python would import another one by that name."""
    check_name(name, "the module")
    path = out / f"{name}.py"
    if path.exists():
        raise _exists(path)
    taken = keyword.iskeyword(name) or name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None
    if taken:
        raise SettingsError(
            f"{name!r} is a module of Python or of this installation already: give the new one another name"
        )
    if not out.is_dir():
        raise SettingsError(f"there is no folder {out}: make it, or name another: --out DIR")
    return path


def _exists(path: Path) -> SettingsError:
    return SettingsError(
        f"{path} is there already, and `watershed new` never overwrites: give another name, or --out DIR"
    )


def _tell(name: str, path: Path, drafted: Draft, records: int, topic: str, file: Path | None, out: Path) -> None:
    chosen = drafted.chosen
    identity = "no identity" if chosen.identity is None else f"identity {chosen.identity.column.name}"
    typer.echo(
        f"wrote {path}: {drafted.columns} columns from {records:,} records; key {chosen.key.column.name},"
        f" event time {chosen.timed.name}, {identity}, view {drafted.view.name}"
    )
    if drafted.rejected:
        typer.echo(f"{drafted.rejected:,} records of the sample are rejected; the module's first lines say why")
    if file is not None:
        typer.echo(f"set the topic in {path.name}: the file does not say it, and {name!r} stands there now")
    here = "" if out == Path() else f"cd {out} && "
    tried = f" --file {file.resolve() if here else file}" if file is not None else topic
    typer.echo("read its comments, then:")
    typer.echo(f"  {here}export WATERSHED_VIEWS={name}")
    typer.echo(f"  watershed try{tried}")
    typer.echo(
        "  watershed up          # embedded servers; with your own Kafka and Postgres: watershed init && watershed speed"
    )
