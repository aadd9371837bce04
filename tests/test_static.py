"""What the source of the package must not contain, and what it must."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import spikewright

ROOT = Path(spikewright.__file__).parent
FILES = {str(p.relative_to(ROOT)): ast.parse(p.read_text()) for p in sorted(ROOT.rglob("*.py"))}
MODULES = {("spikewright." + name[:-3].replace("/", ".")).removesuffix(".__init__"): tree for name, tree in FILES.items()}

FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}
FORBIDDEN_NAMES = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {"extractall"}
FORBIDDEN_ARGUMENTS = {("shell", True), ("allow_pickle", True), ("weights_only", False)}
FORBIDDEN_CALLS = {"torch.load", "torch.save", "os.system", "os.popen", "torch.hub.load", "numpy.load", "np.load"}
NP_LOAD = {"np.load", "numpy.load"}  # reads .npz: allowed with allow_pickle=False written out


def dotted(node):
    parts = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    return ".".join([node.id, *parts]) if isinstance(node, ast.Name) else ""


def imported(tree, module=""):
    """Absolute names of the modules a file imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".") if f"{module.replace('.', '/')}/__init__.py" in INITS else module.split(".")[:-1]
                base = ".".join([*package[: len(package) - node.level + 1], base]).rstrip(".")
            yield base
            yield from (f"{base}.{a.name}" for a in node.names)


INITS = {f"spikewright/{name}" for name in FILES}


def hits(tree):
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"{node.lineno}: assert")
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{node.lineno}: import {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        arguments = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if name in FORBIDDEN_NAMES or (name in FORBIDDEN_CALLS and not (name in NP_LOAD and arguments.get("allow_pickle") is False)):
            found.append(f"{node.lineno}: {name}(")
        if isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_METHODS:
            found.append(f"{node.lineno}: .{node.func.attr}(")
        found += [f"{node.lineno}: {a}={v}" for a, v in FORBIDDEN_ARGUMENTS if a in arguments and arguments[a] == v]
    return found


@pytest.mark.parametrize("name", FILES)
def test_nothing_runs_code_from_data_and_nothing_is_asserted(name):
    assert not hits(FILES[name])


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import yaml as y",
        "eval('1')",
        "exec(x)",
        "subprocess.run(x, shell=True)",
        "tar.extractall(p)",
        "np.load(f, allow_pickle=True)",
        "np.load(f)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "assert x",
    ],
)
def test_the_search_finds_what_it_looks_for(line):
    assert hits(ast.parse(line))


@pytest.mark.parametrize("line", ["import pickletools", "model.eval()", "np.load(f, allow_pickle=False)", "executor(x)", "re.compile(p)"])
def test_the_search_leaves_the_rest_alone(line):
    assert not hits(ast.parse(line))


# ---- rooms

CORE = ("kernels", "neurons", "encode", "readout", "surrogate", "noise", "clock", "errors")
ABOVE = ("engine", "recipes", "phases", "cli", "data", "measure", "report", "training")


def own(names):
    """The package's modules among imported names."""
    return {n for n in names if n in MODULES}


def reach(module, seen=None):
    """The package's modules that importing `module` brings in, the package's own front aside."""
    seen = set() if seen is None else seen
    for name in own(imported(MODULES[module], module)) - seen - {"spikewright"}:
        seen.add(name)
        reach(name, seen)
    return seen


@pytest.mark.parametrize("room", CORE)
def test_the_core_rooms_know_nothing_of_those_above(room):
    members = [m for m in MODULES if m.split(".")[1:2] == [room]]
    assert members
    for member in members:
        above = {m for m in reach(member) if m.split(".")[1] in ABOVE}
        assert not above, f"{member} imports {sorted(above)}"


def test_the_import_search_finds_imports():
    assert "spikewright.neurons.parts" in reach("spikewright.readout")
    assert "spikewright.storage.pair" in reach("spikewright.model_file")


# ---- docstrings


def public(tree):
    """Public functions and classes at the top of a module, with the names __all__ lists if there is one."""
    listed = None
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(dotted(t) == "__all__" for t in node.targets):
            listed = {e.value for e in ast.walk(node.value) if isinstance(e, ast.Constant)}
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name in listed if listed is not None else not node.name.startswith("_"):
                yield node


@pytest.mark.parametrize("module", MODULES)
def test_every_module_class_function_and_method_says_what_it_is(module):
    """A method may inherit its docstring, and so may a dataclass that adds nothing but fields to a documented base."""
    tree, missing = MODULES[module], []
    if tree.body and not ast.get_docstring(tree):
        missing.append("the module")
    live = importlib.import_module(module)
    for node in public(tree):
        if not ast.get_docstring(node):
            bare = isinstance(node, ast.ClassDef) and all(isinstance(n, (ast.AnnAssign, ast.Pass)) for n in node.body)
            documented = isinstance(node, ast.ClassDef) and any("\n" in (b.__doc__ or "") or " " in (b.__doc__ or "") for b in getattr(live, node.name).__mro__[1:-1])
            if not (bare and documented):
                missing.append(node.name)
        if isinstance(node, ast.ClassDef):
            kind = getattr(live, node.name)
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and method.name not in ("extra_repr", "forward", "backward"):
                    if not inspect.getdoc(inspect.getattr_static(kind, method.name)) and not inspect.getdoc(getattr(kind, method.name)):
                        missing.append(f"{node.name}.{method.name}")
    assert not missing
