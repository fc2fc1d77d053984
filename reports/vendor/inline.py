"""Makes one file out of definitions that are spread over modules: what is reached from the roots, and nothing else.

Works on source text, so that comments and layout survive; the tree is only asked where a name stands. Definitions of
different modules that share a name are told apart by the module's.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from reports.vendor.source import Definition, Module, NotStandaloneError, Place, exists, read_module

NOISE: Final = re.compile(r"[ \t]*#[ \t]*(?:noqa|type: ignore|fmt: skip)\b.*$", re.MULTILINE)
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass(frozen=True, slots=True)
class Inlined:
    """The parts of a file."""

    standard: tuple[str, ...]
    third_party: tuple[str, ...]
    code: Mapping[str, str]
    """Module → its definitions, in an order in which each module comes after those that it uses."""
    names: Mapping[Place, str]
    started: Mapping[str, str]
    """Modules that are started by their names, as ``python -m`` does, with what their ``main`` is called here."""


class Inliner:
    """Collects definitions.

    Args:
        ours: Top-level packages whose modules are copied; all others are imported.
        stand_ins: Module → the module whose definitions of the same names are taken instead.
        stem: What the file will be called, for names of classes and modules that are written out as strings.
        main: The module that the file stands for: where it starts itself by name, the file is started.
        avoid: Names that stand in the file already.
    """

    def __init__(
        self,
        ours: frozenset[str],
        stand_ins: Mapping[str, str],
        stem: str,
        main: str = "",
        avoid: frozenset[str] = frozenset(),
    ) -> None:
        self.ours = ours
        self.stand_ins = stand_ins
        self.stem = stem
        self.main = main
        self.avoid = avoid
        self.wanted: dict[str, dict[str, None]] = {}
        self.order: list[str] = []
        self.started: dict[str, None] = {}

    def add(self, module: str, name: str) -> None:
        """Take a definition and all that it reaches.

        Raises:
            NotStandaloneError: If it cannot be found, or needs something that cannot be copied.
        """
        place = self._resolve(module, name)
        chosen = self.wanted.setdefault(place[0], {})
        if place[1] in chosen:
            return
        home = read_module(place[0], self.ours)
        definition = home.definitions[place[1]]
        chosen.update(dict.fromkeys(definition.names))
        for use in self._uses(home, definition.node):
            if isinstance(use.target, tuple):
                self.add(*use.target)
                self.started |= {use.target[0]: None} if use.started else {}
        if place[0] in self.order:
            self.order.remove(place[0])
        self.order.append(place[0])

    def result(self) -> Inlined:
        """Return what was collected."""
        names = self._final_names()
        standard: dict[str, None] = {}
        foreign: dict[str, None] = {}
        code = {}
        for module in self._sorted():
            home = read_module(module, self.ours)
            parts = []
            for definition in dict.fromkeys(map(id, home.definitions.values())):
                one = next(each for each in home.definitions.values() if id(each) == definition)
                if one.names[0] not in self.wanted[module]:
                    continue
                parts.append(self._text(home, one, names))
                for name in _outer_names(one.node):
                    if name in home.imports and name not in home.definitions:
                        statement = home.imports[name]
                        top = statement.split()[1].partition(".")[0]
                        (standard if top in sys.stdlib_module_names else foreign)[statement] = None
            code[module] = "\n\n\n".join(parts)
        started = {module: names[self._resolve(module, "main")] for module in self.started}
        return Inlined(tuple(sorted(standard)), tuple(sorted(foreign)), code, names, started)

    def _sorted(self) -> list[str]:
        """Return the modules so that each comes after those that its definitions use."""
        done: list[str] = []

        def visit(module: str, trail: tuple[str, ...]) -> None:
            if module in done or module in trail:
                return
            home = read_module(module, self.ours)
            for name in self.wanted[module]:
                for use in self._uses(home, home.definitions[name].node):
                    if isinstance(use.target, tuple) and use.target[0] != module:
                        visit(self._resolve(*use.target)[0], (*trail, module))
            done.append(module)

        for module in self.order:
            visit(module, ())
        return done

    def _resolve(self, module: str, name: str) -> Place:
        """Follow re-exports and stand-ins to where a name is defined."""
        stand_in = self.stand_ins.get(module)
        if stand_in is not None and name in read_module(stand_in, self.ours).definitions:
            return stand_in, name
        home = read_module(module, self.ours)
        if name in home.definitions:
            return module, name
        alias = home.aliases.get(name)
        if isinstance(alias, tuple):
            return self._resolve(*alias)
        msg = f"{module} has no definition of {name} that can be copied"
        raise NotStandaloneError(msg)

    def _final_names(self) -> dict[Place, str]:
        taken: dict[str, Place] = {}
        final: dict[Place, str] = {}
        foreign = {name for module in self.wanted for name in read_module(module, self.ours).imports}
        local = {module: _all_bound(read_module(module, self.ours), self.wanted[module]) for module in self.order}
        for module in self.order:
            tail = module.rpartition(".")[2]
            for name in self.wanted[module]:
                shown = f"child_{name.lstrip('_')}" if module == "harness.child" else name
                elsewhere = any(shown in bound for other, bound in local.items() if other != module)
                if shown in taken or shown in foreign or shown in self.avoid or elsewhere:
                    shown = f"{tail}_{name.lstrip('_')}"
                if shown in taken or shown in self.avoid:
                    other = ".".join(taken.get(shown, ("what stands above it",)))
                    msg = f"{module}.{name} and {other} cannot be told apart"
                    raise NotStandaloneError(msg)
                taken[shown] = (module, name)
                final[module, name] = shown
        return final

    def _text(self, home: Module, definition: Definition, names: Mapping[Place, str]) -> str:
        edits: list[tuple[int, int, int, str]] = []
        for use in self._uses(home, definition.node):
            if use.statement is not None:
                edits.append((use.line, use.column, use.end_column, "pass" if use.alone else ""))
            elif use.literal:
                edits.append((use.line, use.column, use.end_column, f'"{use.literal}"'))
            elif isinstance(use.target, tuple) and not use.started:
                new = names[self._resolve(*use.target)]
                edits.append((use.line, use.column, use.end_column, f'"{self.stem}.{new}"' if use.quoted else new))
        for name in definition.names:
            new = names[home.name, name]
            if new != name:
                edits += [(line, at, at + len(name), new) for line, at in _binding(home, definition, name)]
        lines = home.lines[definition.start : definition.end]
        encoded = [line.encode() for line in lines]
        for line, begin, end, new in sorted(set(edits), reverse=True):
            row = line - 1 - definition.start
            encoded[row] = encoded[row][:begin] + new.encode() + encoded[row][end:]
        text = NOISE.sub("", b"\n".join(encoded).decode())
        if isinstance(definition.node, ast.AnnAssign):  # an alias of types may name itself, in a string
            name, new = definition.names[0], names[home.name, definition.names[0]]
            text = re.sub(rf"(?<![\w.]){re.escape(name)}\b", new, text)
        return re.sub(r"\n[ \t]+(?=\n)", "\n", text).rstrip()

    def _uses(self, home: Module, node: ast.AST) -> Iterator[_Use]:
        """Yield where a definition names another of ours, and the imports in it that will not be needed."""
        for inner, bound in _walk(node, frozenset()):
            if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
                alias = home.aliases.get(inner.value.id)
                if isinstance(alias, str) and inner.value.id not in bound:
                    yield _Use(inner, (alias, inner.attr))
            elif isinstance(inner, ast.Name) and inner.id not in bound:
                alias = home.aliases.get(inner.id)
                if inner.id in home.definitions:
                    yield _Use(inner, (home.name, inner.id))
                elif isinstance(alias, tuple):
                    yield _Use(inner, alias)
            elif isinstance(inner, ast.ImportFrom) and inner.module and self._is_ours(inner.module):
                yield _Use(inner, None, statement=inner)
            elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                yield from self._quoted(inner, inner.value)

    def _quoted(self, node: ast.Constant, text: str) -> Iterator[_Use]:
        """Yield a class or module of ours that is named by a string."""
        if not re.fullmatch(r"[A-Za-z_]\w*(?:\.\w+){2,}", text) or not self._is_ours(text):
            return
        if text == self.main:
            yield _Use(node, None, literal=self.stem)
            return
        module, _, name = text.rpartition(".")
        if exists(text):  # titles of processes hold this name, and oracles look for it: it stays
            yield _Use(node, (text, "main"), started=True)
        elif exists(module) and name in read_module(module, self.ours).definitions:
            yield _Use(node, (module, name), quoted=True)

    def _is_ours(self, module: str) -> bool:
        return module.partition(".")[0] in self.ours


@dataclass(slots=True)
class _Use:
    """A place in the text, and what it names."""

    node: ast.expr | ast.stmt
    target: Place | None
    statement: ast.ImportFrom | None = None
    quoted: bool = False
    literal: str = ""
    started: bool = False
    alone: bool = True

    @property
    def line(self) -> int:
        return self.node.lineno

    @property
    def column(self) -> int:
        return self.node.col_offset

    @property
    def end_column(self) -> int:
        return self.node.end_col_offset or 0


def _walk(node: ast.AST, bound: frozenset[str]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Yield all nodes below one, each with the names that functions around it bind themselves."""
    if isinstance(node, _Function):
        bound |= _bound(node)
    yield node, bound
    for child in [*ast.iter_child_nodes(node), *_cast_type(node)]:
        yield from _walk(child, bound)


