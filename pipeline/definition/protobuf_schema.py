"""Message types as .proto declares them, read out of its text by protoc and the library protobuf; imported where they are needed.

    types_of(equal texts) are equal        message(indexes) is the registry's: [1, 0] is the first message inside of the file's second

What a text means is protoc's to say, and nobody else's: names, imports, syntax and editions, what is packed and what may be missing.
"""

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.base.errors import DefinitionError, SettingsError

MAIN = "watershed_main.proto"
MOST_BYTES = 4_000_000  # of all texts together
COMPILE_S = 120
EXTRA = "pip install '.[protobuf]'"
# Also one in a comment: it is given to protoc if it is there, and not used. WORDS: protoc's own, without those of its logging.
IMPORT = re.compile(r"""\bimport\s+(?:(?:public|weak|option)\s+)?["']([^"'\n]+)["']\s*;""")
WORDS = re.compile(r"[^\s:]+\.proto:(?!.* warning: )")
# What the registry's own serializers import without registering it.
BUILT_IN = {
    "confluent/meta.proto": """syntax = "proto3"; package confluent; import "google/protobuf/descriptor.proto";
message Meta { string doc = 1; map<string, string> params = 2; repeated string tags = 3; }
extend google.protobuf.FileOptions { Meta file_meta = 1088; } extend google.protobuf.MessageOptions { Meta message_meta = 1088; }
extend google.protobuf.FieldOptions { Meta field_meta = 1088; } extend google.protobuf.EnumOptions { Meta enum_meta = 1088; }
extend google.protobuf.EnumValueOptions { Meta enum_value_meta = 1088; }""",
    "confluent/type/decimal.proto": """syntax = "proto3"; package confluent.type;
message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }""",
}


class NoSchema(Exception):
    """A text that is no schema, or lacks what is asked of it; the reason, one line, the same whenever it is asked."""


@dataclass(frozen=True)
class Field:
    """A field of a message. `type`: "int32" to "sfixed64", "bool", "float", "double", "string", "bytes", "enum", "message" or "group".

    `implicit`: where it is missing it is its default. `oneof`: the name of what it is one of, "" alone. `message`: the full name of its
    type, and `types` all types by such names. `enum`: (number, name), one for each number, the first that the .proto names.
    """

    number: int
    name: str
    json_name: str
    type: str
    repeated: bool = False
    is_map: bool = False
    implicit: bool = False
    oneof: str = ""
    message: str = ""
    enum: tuple[tuple[int, str], ...] = ()
    types: Any = dataclass_field(default=None, compare=False, repr=False)

    @property
    def inside(self) -> "Message":
        """The message type of a field that is one."""
        found: Message = self.types[self.message]
        return found


@dataclass(frozen=True)
class Message:
    """A message type by its full name; its fields in the order of their numbers."""

    name: str
    fields: tuple[Field, ...]

    @cached_property
    def names(self) -> dict[str, Field]:
        """Fields by the names that a path may give them: the .proto's own, and JSON's where it is nobody else's."""
        own = {field.name: field for field in self.fields}
        camel = [field.json_name for field in self.fields]
        return {f.json_name: f for f in self.fields if camel.count(f.json_name) == 1} | own

    @cached_property
    def numbers(self) -> dict[int, Field]:
        """Fields by their numbers."""
        return {field.number: field for field in self.fields}


@dataclass(frozen=True, eq=False)
class MessageTypes:
    """The messages of a schema and its imports by their full names; `nested` those of its own file, each with what is inside of it."""

    messages: Mapping[str, Message]
    nested: tuple[Any, ...]  # of (full name, nested)

    def at(self, indexes: Sequence[int]) -> Message:
        """The message that a record's indexes lead to; NoSchema where they lead nowhere."""
        name, inside = "", self.nested
        for index in indexes:
            if not 0 <= index < len(inside):
                raise NoSchema(f"message indexes {list(indexes)} lead nowhere")
            name, inside = inside[index]
        return self.messages[name]

    def named(self, name: str | None) -> Message:
        """The message of that full name; without one, the only one of the schema's file. NoSchema where there is none."""
        own = [full for full, _ in self.nested]
        if name is None and len(own) == 1:
            return self.messages[own[0]]
        if name is None or name not in self.messages:
            raise NoSchema(f"the schema has no message {name!r}; allowed are {', '.join(own) or 'none'}")
        return self.messages[name]


def types_of(text: str, imports: Iterable[tuple[str, str]] = ()) -> MessageTypes:
    """The types of a .proto text; `imports` are the texts that it names, by those names. NoSchema with protoc's words where it is none."""
    found = _compiled(text, tuple(imports))
    if isinstance(found, str):
        raise NoSchema(found)
    return read(found)


@lru_cache(maxsize=256)
def _compiled(text: str, imports: tuple[tuple[str, str], ...]) -> bytes | str:
    """The descriptors of a text, or the reason why it has none: asked once, for thousands of records may name it."""
    try:
        return compiled(text, dict(imports).get)
    except NoSchema as reason:
        return str(reason)


