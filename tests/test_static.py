"""What the source of the package must not contain, and what it must."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import spikewright

ROOT = Path(spikewright.__file__).parent
FILES = {str(p.relative_to(ROOT)): ast.parse(p.read_text()) for p in sorted(ROOT.rglob("*.py"))}
MODULES = {
    ("spikewright." + name[:-3].replace("/", ".")).removesuffix(".__init__"): tree for name, tree in FILES.items()
}

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
                package = (
                    module.split(".") if f"{module.replace('.', '/')}/__init__.py" in INITS else module.split(".")[:-1]
                )
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
        if name in FORBIDDEN_NAMES or (
            name in FORBIDDEN_CALLS and not (name in NP_LOAD and arguments.get("allow_pickle") is False)
        ):
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


@pytest.mark.parametrize(
    "line", ["import pickletools", "model.eval()", "np.load(f, allow_pickle=False)", "executor(x)", "re.compile(p)"]
)
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

HOOKS = ("forward", "backward", "extra_repr")  # what torch calls; documented by the class


def public(tree):
    """Public functions and classes at the top of a module: those __all__ lists, if there is one."""
    listed = None
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(dotted(t) == "__all__" for t in node.targets):
            listed = {e.value for e in ast.walk(node.value) if isinstance(e, ast.Constant)}
    parts = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    return [n for n in parts if (not n.name.startswith("_") if listed is None else n.name in listed)]


def documented(node, kind):
    """Whether a class or function has a docstring, or is a class of nothing but fields below one that has."""
    if ast.get_docstring(node):
        return True
    bare = isinstance(node, ast.ClassDef) and all(isinstance(n, (ast.AnnAssign, ast.Pass)) for n in node.body)
    return bare and any("." in (base.__doc__ or "") for base in kind.__mro__[1:-1])


def undocumented_methods(node, kind):
    """Public methods without a docstring, of their own or inherited."""
    methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
    names = [m.name for m in methods if not m.name.startswith("_") and m.name not in HOOKS]
    return [f"{node.name}.{n}" for n in names if not inspect.getdoc(getattr(kind, n))]


@pytest.mark.parametrize("module", [m for m in MODULES if not m.endswith("__main__")])
def test_every_module_class_function_and_method_says_what_it_is(module):
    tree, live = MODULES[module], importlib.import_module(module)
    missing = ["the module"] if tree.body and not ast.get_docstring(tree) else []
    for node in public(tree):
        missing += [] if documented(node, getattr(live, node.name)) else [node.name]
        if isinstance(node, ast.ClassDef):
            missing += undocumented_methods(node, getattr(live, node.name))
    assert not missing
