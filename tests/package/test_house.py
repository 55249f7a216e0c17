"""Rules that neither ruff nor import-linter checks: sizes, docstrings, and imports inside functions."""

import ast
import configparser
import re
from pathlib import Path

import tvb_jaxfit

PACKAGE = Path(tvb_jaxfit.__file__).parent
ROOT = Path(__file__).parents[2]
MODULES = {str(path.relative_to(PACKAGE)): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in MODULES.items()}
MAX_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 12
QUESTION_WORDS = ("What", "Where", "How", "Why", "Which", "Whether", "Whose", "When", "Who")
# Imports of this package that may stand in a function, by module. They load JAX or TVB, which takes seconds, and the
# module can be used without them: the package's names, the command line's help and its first checks, tables of values.
LAZY_IMPORTS = {
    "__init__.py": {".checks.suggestions"},
    "command/main.py": {
        *(f".{name}" for name in ("cohort", "fit", "folder", "inputs", "parameters", "resume", "simulator")),
        *("..certificate.certify", "..reporting.report"),
    },
    "command/folder.py": {"..fitting.checkpoint", "..persistence.serialise", "..reporting.result_files"},
    "command/resume.py": {"..fitting.checkpoint"},
    "reporting/parameter_table.py": {"..translate.parameter_map"},
}


def _definitions(kinds):
    """(module, definition) of every function or class of some kinds."""
    return [(name, node) for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kinds)]


FUNCTIONS = _definitions((ast.FunctionDef, ast.AsyncFunctionDef))


def _n_parameters(function):
    """Number of positional and keyword parameters, without self and cls; *args and **kwargs do not count."""
    arguments = function.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def _n_lines(function):
    """Number of lines without the docstring."""
    first = function.body[0]
    n_lines = function.end_lineno - function.lineno + 1
    return n_lines if ast.get_docstring(function) is None else n_lines - (first.end_lineno - first.lineno + 1)


def _sizes(measure, most):
    return {f"{name}: {node.name}": measure(node) for name, node in FUNCTIONS if measure(node) > most}


def test_no_module_is_longer_than_400_lines():
    lengths = {name: text.count("\n") for name, text in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_function_is_longer_than_60_lines():
    assert _sizes(_n_lines, MAX_FUNCTION_LINES) == {}


def test_no_function_has_more_than_12_parameters():
    assert _sizes(_n_parameters, MAX_PARAMETERS) == {}


def test_no_docstring_begins_with_a_question_word():
    """A summary is a noun phrase or an imperative."""
    documented = [(name, tree, "module") for name, tree in TREES.items()]
    documented += [(name, node, node.name) for name, node in FUNCTIONS + _definitions(ast.ClassDef)]
    found = []
    for name, node, what in documented:
        first = (ast.get_docstring(node) or "").split()[:1]
        if first and first[0].strip("`,.:;(").capitalize() in QUESTION_WORDS:
            found.append(f"{name}: {what}: {ast.get_docstring(node).splitlines()[0]}")
    assert found == []


def test_locals_is_no_way_to_pass_options():
    calls = [(name, node) for name, node in _definitions(ast.Call) if isinstance(node.func, ast.Name)]
    assert [f"{name}:{call.lineno}" for name, call in calls if call.func.id == "locals"] == []


def _imports_of_package(function):
    """Modules of this package that a function imports, as it writes them."""
    for node in ast.walk(function):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] == "tvb_jaxfit"):
            module = "." * node.level + (node.module or "")
            # `from .. import name` imports a module of that name.
            yield from [module] if node.module else [f"{module}{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "tvb_jaxfit")


def test_imports_of_the_package_stand_at_the_top_of_a_module():
    """Those in functions would hide circles. The exceptions are listed above."""
    found = {(name, module) for name, node in FUNCTIONS for module in _imports_of_package(node)}
    allowed = {(name, module) for name, modules in LAZY_IMPORTS.items() for module in modules}
    assert sorted(found - allowed) == []
    assert sorted(allowed - found) == []


def test_the_layers_of_the_architecture_page_are_those_of_the_import_contract():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    layers = settings["importlinter:contract:layers"]["layers"].split("\n")
    page = (ROOT / "docs" / "developers" / "architecture.md").read_text()
    rows = re.findall(r"^\| \d+ \| (.*?) \|", page, re.MULTILINE)
    shown = [set(re.findall(r"`(\w+)(?:/|\.py)`", row)) for row in rows]
    assert shown == [set(layer.split(" : ")) for layer in layers if layer]
