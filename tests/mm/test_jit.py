# SPDX-License-Identifier: GPL-2.0-only
"""How kernels are compiled: integers only, nothing left of an absent listener, a cache that notices changes.

And the other two of the three tests for each kernel: the same tests with bounds checks and with the JIT off.
"""

import builtins
import importlib
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numpy as np
import pytest
from numba import njit, types
from numba.core.dispatcher import Dispatcher

import workbench.dax
import workbench.mm
from tests.mm import pinning
from tests.mm.support import KERNELS, PGMAP, needs_jit, over, struct_pages
from workbench.machine import Machine
from workbench.mm import _jit, gup_fast, gup_users, memmap, memremap, page_alloc, page_lanes
from workbench.mm.events import Access, Site, count, events, note_load, note_store
from workbench.mm.mmap import Prot
from workbench.mm.page_counts import PageCounts
from workbench.mm.page_lanes import Layer
from workbench.mm.page_ref import Foll

ROOT = Path(__file__).parents[2]


def python(code, tmp_path, **environment):
    """Run ``code`` in a process of its own, from the checkout, with an empty cache unless told otherwise."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=inherited | {"XDG_CACHE_HOME": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# -- every compiled signature ------------------------------------------------------------------------------


def dispatchers():
    """Every compiled function of the engine, by module and name."""
    found = {}
    for module in (
        m
        for package in (workbench.mm, workbench.dax)
        for m in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    ):
        loaded = importlib.import_module(module.name)
        for name, thing in vars(loaded).items():
            if isinstance(thing, Dispatcher) and thing.py_func.__module__ == loaded.__name__:
                found[f"{module.name.removeprefix('workbench.')}.{name}"] = thing
    return found


def exercise():
    """Call every kernel with nobody, a counter and a log listening."""
    k, L = KERNELS["5.17"]
    zone, nid, pgmap, word = np.uint64(L.zone_device), np.uint64(0), np.uint64(PGMAP), np.uint64(0)
    for ev in (None, events(512), events(512, 10_000)):
        vm = over(k, struct_pages(512))
        page_alloc.memmap_init_range(vm, 0, 2, zone, nid, 0, 512, ev)
        page_alloc.memmap_init_zone_device(vm, 0, 512, zone, nid, pgmap, 9, False, 0, 512, ev)
        page_alloc.prep_compound_page(vm, 0, 9, ev)
        memremap.put_pages(vm, 0, 512, 9, ev)
        memremap.put_each(vm, 0, 512, 1, True, ev)
        memmap.load(vm, 0, 0, ev)
        memmap.read_once(vm, 0, 0, ev)
        count(ev, 0)
        note_load(ev, 0)
        note_store(ev, 0, 0, word, word, Site.SetPageHead, Access.PLAIN)
    page_alloc.memmap_init_zone_device_nt(vm, 0, 512, zone, nid, pgmap, 9, False, 0, 512)
    one = np.array([512], np.int64)
    table = memremap.PgmapArray(one, one, one - 512, one, one, one, one.astype(np.uint8))
    assert memremap.range_with(table, 511) == -1
    memremap.put_dev_pagemap(table, memremap.get_dev_pagemap(table, 512, -1))
    array = pinning.Pinning("5.17", "2M", 4).array
    counts = PageCounts(array)
    counts.counts(Layer.roles, np.array([array.start_pfn, array.start_pfn + 3, array.end_pfn]))
    rules = page_lanes.rules(array.kernel.abi)
    page_lanes.roles_of_rows(array.view(array.start_pfn, 512), array.start_pfn, rules, np.zeros(512, np.uint8))
    for align in (1 << 12, 1 << 21):
        for listener in (None, events(1 << 15), events(1 << 15, 100_000)):
            exercise_process(align, listener)


def exercise_process(align, ev):
    """Faults, pins and releases on a machine, every kernel of theirs, with ``ev`` listening."""
    machine = Machine("5.17", persistent_memory=[(1 << 32, (1 << 32) + (32768 << 12))])
    device = machine.create_namespace(None, align, "mem")
    machine.inode(device.name).events = ev
    process, gup = machine.process(), machine.gup
    file = process.open(device.name)
    addr = process.mmap(file, 4 << 21)
    process.touch(addr, 4, 1 << 21, True)
    for take in (gup.pin_user_pages_fast, gup.get_user_pages_fast, gup.pin_user_pages, gup.get_user_pages):
        held = take(process.mm, addr, 4, Foll.WRITE, ev)
        if held.pins:
            assert gup_fast.first_not_pinned(gup.vm, gup.refs, held.pfns) == -1
            gup.unpin_user_pages(held.pfns, True, ev)
        else:
            gup.put_pages(held.pfns, ev)
    pinned = gup.pin_user_pages(process.mm, addr, 4, Foll.WRITE, ev)
    gup.unpin_user_page_range(int(pinned.pfns[0]), 4, True, ev)
    gup_users.read_into(gup, process.mm, addr, 4096)
    pages = np.empty(4, np.int64)
    seq = process.mm.write_protect_seq
    gup_fast.gup_fast_calls(gup.vm, gup.refs, gup.own_pgmaps(), process.mm.pt, seq, addr, 4, 2, Foll.PIN, pages, ev)
    gup.unpin_user_pages(pages)
    process.mprotect(addr, 1 << 21, Prot.READ)
    process.pagemap(addr, 1)
    process.mm.leaves(process.mm.vmas[0])
    moved = process.mremap(addr + (1 << 21), 3 << 21, 64 << 21)
    process.munmap(moved, 1 << 21)
    process.mm.walk(addr)
    machine.get_user_pages_fast(process, moved + (1 << 21))
    pinning.exercise([lambda nr_pages: None, events, lambda nr_pages: events(nr_pages, 10_000)])


def holds_float(kind):
    """Whether a numba type is or contains a floating point number."""
    if isinstance(kind, (types.Float, types.Complex)):
        return True
    if isinstance(kind, types.Array):
        return holds_float(kind.dtype)
    if isinstance(kind, types.BaseTuple):
        return any(holds_float(part) for part in kind)
    if isinstance(kind, types.Optional):
        return holds_float(kind.type)
    return False


def report():
    """What a process with an empty cache compiled, as JSON: for each function and signature what is in it."""
    exercise()
    told = {}
    for name, function in dispatchers().items():
        # What Python calls, and the bare versions that other kernels call.
        versions = [(d, signature) for d in (function, function._bare) for signature in d.signatures]
        for dispatcher, signature in versions:
            compiled = dispatcher.overloads[signature]
            variables = compiled.type_annotation.typemap
            code = dispatcher.inspect_llvm(signature)
            told.setdefault(name, []).append(
                {
                    "signature": str(signature),
                    "variables": len(variables),
                    "floats": [variable for variable, kind in variables.items() if holds_float(kind)],
                    "returns_float": holds_float(compiled.signature.return_type),
                    "listens": any("Events" in str(argument) for argument in signature),
                    "mentions_events": "Events" in code,
                }
            )
    return told


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    code = "import json; from tests.mm.test_jit import report; print(json.dumps(report()))"
    return json.loads(python(code, tmp_path_factory.mktemp("cache")))


@needs_jit
@pytest.mark.slow
def test_every_kernel_was_compiled(compiled):
    assert set(compiled) == set(dispatchers())


@needs_jit
@pytest.mark.slow
def test_no_float_in_any_compiled_signature(compiled):
    """uint64 and int64 meet somewhere: numba would make int64 or float64 of them, silently."""
    looked_at = 0
    for name, forms in compiled.items():
        for form in forms:
            assert not form["floats"], f"{name}{form['signature']}"
            assert not form["returns_float"], f"{name}{form['signature']}"
            looked_at += form["variables"]
    assert looked_at > 500


def test_a_float_would_be_found():
    @njit
    def mixed(a, b):
        c = a / b
        return np.uint64(c)

    mixed(np.uint64(1), np.int64(2))
    for form in getattr(mixed, "overloads", {}).values():
        assert any(holds_float(kind) for kind in form.type_annotation.typemap.values())
    assert holds_float(types.float32)
    assert holds_float(types.Array(types.float64, 1, "C"))
    assert holds_float(types.UniTuple(types.float64, 2))
    assert not holds_float(types.Array(types.uint64, 2, "C"))


@needs_jit
@pytest.mark.slow
def test_without_a_listener_no_events_are_compiled_in(compiled):
    """``ev=None`` leaves code that does not know what Events are."""
    silent = listening = 0
    for name, forms in compiled.items():
        for form in forms:
            listening += form["listens"]
            silent += not form["listens"]
            assert form["mentions_events"] == form["listens"], f"{name}{form['signature']}"
    assert min(silent, listening) > 10


def store_and_say_nothing(vm, i, word, value, site, ev):
    vm.pages[i, word] = value


def store_bits_and_say_nothing(vm, i, word, mask, value, site, ev):
    vm.pages[i, word] = (vm.pages[i, word] & ~mask) | value


def load_and_say_nothing(vm, i, word, ev):
    return vm.pages[i, word]


def count_nothing(ev, counter):
    pass


DEAF = {
    memmap.store: store_and_say_nothing,
    memmap.store_bits: store_bits_and_say_nothing,
    memmap.load: load_and_say_nothing,
    count: count_nothing,
}


def rebuilt(function, others):
    """``function`` compiled here, all it calls too, with ``others`` in the place of some."""
    if function in others:
        return njit(nogil=True)(others[function])
    code, names = function.py_func.__code__, function.py_func.__globals__
    called = {name: names[name] for name in code.co_names if name in names}
    for name, thing in called.items():
        if isinstance(thing, Dispatcher):
            called[name] = rebuilt(thing, others)
    return njit(nogil=True)(FunctionType(code, called | {"__name__": __name__, "__builtins__": builtins}))


@needs_jit
def test_without_a_listener_the_machine_code_is_that_of_a_source_that_notes_nothing():
    """Instruction by instruction; with a listener it is not, so there is something that could be left over."""
    k, L = KERNELS["5.17"]
    arguments = (over(k, struct_pages(4)), 0, np.uint64(L.zone_device), np.uint64(0), np.uint64(PGMAP))

    def instructions(others, ev):
        function = rebuilt(page_alloc.__init_zone_device_page, others)
        function(*arguments, ev)
        (text,) = function.inspect_asm().values()
        return re.findall(r"^\t([a-z]\w*)", text, re.MULTILINE)

    silent = instructions({}, None)
    assert len(silent) > 50
    assert silent == instructions(DEAF, None)
    assert len(instructions({}, events(4))) > len(silent) + 50


# -- the cache ---------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path):
    """A copy of the engine's sources."""
    for folder in ("abi", "series", "mm", "nvdimm"):
        shutil.copytree(ROOT / "workbench" / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_cache_folder_is_named_by_the_engines_sources(package):
    same = _jit._digest(ROOT / "workbench")
    assert _jit._digest(package) == same
    seen = {same}
    for source in ("mm/page_alloc.py", "mm/events.py", "abi/constants.py", "abi/layout.py", "series/tree.py"):
        path = package / source
        path.write_text(path.read_text() + "# changed\n")
        seen.add(_jit._digest(package))
    assert len(seen) == 6
    (package / "mm" / "new.py").write_text("\n# a module more\n")
    assert _jit._digest(package) not in seen
    before = _jit._digest(package)
    path = package / "nvdimm" / "pfn_devs.py"
    path.write_text(path.read_text() + "# no kernel depends on this\n")
    assert _jit._digest(package) == before


def test_bounds_checks_have_a_cache_of_their_own(monkeypatch):
    monkeypatch.setattr(_jit.config, "BOUNDSCHECK", None)
    plain = _jit._digest(ROOT / "workbench")
    monkeypatch.setattr(_jit.config, "BOUNDSCHECK", 1)
    assert _jit._digest(ROOT / "workbench") != plain


def test_where_the_cache_lies(tmp_path, monkeypatch):
    look = _jit._cache_dir.__wrapped__
    name = f"numba-{_jit._digest(ROOT / 'workbench')}"
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert look() == str(tmp_path / "xdg" / "devmap-workbench" / name)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert look() == str(tmp_path / "home" / ".cache" / "devmap-workbench" / name)
    assert Path(look()).is_dir()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "own"))
    assert look() == str(tmp_path / "own" / name)