def _cast_type(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the type that a cast names in a string, with the places in the file of its parts."""
    match node:
        case ast.Call(func=ast.Name(id="cast"), args=[ast.Constant(value=str(text)) as quoted, _]):
            whole = ast.parse(text, mode="eval").body
            for inner in ast.walk(whole):
                if isinstance(inner, ast.expr):
                    inner.lineno = quoted.lineno
                    inner.col_offset += quoted.col_offset + 1
                    inner.end_col_offset = (inner.end_col_offset or 0) + quoted.col_offset + 1
            yield whole


def _bound(function: _Function) -> frozenset[str]:
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    names = {one.arg for one in every}
    todo: list[ast.AST] = [*function.body] if isinstance(function.body, list) else [function.body]
    while todo:
        inner = todo.pop()
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            names.add(inner.id)
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            names |= {inner.name} if inner.name else set()
        if not isinstance(inner, ast.ClassDef | _Function):  # what those bind, such as methods, is theirs alone
            todo += ast.iter_child_nodes(inner)
    return frozenset(names)


def _all_bound(home: Module, names: Iterable[str]) -> frozenset[str]:
    """Return the names that functions bind themselves: nothing of another module may be called so."""
    every = [inner for name in names for inner in ast.walk(home.definitions[name].node)]
    return frozenset[str]().union(*(_bound(inner) for inner in every if isinstance(inner, _Function)))


def _outer_names(node: ast.AST) -> Iterator[str]:
    for inner, bound in _walk(node, frozenset()):
        if isinstance(inner, ast.Name) and inner.id not in bound:
            yield inner.id


def _binding(home: Module, definition: Definition, name: str) -> Iterator[tuple[int, int]]:
    """Yield line and column, in bytes, where a statement writes the name that it binds."""
    node = definition.node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        keyword = "class" if isinstance(node, ast.ClassDef) else "def"
        line = home.lines[node.lineno - 1]
        found = re.search(rf"\b{keyword}\s+({re.escape(name)})\b", line)
        if found:
            yield node.lineno, len(line[: found.start(1)].encode())
        return
    # The targets of assignments are names, which `_uses` has seen already.
