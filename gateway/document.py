"""A YAML file as plain data that remembers its lines, with variables and secret files filled in.

Owns YAML 1.2, duplicate keys, and the expansion of `${VAR}`, `${VAR:-default}` and `${file:/path}` (`$${` is a literal
`${`). A variable may also be given as the path of a file, in `VAR_FILE`. Expansion happens in the parsed strings, so no value
can turn into YAML. Must not know what the keys mean.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError, YAMLWarning
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Key = tuple[str | int, ...]

#: Far more than any configuration has; stops aliases of aliases of aliases ("billion laughs").
MAX_NODES: Final = 100_000
#: A configuration file, and a file that holds a secret or a key.
MAX_BYTES: Final = 1 << 20

_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_QUOTED = re.compile(r"'[^'\s<>]{2,}'")  # the name of an alias or tag: a secret without its quotes may look like one
_CORE: Final = tuple(f"tag:yaml.org,2002:{name}" for name in ("int", "float", "bool", "null"))
_TEXT: Final = tuple(f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "merge", "value"))


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place. Never holds a value of the file, which might be a secret."""

    line: int
    key: Key
    text: str

    def render(self, name: str) -> str:
        """`config.yaml:12: sources[1].watch: <what is wrong>`."""
        return (
            f"{name}:{self.line}: {dotted(self.key)}: {self.text}" if self.key else f"{name}:{self.line}: {self.text}"
        )


def dotted(key: Key) -> str:
    """A key path as it is written in messages, on one line: `sources[1].watch`."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).removeprefix(".")
    return path if path.isprintable() else path.encode("unicode_escape").decode()


class Unreadable(Exception):
    """The file is not there, or is not text. The message says why."""


class _Unfilled(Exception):
    """A reference to a variable or file that cannot be filled in."""


@dataclass(slots=True)
class Document:
    """A parsed file.

    Attributes:
        data: mappings, lists and scalars; a value that could not be filled in is an empty string.
        problems: what is wrong with the file as such.
        filled: every text that came from a variable or a file.
    """

    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    filled: set[str] = field(default_factory=set)
    _lines: dict[Key, int] = field(default_factory=dict)

    def line(self, key: Key) -> int:
        """The line (from 1) of a key, or of the nearest thing around it that the file has."""
        while key and key not in self._lines:
            key = key[:-1]
        return self._lines.get(key, 1)


def read_text(path: Path) -> str:
    """A small UTF-8 file.

    Raises:
        Unreadable: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise Unreadable(f"is larger than {MAX_BYTES} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8 text") from None
    except ValueError:  # a NUL in the path
        raise Unreadable("cannot be read: not a path") from None


def parse(text: str, environ: Mapping[str, str], directory: Path, sections: Container[str] | None = None) -> Document:
    """Parses a file's text. What is wrong is in `problems`.

    Args:
        text: of the file.
        environ: variables that may be referred to.
        directory: where relative `${file:...}` paths start.
        sections: keys of the first level; what is below others is left out and not filled in. None: all of them.
    """
    yaml = YAML(typ="safe", pure=True)
    document = Document()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", YAMLWarning)  # an anchor may be defined again: YAML 1.2.2, section 7.1
            root = yaml.compose(text)
    except YAMLError as error:
        document.problems.append(_syntax(error, text))
        return document
    if root is not None:
        builder = _Builder(document, yaml, environ, directory, sections)
        document.data = builder.build(root, ())
    return document


def _syntax(error: YAMLError, text: str) -> Problem:
    """Where and why the text is no YAML, without quoting the text."""
    if not isinstance(error, MarkedYAMLError):
        return Problem(1, (), "is not valid YAML: has a character that YAML does not allow")
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    reason = _QUOTED.sub("'...'", error.problem or error.context or "cannot be parsed")
    lines = text.splitlines()
    line = lines[number - 1] if number <= len(lines) else ""
    if "alias" in reason:
        reason += "; a value that starts with * needs quotes"
    elif "${" in line:
        reason += "; inside { } and [ ], put ${...} in quotes"
    return Problem(number, (), f"is not valid YAML: {reason}")


