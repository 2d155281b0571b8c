"""Settings: typed fields that are their own manual, read from a TOML file, the environment and saved overrides.

A settings class is a frozen pydantic model whose fields are made with `setting`, nested one level (a group is a TOML
table). The field `port` of the group `smtp` has the key `smtp.port` in the file and in overrides, and the variable
`PREFIX_SMTP_PORT` in the environment, besides further names of its own. Order: default < file < environment <
override. A key or variable that means nothing stops the start, with the name that was probably meant.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from runtime.lifecycle import StartError

M = TypeVar("M", bound="Group")
MASK = "••••••"
EXIT_CONFIG = 78


class ConfigError(StartError):
    """The settings cannot be used: one sentence that names the place and the remedy. Exit status 78 (EX_CONFIG)."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, exit_code=EXIT_CONFIG)


class Group(BaseModel):
    """Base of a settings class and of each of its groups."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    hidden: ClassVar[frozenset[str]] = frozenset()
    """Fields that users do not set here, because the composition root fills them in."""


@dataclass(frozen=True, slots=True)
class Env:
    """A further environment variable of a setting, not looked at where the variable `unless` is set, nor where
    `beside` is not, or is empty."""

    name: str
    unless: str | None = None
    beside: str | None = None


def setting(
    default: Any,
    description: str,
    *,
    env: Iterable[str | Env] = (),
    live: bool = False,
    secret: bool = False,
    **bounds: Any,
) -> Any:
    """A field. `env`: further variables. `live`: a change takes effect while running. `secret`: what was given is not
    repeated when it is wrong (that of a SecretStr never is). `bounds`: pydantic's ge, le, …"""
    further = [Env(name) if isinstance(name, str) else name for name in env]
    extra: JsonDict = {
        "env": [[name.name, name.unless, name.beside] for name in further],
        "live": live,
        "secret": secret,
    }
    return Field(default=default, description=description, json_schema_extra=extra, **bounds)


# -- types of values -------------------------------------------------------------------------------------------------

_URL_PASSWORD = re.compile(r"(?<=://)([^:]*:).*(?=@)", re.DOTALL)
_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
_SIZE = re.compile(r"\s*(\d{1,18})\s*([kmg]i?)?b?\s*", re.IGNORECASE)


def size(value: object) -> object:
    """Octets of a text such as "64 MiB", "10k" or "7"; anything else as it is."""
    if isinstance(value, str) and (found := _SIZE.fullmatch(value)):
        return int(found[1]) * _UNITS[(found[2] or "").lower()]
    return value


def _blank(value: object) -> object:
    return None if value is False or (isinstance(value, str) and value.strip() == "") else value


def _words(value: object) -> object:
    return [word for word in re.split(r"[\s,]+", value) if word] if isinstance(value, str) else value


def _tables(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return ()
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('is not JSON, such as [{"name": "…", …}]') from None


def _named_tables(value: object) -> object:
    value = _tables(value)
    if not isinstance(value, Mapping):
        return value
    for name, table in value.items():
        if not isinstance(table, Mapping):
            raise ValueError(f"{name!r} is not a table of settings")
        if "name" in table:
            raise ValueError(f"{name!r} is the table's name: it has no 'name' within it")
    return [{"name": name, **table} for name, table in value.items()]


Size = Annotated[int, BeforeValidator(size), Field(ge=0)]
"""Octets: a number, or a text such as "64 MiB"."""
Port = Annotated[Annotated[int, Field(ge=0, le=65535)] | None, BeforeValidator(_blank)]
"""A listener's port: None (written as an empty value) is off, 0 lets the system choose."""
OptionalText = Annotated[str | None, BeforeValidator(_blank)]
OptionalPath = Annotated[Path | None, BeforeValidator(_blank)]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_blank)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
"""A list; in the environment separated by commas or blanks."""
Tables = Annotated[tuple[M, ...], BeforeValidator(_tables)]
"""Tables of one group, `[[group.name]]` in the file; in the environment a JSON list of objects."""
NamedTables = Annotated[tuple[M, ...], BeforeValidator(_named_tables)]
"""Tables by name, `[key.NAME]` in the file, of a group with the field `name`; in the environment a JSON object."""


# -- what there is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as declared. `key` is its name in the file and in overrides; `env[0]` its own variable."""

    key: str
    env: tuple[Env, ...]
    description: str
    default: Any
    kind: str
    secret: bool
    live: bool
    columns: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One key of the tables that a setting of `Tables` has. default: as text, None where it has to be given."""

    key: str
    description: str
    default: str | None
    kind: str


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as it stands, for listings: texts, secrets masked. `origin` says where the value came from."""

    key: str
    env: tuple[str, ...]
    default: str
    value: str
    origin: str
    live: bool