def compiled(text: str, find: Callable[[str], str | None]) -> bytes:
    """The serialized FileDescriptorSet of a .proto text, itself last; `find` gives the text of an import by its name, or None."""
    texts = {MAIN: text}
    waiting = [MAIN]
    while waiting:
        for name in IMPORT.findall(texts[waiting.pop()]):
            found = None if name in texts or name.startswith("google/protobuf/") else find(name) or _known(name)
            if found is not None:
                texts[_safe(name)] = found
                waiting.append(name)
    size = sum(len(one) for one in texts.values())
    if size > MOST_BYTES:
        raise NoSchema(f"a schema of {size:,} characters; allowed are {MOST_BYTES:,}")
    for module in ("google.protobuf", "grpc_tools"):
        _need(module)
    with tempfile.TemporaryDirectory(prefix="watershed-proto-") as folder:
        for name, one in texts.items():
            place = Path(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(one, encoding="utf-8", errors="surrogatepass")
        return _protoc(folder)


def _safe(name: str) -> str:
    """The name of an import, which must stay inside of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or len(name) > 200:
        raise NoSchema(f"import {name[:60]!r}; allowed is a path below a folder of its own, as 'shop/money.proto'")
    return name


def _known(name: str) -> str | None:
    """The text of an import that every registry's serializers know."""
    if name in BUILT_IN or not re.fullmatch(r"google/type/[a-z_]+\.proto", name):
        return BUILT_IN.get(name)
    found = importlib.util.find_spec("google.type") if importlib.util.find_spec("google") else None
    for folder in found.submodule_search_locations or () if found else ():
        if (place := Path(folder, PurePosixPath(name).name)).is_file():
            return place.read_text(encoding="utf-8")
    return None


def _need(module: str) -> None:
    """SettingsError, with what installs it, where the extra is not installed."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise SettingsError(f"Protobuf needs {module}, of the extra [protobuf]", repair=EXTRA)


def _protoc(folder: str) -> bytes:
    """In a process of its own: a text may be made to break a compiler."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "grpc_tools.protoc",
        "-I.",
        "--include_imports",
        "--descriptor_set_out=out",
        MAIN,
    ]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=COMPILE_S, check=False)
    except subprocess.TimeoutExpired:
        raise SettingsError(
            f"protoc is still compiling a schema after {COMPILE_S} s; is this machine too busy?"
        ) from None
    if done.returncode:
        told = [line for line in done.stderr.decode(errors="replace").splitlines() if WORDS.match(line)]
        said = "; ".join(line.removeprefix(f"{MAIN}:") for line in told)[:300]
        raise NoSchema(f"no .proto: {said or f'protoc ended with {done.returncode}'}")
    return Path(folder, "out").read_bytes()


@lru_cache(maxsize=256)
def read(descriptors: bytes) -> MessageTypes:
    """The types of a serialized FileDescriptorSet; the last file is the schema's own. NoSchema where it is none."""
    _need("google.protobuf")
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError

    files, pool = FileDescriptorSet(), DescriptorPool()
    try:
        files.ParseFromString(descriptors)
        for file in files.file:
            pool.Add(file)
        found = [pool.FindFileByName(file.name) for file in files.file]
    except (DecodeError, TypeError, KeyError) as error:
        raise NoSchema(f"no serialized FileDescriptorSet: {' '.join(str(error).split())[:200]}") from None
    if not found:
        raise NoSchema("a FileDescriptorSet without a file")
    messages: dict[str, Message] = {}
    for one in found:
        nested = _take([one.message_types_by_name[m.name] for m in files.file[found.index(one)].message_type], messages)
    return MessageTypes(messages, nested)


def _take(descriptors: Iterable[Any], messages: dict[str, Message]) -> tuple[Any, ...]:
    """Put the messages, and what is inside of them, by their names; their names in the order of the .proto, as `nested` has them."""
    found = []
    for one in descriptors:
        fields = sorted((_field(field, messages) for field in one.fields), key=lambda f: f.number)
        messages[one.full_name] = Message(one.full_name, tuple(fields))
        found.append((one.full_name, _take(one.nested_types, messages)))
    return tuple(found)


def _field(field: Any, messages: dict[str, Message]) -> Field:
    kind = type_names()[field.type]
    inside = field.message_type
    oneof = field.containing_oneof
    numbers: dict[int, str] = {}
    for value in field.enum_type.values if field.enum_type is not None else ():
        numbers.setdefault(value.number, value.name)
    repeated = bool(field.is_repeated)
    return Field(
        field.number,
        field.name,
        field.json_name,
        kind,
        repeated,
        inside is not None and bool(inside.GetOptions().map_entry),
        not repeated and not field.has_presence,
        oneof.name if oneof is not None and len(oneof.fields) > 1 else "",
        inside.full_name if inside is not None else "",
        tuple(sorted(numbers.items())),
        messages,
    )


@lru_cache(maxsize=1)
def type_names() -> dict[int, str]:
    """The names of types by the numbers that descriptors have for them."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto

    return {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}


def descriptors_of(schema: str | bytes | Path, folder: Path) -> bytes:
    """The serialized FileDescriptorSet of what a definition gives: a .proto's text, or the path of one or of such a set, from `folder` on.

    Imports are looked for beside the file, then in the folders above it. DefinitionError where there is none, or it is none.
    """
    if isinstance(schema, bytes):
        return schema
    try:
        if isinstance(schema, str) and ("{" in schema or "\n" in schema):
            return compiled(schema, lambda name: _beside(folder, name))
        place = folder / schema if (folder / schema).is_file() else Path(schema)
        held = place.read_bytes()
        if place.suffix != ".proto":
            return held
        return compiled(held.decode(), lambda name: _beside(place.absolute().parent, name))
    except NoSchema as error:
        raise DefinitionError(f"Protobuf: schema: {error}") from None
    except UnicodeDecodeError:
        raise DefinitionError(f"Protobuf: schema {str(schema)!r} is no text in UTF-8") from None
    except OSError as error:
        raise DefinitionError(
            f"Protobuf: schema {str(schema)!r} cannot be read: {error.strerror}; allowed are a .proto, its text, and a FileDescriptorSet"
        ) from None


def _beside(folder: Path, name: str) -> str | None:
    for place in (folder, *folder.parents):
        if (place / name).is_file():
            return (place / name).read_text(encoding="utf-8")
    return None