class _Builder:
    """Turns nodes into data and notes the line of each."""

    def __init__(
        self,
        document: Document,
        yaml: YAML,
        environ: Mapping[str, str],
        directory: Path,
        sections: Container[str] | None,
    ) -> None:
        self._document = document
        self._constructor = yaml.constructor
        self._environ = environ
        self._directory = directory
        self._sections = sections
        self._nodes = 0
        self._open: set[int] = set()

    def build(self, node: Node, key: Key, line: int | None = None) -> Any:
        if line is None:
            line = node.start_mark.line + 1
        self._document._lines[key] = line
        self._nodes += 1
        if id(node) in self._open:
            return self._problem(key, "an alias may not contain itself")
        if self._nodes > MAX_NODES:
            if self._nodes == MAX_NODES + 1:
                self._problem(key, f"the file has more than {MAX_NODES} values, aliases counted each time")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, key)
            if isinstance(node, SequenceNode):
                return [self.build(item, (*key, index)) for index, item in enumerate(node.value)]
            return self._scalar(node, key)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, key: Key) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, ScalarNode):
                self._document.problems.append(Problem(line, key, "a key must be a plain word"))
                continue
            name = name_node.value
            if not key and self._sections is not None and name not in self._sections:
                continue
            if name in data:
                first = self._document.line((*key, name))
                text = f"duplicate key, already given on line {first}"
                self._document.problems.append(Problem(line, (*key, name), text))
                continue
            data[name] = self.build(value_node, (*key, name), line)
        return data

    def _scalar(self, node: Node, key: Key) -> Any:
        tag = str(node.tag)
        if tag in _TEXT:
            try:
                return self._expand(node.value)
            except _Unfilled as error:
                return self._problem(key, str(error))
        if tag in _CORE:
            try:
                return self._constructor.construct_object(node)
            except (ValueError, KeyError):  # an explicit tag on something else: !!int abc
                return self._problem(key, f"is not of the type that its tag says ({tag.rpartition(':')[2]})")
        return self._problem(key, "YAML tags are not supported; a value that starts with ! needs quotes")

    def _problem(self, key: Key, text: str) -> str:
        self._document.problems.append(Problem(self._document.line(key), key, text))
        return ""

    def _expand(self, text: str) -> str:
        return _REFERENCE.sub(self._fill, text)

    def _fill(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        reference = match[1]
        if reference is None:
            raise _Unfilled("${ without a closing }; write $${ for a literal ${")
        if "${" in reference:
            raise _Unfilled("${...} cannot be nested")
        if reference.startswith("file:"):
            return self._file(reference.removeprefix("file:"))
        return self._variable(reference)

    def _variable(self, reference: str) -> str:
        match = _VARIABLE.fullmatch(reference)
        if match is None:
            raise _Unfilled("${...} must hold VAR, VAR:-default or file:/path; write $${ for a literal ${")
        name, default = match.groups()
        value = self._environ.get(name)
        if path := self._environ.get(f"{name}_FILE"):
            if value:
                raise _Unfilled(f"environment variables {name} and {name}_FILE are both set")
            return self._file(path, f"that {name}_FILE names")
        if value:
            self._document.filled.add(value)
            return value
        if default is not None:
            return default
        raise _Unfilled(f"environment variable {name} is {'not set' if value is None else 'empty'}")

    def _file(self, name: str, called: str = "") -> str:
        """The content of a file; `called`: how messages speak of it, because a variable may hold a secret by mistake."""
        try:
            value = read_text(self._directory / name).rstrip("\r\n")
        except Unreadable as error:
            raise _Unfilled(f"file {called or name} {error}") from None
        if not value:
            raise _Unfilled(f"file {called or name} is empty")
        self._document.filled.add(value)
        return value


def conceal(text: str, values: Iterable[str]) -> str:
    """A message without the given values, should some other code have put one into it. Short ones would hit plain words."""
    for value in sorted((value for value in values if len(value) >= 6), key=len, reverse=True):
        text = text.replace(value, "***")
    return text