@dataclass(frozen=True, slots=True)
class Loaded(Generic[M]):
    """The settings in force and, for each key that is not at its default, where it came from."""

    settings: M
    origins: Mapping[str, str]

    def rows(self, prefix: str) -> list[Row]:
        """Every setting, in order of declaration."""
        return [
            Row(
                entry.key,
                tuple(env.name for env in entry.env),
                shown(entry.default),
                shown(value_of(self.settings, entry.key)),
                self.origins.get(entry.key, "default"),
                entry.live,
            )
            for entry in entries(type(self.settings), prefix)
        ]


def entries(model: type[Group], prefix: str) -> list[Entry]:
    """Every setting of the class, in order of declaration; `prefix` ("HOMING") begins their own variables."""
    found = []
    for name, field in model.model_fields.items():
        group = _group(field)
        if group is None:
            found.append(_entry(name, field, prefix))
        else:
            found += [
                _entry(f"{name}.{inner}", deeper, prefix)
                for inner, deeper in group.model_fields.items()
                if inner not in group.hidden
            ]
    return found


def value_of(settings: Group, key: str) -> Any:
    """The value of a key. Raises AttributeError where there is none."""
    value: Any = settings
    for part in key.split("."):
        value = getattr(value, part)
    return value


def shown(value: Any) -> str:
    """A value as text, as the environment would have it; a secret as a mask."""
    match value:
        case None:
            return ""
        case SecretStr():
            return MASK
        case bool():
            return "true" if value else "false"
        case Group():
            told = value.model_dump(mode="json", exclude_unset=True)
            for name in told:
                if isinstance(inner := getattr(value, name), SecretStr | str):
                    told[name] = shown(inner)
            return json.dumps(told, ensure_ascii=False)
        case tuple() if value and isinstance(value[0], Group):
            return "[" + ", ".join(shown(part) for part in value) + "]"
        case tuple():
            return ", ".join(shown(part) for part in value)
        case str():
            return without_passwords(value)
        case _:
            return str(value)


def without_passwords(text: str) -> str:
    """A text with a mask for the password of a URL in it, which is a secret too: all that stands between the name's
    colon and the last @, as a password may have any character in it that was forgotten to be quoted."""
    return _URL_PASSWORD.sub(rf"\1{MASK}", text)


# -- loading ---------------------------------------------------------------------------------------------------------


def load(
    model: type[M],
    *,
    prefix: str,
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, str],
    also: Iterable[str] = (),
) -> Loaded[M]:
    """Read the settings. `also`: variables with the prefix that are not settings. Raises ConfigError."""
    known = {entry.key: entry for entry in entries(model, prefix)}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    if file is not None:
        for key, value in _read_file(file, known).items():
            values[key], origins[key] = value, f"file {file}"
    for key, name in _named(known, environ, prefix, also).items():
        values[key], origins[key] = environ[name], f"environment {name}"
    for key, value in overrides.items():
        if key not in known:
            raise ConfigError(
                f"The saved override {key!r} is not a setting of this release: `homing config clear {key}`."
            )
        values[key], origins[key] = value, "override"
    return Loaded(_build(model, values, origins, known), origins)


def _read_file(file: Path, known: Mapping[str, Entry]) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"The settings file {file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"The settings file {file} is not UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"The settings file {file} is not TOML: {error}.") from error
    found: dict[str, Any] = {}
    groups = {key.partition(".")[0] for key in known if "." in key}
    for name, value in table.items():
        grouped = isinstance(value, dict) and not (name in known and known[name].columns)
        inner = {f"{name}.{part}": deeper for part, deeper in value.items()} if grouped else None
        if inner is None and name in groups:
            raise ConfigError(f"{file}: {name} is a table: write [{name}] on a line, its settings below.")
        for key, plain in ({name: value} if inner is None else inner).items():
            if key not in known:
                raise ConfigError(f"{file}: there is no setting {key!r}.{near(key, known)}")
            found[key] = plain
    return found


def _named(known: Mapping[str, Entry], environ: Mapping[str, str], prefix: str, also: Iterable[str]) -> dict[str, str]:
    """For each key that the environment sets, the variable that does: the setting's own first."""
    found: dict[str, str] = {}
    owned = set(also)
    for key, entry in known.items():
        owned.update(env.name for env in entry.env)
        for env in entry.env:
            if env.name not in environ or (env.unless is not None and env.unless in environ):
                continue
            if env.beside is None or environ.get(env.beside):
                found[key] = env.name
                break
    for name in environ:
        if name.startswith(f"{prefix}_") and name not in owned:
            ours = [one for one in owned if one.startswith(f"{prefix}_")]
            raise ConfigError(f"The environment sets {name}, which is not a setting.{near(name, ours)}")
    return found


