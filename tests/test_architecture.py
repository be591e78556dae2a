"""Imports inside the package point down: `_core` knows nothing of the modules that programs import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import procession

PACKAGE = Path(procession.__file__).parent
PUBLIC = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} | {"dummy"}


def modules_of_core() -> list[Path]:
    return sorted((PACKAGE / "_core").rglob("*.py"))


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imports_of(source: str, module: str, is_package: bool) -> Iterator[str]:
    """The dotted names of what a module imports, in functions and for annotations too."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            home = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{home}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            # import_module("procession.x"), also by an f-string that begins so.
            yield from (
                part.value.rstrip(".")
                for part in ast.walk(node)
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
            )


def public_imports(source: str, module: str, is_package: bool = False) -> list[str]:
    return [
        name
        for name in imports_of(source, module, is_package)
        if name.split(".")[0] == "procession" and (name.split(".")[1:2] or ["__init__"])[0] in PUBLIC
    ]


def test_the_core_imports_no_public_module() -> None:
    """Public modules are fronts: they pass what the inside needs, or register it there."""
    upward = [
        f"{dotted(path)} imports {name}"
        for path in modules_of_core()
        for name in public_imports(path.read_text(), dotted(path), path.name == "__init__.py")
    ]
    assert upward == []


def test_an_arrow_that_points_up_is_found() -> None:
    """In every form that an import has."""
    for line in (
        "import procession.pool",
        "from procession.pool import Pool",
        "from procession import pool",
        "from ...pool import Pool",
        "from ... import pool",
        "def late():\n    from ...pool import Pool",
        "if TYPE_CHECKING:\n    from ...pool import Pool",
        "import_module('procession.pool')",
    ):
        assert public_imports(line, "procession._core.pool.results") == ["procession.pool"] or public_imports(
            line, "procession._core.pool.results"
        ) == ["procession.pool.Pool"], line
    for line in ("from ..pool import results", "from . import pool", "from ... import _native"):
        assert public_imports(line, "procession._core.fallback.pool") == [], line


def test_the_folders_of_the_core_are_in_no_circle() -> None:
    """A folder may be read without those that use it."""
    uses: dict[str, set[str]] = {}
    for path in modules_of_core():
        folder = path.parent.name
        for name in imports_of(path.read_text(), dotted(path), path.name == "__init__.py"):
            parts = name.split(".")
            if parts[:2] == ["procession", "_core"] and len(parts) > 2:
                other = parts[2] if (PACKAGE / "_core" / parts[2]).is_dir() else "_core"
                uses.setdefault(folder, set()).add(other)
    uses = {folder: others - {folder, "_core"} for folder, others in uses.items() if folder != "_core"}
    while uses:
        ends = {folder for folder, others in uses.items() if not others & uses.keys()}
        assert ends, f"these folders import each other: {uses}"
        uses = {folder: others for folder, others in uses.items() if folder not in ends}
