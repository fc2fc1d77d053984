"""Modules of ours as text and tree: what each defines, and what it takes from elsewhere. Nothing is imported."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from harness.errors import CrashcartError

Place = tuple[str, str]
"""Module and name of a definition."""


class NotStandaloneError(CrashcartError):
    """Something cannot be put into one file; the reason is for the manifest."""


@dataclass(slots=True)
class Definition:
    """A statement of a module that binds names, with the comment above it and the string below it."""

    module: str
    names: tuple[str, ...]
    node: ast.stmt
    start: int
    end: int
    """Lines, from 0; the end is not part of it."""


@dataclass(slots=True)
class Module:
    """A module of ours as text and tree."""

    name: str
    lines: list[str]
    tree: ast.Module
    definitions: dict[str, Definition] = field(default_factory=dict)
    aliases: dict[str, str | Place] = field(default_factory=dict)
    """Names that stand for a module of ours, or for a definition in one."""
    imports: dict[str, str] = field(default_factory=dict)
    """Names of other people's, with the statement that brings each."""


@cache
def read_module(name: str, ours: frozenset[str]) -> Module:
    """Return a module by its source.

    Raises:
        NotStandaloneError: If there is no source to read.
    """
    spec = _spec(name)
    if spec is None or spec.origin is None:
        msg = f"the source of {name} is not there"
        raise NotStandaloneError(msg)
    source = Path(spec.origin).read_text(encoding="utf-8")
    module = Module(name, source.splitlines(), ast.parse(source))
    _read_imports(module, ours)
    before: Definition | None = None
    for node in module.tree.body:
        names = tuple(_binds(node))
        if names:
            start = _with_comments(module.lines, _first_line(node) - 1)
            before = Definition(name, names, node, start, node.end_lineno or node.lineno)
            module.definitions |= dict.fromkeys(names, before)
        elif before is not None and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            before.end = node.end_lineno or before.end
            before = None
        else:
            before = None
    return module


def _read_imports(module: Module, ours: frozenset[str]) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            for alias in node.names:
                shown = alias.asname or alias.name
                whole = f"{node.module}.{alias.name}"
                if node.module.partition(".")[0] not in ours:
                    as_ = f" as {alias.asname}" if alias.asname else ""
                    if node in module.tree.body:
                        module.imports[shown] = f"from {node.module} import {alias.name}{as_}"
                else:
                    module.aliases[shown] = whole if exists(whole) else (node.module, alias.name)
        elif isinstance(node, ast.Import) and node in module.tree.body:
            for alias in node.names:
                as_ = f" as {alias.asname}" if alias.asname else ""
                module.imports[alias.asname or alias.name.partition(".")[0]] = f"import {alias.name}{as_}"


def exists(module: str) -> bool:
    """Whether there is a module of that name."""
    return _spec(module) is not None


@cache
def _spec(module: str) -> ModuleSpec | None:
    """Find a module without importing the packages around it: they may need a runtime that is not here."""
    parent, _, _ = module.rpartition(".")
    if not parent:
        return importlib.util.find_spec(module)
    package = _spec(parent)
    if package is None or package.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(module, package.submodule_search_locations)


def _binds(node: ast.stmt) -> Iterable[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def _first_line(node: ast.stmt) -> int:
    decorators = getattr(node, "decorator_list", [])
    return min(int(line) for line in (node.lineno, *(one.lineno for one in decorators)))


def _with_comments(lines: list[str], start: int) -> int:
    while start > 0 and lines[start - 1].startswith("#"):
        start -= 1
    return start