def test_no_cache_where_none_can_be_written(tmp_path, monkeypatch):
    look = _jit._cache_dir.__wrapped__
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file / "below"))
    assert look() is None
    monkeypatch.delenv("XDG_CACHE_HOME")

    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert look() is None


ONE_PAGE = """
import numpy as np
from tests.mm.support import KERNELS, over, struct_pages
from workbench.mm import memmap
from workbench.mm._jit import _cache_dir
print(_cache_dir())
print(int(memmap.struct_page(over(KERNELS["5.17"][0], struct_pages(1)), 1)))
"""


@pytest.mark.slow
def test_kernels_run_without_a_cache(tmp_path):
    file = tmp_path / "file"
    file.touch()
    folder, address = python(ONE_PAGE, tmp_path, XDG_CACHE_HOME="", HOME=str(file)).split()
    assert folder == "None"
    assert int(address) == 0xFFFFEA0004000040


@needs_jit
@pytest.mark.slow
def test_a_second_process_takes_the_first_ones_code(tmp_path):
    folder, _ = python(ONE_PAGE, tmp_path).split()
    kept = {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.nb[ic]")}
    assert any("struct_page" in path.name for path in kept)
    assert python(ONE_PAGE, tmp_path).split()[0] == folder
    assert {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.nb[ic]")} == kept


# -- the other two of three --------------------------------------------------------------------------------

ENGINE_TESTS = [f"tests/mm/test_{name}.py" for name in ("page_alloc", "memremap", "page_array", "events", "atomics")]


@needs_jit
@pytest.mark.slow
@pytest.mark.parametrize("variable", ["NUMBA_BOUNDSCHECK", "NUMBA_DISABLE_JIT"])
def test_kernels_bounds_checked_and_as_plain_python(variable):
    """The same tests in a process of their own: out-of-bounds accesses raise, and intrinsics have plain twins."""
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", *ENGINE_TESTS],
        cwd=ROOT,
        env=os.environ | {variable: "1", "HYPOTHESIS_PROFILE": "again"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-8000:]
    passed = int(re.search(r"(\d+) passed", result.stdout)[1])
    assert passed > 600