def _build(model: type[M], values: Mapping[str, Any], origins: Mapping[str, str], known: Mapping[str, Entry]) -> M:
    nested: dict[str, Any] = {name: {} for name, field in model.model_fields.items() if _group(field) is not None}
    for key, value in values.items():
        group, dot, name = key.partition(".")
        if dot:
            nested[group][name] = value
        else:
            nested[key] = value
    try:
        return model.model_validate(nested)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = [str(part) for part in first["loc"]]
        key = next((one for one in (".".join(place[:2]), ".".join(place[:1])) if one in known), "")
        message = first["msg"].removeprefix("Value error, ")
        if not key:
            raise ConfigError(message) from None
        given = MASK if known[key].secret else without_passwords(repr(values.get(key)))
        inside = place[len(key.split(".")) :]
        if known[key].columns and inside:
            # The whole list says less than which table and which key of it.
            tables = values.get(key)
            if isinstance(tables, Mapping) and inside[0].isdigit():
                where = f"{key}.{list(tables)[int(inside[0])]}"
            else:
                where = f"{key}, number {int(inside[0]) + 1 if inside[0].isdigit() else inside[0]}"
            where += f", {'.'.join(inside[1:])}" if inside[1:] else ""
            raise ConfigError(f"{where} ({origins.get(key, 'default')}): {message}.") from None
        raise ConfigError(f"{key} = {given} ({origins.get(key, 'default')}): {message}.") from None


def near(name: str, known: Iterable[str]) -> str:
    """A sentence, with a blank before it, about the name that was probably meant."""
    closest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {closest[0]!r}?" if closest else " `homing config` lists all there are."


def _group(field: FieldInfo) -> type[Group] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Group) else None


def _tables_of(field: FieldInfo) -> type[Group] | None:
    kinds = [kind for kind in get_args(field.annotation) if isinstance(kind, type) and issubclass(kind, Group)]
    return kinds[0] if kinds else None


def _column(key: str, field: FieldInfo) -> Column:
    default = None if field.is_required() else shown(field.default)
    return Column(key, field.description or "", default, _kind(field))


def _entry(key: str, field: FieldInfo, prefix: str) -> Entry:
    extra: Any = field.json_schema_extra
    assert isinstance(extra, dict), f"{key} is not made with setting()"
    default = field.get_default(call_default_factory=True)
    assert default is not PydanticUndefined, f"{key} has no default"
    tables = _tables_of(field)
    return Entry(
        key,
        (Env(f"{prefix}_{key}".upper().replace(".", "_")), *(Env(*further) for further in extra["env"])),
        field.description or "",
        default,
        "tables" if tables else _kind(field),
        bool(extra["secret"])
        or any(
            "SecretStr" in str(one.annotation) for one in (field, *(tables.model_fields.values() if tables else ()))
        ),
        extra["live"],
        tuple(_column(name, inner) for name, inner in tables.model_fields.items()) if tables else (),
    )


def _kind(field: FieldInfo) -> str:
    text = str(field.annotation)
    if "Literal" in text:
        return " | ".join(re.findall(r"'([^']*)'", text))
    for mark, kind in (
        ("SecretStr", "secret"),
        ("Path", "path"),
        ("tuple", "list"),
        ("bool", "true | false"),
        ("float", "seconds"),
    ):
        if mark in text:
            return kind
    if "int" in text:
        names = [validator.func.__name__ for validator in field.metadata if isinstance(validator, BeforeValidator)]
        return "octets" if "size" in names else "port" if "_blank" in names else "number"
    return "text"


# -- the manual ------------------------------------------------------------------------------------------------------


def manual(model: type[Group], prefix: str) -> str:
    """`docs/config.md`'s body: every setting with its names, default and meaning, as Markdown."""
    lines: list[str] = []
    described = {name: field.description for name, field in model.model_fields.items() if _group(field) is not None}
    group = None
    for entry in entries(model, prefix):
        name = entry.key.partition(".")[0] if "." in entry.key or entry.columns else ""
        if name != group:
            group = name
            lines += ["", f"## [{name}]" if name else "## General", ""]
            if described.get(name):
                lines += [str(described[name]), ""]
        names = ", ".join(
            f"`{env.name}`"
            + (f" (unless `{env.unless}` is set)" if env.unless else "")
            + (f" (where `{env.beside}` is set)" if env.beside else "")
            for env in entry.env
        )
        default = f"`{shown(entry.default)}`" if shown(entry.default) else "empty"
        live = " Changeable while running." if entry.live else ""
        lines += [
            f"### `{entry.key}`",
            "",
            f"{entry.description}{live}",
            "",
            f"{entry.kind}, default {default}; environment: {names}" + (" (as JSON)" if entry.columns else ""),
            "",
        ]
        for column in entry.columns:
            told = (
                "has to be given"
                if column.default is None
                else f"default {f'`{column.default}`' if column.default else 'empty'}"
            )
            lines.append(f"- `{column.key}` ({column.kind}, {told}): {column.description}")
        if entry.columns:
            lines.append("")
    return "\n".join(lines).strip() + "\n"
