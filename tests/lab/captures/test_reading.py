# SPDX-License-Identifier: GPL-2.0-only
"""Capture files that are missing, malformed, truncated or hostile: refused with a clear error, never believed."""

import copy
import io
import json
import os
import pickle
import resource
import zipfile

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from tests.lab.captures.recorder import GIB, KIB4, MIB, Run, write
from workbench.errors import WorkbenchError
from workbench.lab import captures

SPAN = "00.online.span0"


def small_run(family="6.1"):
    """Ten pages in two spans, and one of each kind of action that the replay understands."""
    run = Run(family, "k-small")
    run.boot_soft_reserved((4 * GIB, 5 * GIB))
    run.log(0x40000)
    run.empty_the_first()
    run.create_device("dax0.1", [(0x100000, 0x4000)], 2 * MIB)
    run.do("region_create", {"ok": True})
    run.do("add_range", {"ok": True, "size": 2 * MIB}, device="dax0.2", start="0x110000000", last="0x1101fffff")
    run.do("set_align", {"ok": True}, device="dax0.2", align=KIB4)
    run.devices["dax0.2"] = ([(0x110000, 512)], KIB4)
    run.bind("dax0.2")
    run.map("dax0.1")
    run.state("online", [(0x100000, 8), (0x13FFFE, 2)])
    run.unbind("dax0.1")
    run.resize("dax0.1", [(0x100000, 0x200)])
    run.resize("dax0.1", [], told=False, op="set_size")
    run.do("delete_device", {"ok": True}, device="dax0.1")
    run.observe_devices("dax0.2", removed=["dax0.1"])
    run.do("create_device", {"ok": False, "errno": "ENOSPC"}, size=GIB, align=GIB)
    run.state("later", [(0x100000, 8)], note="a remark")
    return run


def read(folder):
    return captures.read(folder)


def refusal(folder):
    """The message with which a run is refused: one line, not long, that names the file."""
    with pytest.raises(WorkbenchError) as caught:
        captures.verify(captures.read(folder))
    message = str(caught.value)
    assert len(message) < 600
    assert message.isprintable()
    return message


@pytest.fixture
def folder(tmp_path):
    return small_run().write(tmp_path)


def change_json(folder, change):
    path = folder / "capture.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_the_run_is_sound_to_begin_with(folder):
    report = captures.verify(read(folder))
    assert [state.status for state in report.states] == ["equal", "equal"]


# where the files are


def test_find_takes_a_run_a_folder_of_runs_and_several(tmp_path):
    runs = [small_run().write(tmp_path / name) for name in "ab"]
    assert captures.find([runs[0]]) == [runs[0]]
    assert captures.find([tmp_path / "a", tmp_path / "b"]) == runs
    assert captures.find([runs[1], tmp_path / "a"]) == [runs[1], runs[0]]


@pytest.mark.parametrize("where", ["nowhere", "empty"])
def test_find_refuses_a_path_without_runs(where, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match=f"no capture.json in .*{where}"):
        captures.find([tmp_path / where])


def test_find_takes_plain_files_alone(tmp_path):
    """A pipe would hang whoever reads it."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "capture.json")
    (tmp_path / "folder" / "capture.json").mkdir(parents=True)
    with pytest.raises(WorkbenchError, match="no capture.json"):
        captures.find([tmp_path])
    assert "is missing" in refusal(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["capture.json", "pages.npz"])
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    assert f"{name} is missing" in refusal(folder)
    os.mkfifo(folder / name)
    assert f"{name} is missing" in refusal(folder)


@pytest.mark.parametrize("name", ["capture.json", "pages.npz"])
def test_a_file_that_cannot_be_read_is_named(name, folder, monkeypatch):
    real_open = io.open

    def no_permission(path, *args, **kwargs):
        if str(path).endswith(name):
            raise PermissionError(13, "Permission denied")
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr("io.open", no_permission)
    monkeypatch.setattr("builtins.open", no_permission)
    assert f"{name} cannot be read (Permission denied)" in refusal(folder)


# capture.json


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"{",
        b"nonsense",
        b"\xff\xfe\xff",
        b'{"format": NaN}',
        b'{"format": 2, "kind": "pages"',
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"format": ' + b"9" * 100_000 + b"}",
    ],
    ids=lambda content: repr(content[:12]),
)
def test_what_is_not_json_is_refused(content, folder):
    (folder / "capture.json").write_bytes(content)
    assert "capture.json is not JSON" in refusal(folder)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"text"'])
def test_json_that_is_no_object_is_refused(content, folder):
    (folder / "capture.json").write_text(content)
    assert "is no JSON object" in refusal(folder)


def test_a_huge_file_is_refused_before_it_is_read(folder):
    for name in ("capture.json", "pages.npz"):
        small = (folder / name).read_bytes()
        with (folder / name).open("wb") as file:
            file.truncate(1 << 40)
        assert f"{name} is larger than" in refusal(folder)
        (folder / name).write_bytes(small)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], 3, "format 3"),
        (["format"], "2", "format '2'"),
        (["kind"], "movie", "kind 'movie'"),
        (["kind"], ["pages"], "kind"),
        (["kind"], "errors", "no cases"),
        (["kind"], "boot", "no actions"),
        (["name"], "x" * 201, "short line"),
        (["name"], "a\x1b[2Jb", "short line"),
        (["kernel"], [], "kernel"),
        (["kernel", "family"], "4.19", "no layout for kernel family '4.19'"),
        (["kernel", "family"], None, "family None"),
        (["page_flags"], [], "page_flags"),
        (["page_flags", "head"], 64, "names to bits"),
        (["page_flags", "head"], True, "head True"),
        (["page_flags", "head"], 40, "no known configuration of 6.1; they differ from the usual ones in head"),
        (["page_flags", "new"], 25, "no known configuration of 6.1; they differ from the usual ones in new"),
        (["page_flags", "x\n"], 3, "names to bits"),
        (["page_flag_layout", "node_bits"], 10**30, "outside a word"),
        (["page_flag_layout", "node_bits"], -1, "outside a word"),
        (["page_flag_layout", "node_bits"], "10", "node_bits '10'"),
        (["page_flag_layout", "node_bits"], 9, "NODE and ZONE"),
        (["page_flag_layout", "zone_shift"], 50, "NODE and ZONE"),
        (["page_flag_layout", "zone_bits"], 4, "NODE and ZONE"),
        (["page_flag_layout", "last_cpupid_shift"], 45, "LAST_CPUPID"),
        (["page_flag_layout", "last_cpupid_shift"], 3, "LAST_CPUPID"),
        (["page_flag_layout", "last_cpupid_shift"], 2.5, "last_cpupid_shift 2.5"),
        (["page_flag_layout", "vmemmap_base"], "0xffffea1234000000", "vmemmap"),
        (["page_flag_layout", "vmemmap_base"], "0x" + "f" * 1_000_000, "hex number"),
        (["states"], [], "no states"),
        (["states"], {}, "states"),
        (["states", 0], None, "states[0]"),
        (["states", 0, "state"], 7, "state 7"),
        (["states", 0, "replayable"], "yes", "replayable 'yes'"),
        (["states", 0, "replayable"], 1, "replayable 1"),
        (["states", 0, "actions"], None, "actions"),
        (["states", 0, "actions", 0], [], "actions[0]"),
        (["states", 0, "actions", 0, "op"], None, "op None"),
        (["states", 0, "actions", 0, "result"], "ok", "result 'ok'"),
        (["states", 0, "actions", 0, "soft_reserved"], {}, "soft_reserved"),
        (["states", 0, "actions", 0, "soft_reserved", 0], 5, "memory"),
        (["states", 0, "actions", 0, "soft_reserved", 0, "end"], "0x0", "soft_reserved"),
        (["states", 0, "actions", 0, "soft_reserved", 0, "end"], "0xffffffffffffffff", "soft_reserved"),
        (["trailing_actions"], {}, "trailing_actions {}"),
        (["trailing_actions"], None, "trailing_actions None"),
        (["trailing_actions"], [5], "trailing_actions[0] is 5"),
        (["trailing_actions"], [{"op": "bind", "result": {"ok": True}}], "bind has no device"),
        (["states", 0, "spans"], 4, "spans"),
        (["states", 0, "spans", 0], "span", "spans"),
        (["states", 0, "spans", 0, "pfn"], 0x100000, "pfn"),
        (["states", 0, "spans", 0, "pfn"], "100000", "hex number"),
        (["states", 0, "spans", 0, "pfn"], "-0x1", "hex number"),
        (["states", 0, "spans", 0, "pfn"], "0x1_0", "hex number"),
        (["states", 0, "spans", 0, "pfn"], "0x400000000", "beyond 64 TiB"),
        (["states", 0, "spans", 0, "pfn"], "0x3ffffffff", "beyond 64 TiB"),
        (["states", 0, "spans", 0, "nr_pages"], 0, "nr_pages 0"),
        (["states", 0, "spans", 0, "nr_pages"], -8, "nr_pages -8"),
        (["states", 0, "spans", 0, "nr_pages"], 8.0, "nr_pages 8.0"),
        (["states", 0, "spans", 0, "nr_pages"], True, "nr_pages True"),
        (["states", 0, "spans", 0, "nr_pages"], 1 << 70, "nr_pages"),
        (["states", 0, "spans", 0, "nr_pages"], 1 << 34, "spans or 128 MiB"),
        (["states", 0, "spans", 0, "nr_pages"], 9, "not uint64[9, 8]"),
        (["states", 0, "spans", 0, "mapped"], 1, "mapped 1"),
        (["states", 0, "spans", 0, "mapped"], None, "mapped None"),
        (["states", 0, "spans", 0, "array"], None, "array None"),
        (["states", 0, "spans", 0, "array"], "../../etc/passwd", "'../../etc/passwd'"),
        (["states", 0, "spans", 0, "array"], "01.other", "'01.other'"),
    ],
)
def test_a_wrong_value_is_refused_and_named(path, value, message, folder):
    def change(content):
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    change_json(folder, change)
    assert message in refusal(folder)


@pytest.mark.parametrize("key", ["kind", "name", "kernel", "page_flag_layout", "page_flags", "states", "format"])
def test_a_missing_member_is_refused_and_named(key, folder):
    change_json(folder, lambda content: content.pop(key))
    assert key in refusal(folder)


@pytest.mark.parametrize("key", ["replayable", "name", "group", "before", "action", "result"])
def test_a_case_without_its_members_is_refused(key, tmp_path):
    capture = small_run().capture
    case = {"name": "n", "group": "g", "replayable": True, "before": [], "action": {"op": "read"}, "result": {}}
    good = capture | {"kind": "errors", "cases": [case]}
    assert read(write(tmp_path / "good", good, {})).cases[0].name == "n"
    bad = capture | {"kind": "errors", "cases": [{k: v for k, v in case.items() if k != key}]}
    assert "cases[0]" in refusal(write(tmp_path / "bad", bad, {}))


def test_more_spans_than_a_run_can_have_are_refused(folder):
    def change(content):
        content["states"][0]["spans"] = [{"label": "s", "pfn": "0x100000", "nr_pages": 1, "mapped": False}] * 2049

    change_json(folder, change)
    assert "2,048 spans" in refusal(folder)


def test_a_run_that_binds_without_end_is_refused(folder):
    """16 TiB again and again: each time seconds of bookkeeping."""
    stores = [{"op": op, "device": "dax0.0", "result": {"ok": True}} for op in ("unbind", "bind")]

    def change(content):
        first = content["states"][0]["actions"][0]
        first["soft_reserved"] = [{"start": "0x100000000", "end": hex(17 << 40)}]
        content["states"][0]["actions"] = [first, *stores * 1000]

    change_json(folder, change)
    assert "over 4294967296 in one run" in refusal(folder)


# spans that overlap


def test_spans_that_overlap_and_agree_count_once(folder):
    capture, arrays = json.loads((folder / "capture.json").read_text()), dict(np.load(folder / "pages.npz"))
    arrays["again"] = arrays[SPAN][2:6]
    span = {"label": "again", "pfn": "0x100002", "nr_pages": 4, "mapped": True, "array": "again"}
    capture["states"][0]["spans"].append(span)
    (online, _) = captures.verify(read(write(folder, capture, arrays))).states
    assert (online.status, online.pages.pages) == ("equal", 10)


@pytest.mark.parametrize("disagree", ["a bit", "existence"])
def test_spans_that_overlap_and_disagree_are_refused(disagree, folder):
    capture, arrays = json.loads((folder / "capture.json").read_text()), dict(np.load(folder / "pages.npz"))
    span = {"label": "again", "pfn": "0x100002", "nr_pages": 4, "mapped": disagree == "a bit"}
    if span["mapped"]:
        arrays["again"] = arrays[SPAN][2:6].copy()
        arrays["again"][3, 7] ^= np.uint64(1 << 40)
        span["array"] = "again"
    capture["states"][0]["spans"].append(span)
    message = refusal(write(folder, capture, arrays))
    assert "disagree about pfn 0x10000" + ("5" if span["mapped"] else "2") in message


# pages.npz


def npy(array=None, **save):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.zeros((8, 8), np.uint64) if array is None else array, **save)
    return file.getvalue()


def replace_array(folder, content, method=zipfile.ZIP_DEFLATED, name=SPAN):
    """The archive with one of its arrays replaced by other bytes."""
    with zipfile.ZipFile(folder / "pages.npz") as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
    files[f"{name}.npy"] = content
    with zipfile.ZipFile(folder / "pages.npz", "w") as archive:
        for file, data in files.items():
            archive.writestr(file, data, method if file == f"{name}.npy" else zipfile.ZIP_STORED)


def header(text, version=(1, 0)):
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2, "little") + text.encode() + bytes(512)


@pytest.mark.parametrize(
    "content",
    [
        npy(np.zeros((8, 8), np.int64)),
        npy(np.zeros((8, 8), ">u8")),
        npy(np.zeros((8, 8), np.float64)),
        npy(np.zeros((8, 16), np.uint32)),
        npy(np.zeros((7, 8), np.uint64)),
        npy(np.zeros((8, 7), np.uint64)),
        npy(np.zeros(64, np.uint64)),
        npy(np.zeros((8, 8, 1), np.uint64)),
        npy(np.zeros((), np.uint64)),
        npy(np.asfortranarray(np.arange(64, dtype=np.uint64).reshape(8, 8))),
        npy(version=(2, 0)),
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff",
        b"PK not an array",
        header("{'descr': '<u8', 'fortran_order': False, 'shape': (8, 8), } or __import__('os').abort()"),
        header("(" * 9000),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (8, 8), }"),
    ],
    ids=lambda content: repr(content[10:70]),
)
def test_an_array_that_is_not_the_struct_pages_is_refused(content, folder):
    replace_array(folder, content)
    assert f"'{SPAN}' that is not uint64[8, 8]" in refusal(folder)


@pytest.mark.parametrize(("content", "how"), [(npy()[:-1], "less"), (npy()[:-512], "less"), (npy() + b"\0", "more")])
def test_an_array_of_another_length_is_refused(content, how, folder):
    replace_array(folder, content)
    assert f"of {how} than its pages" in refusal(folder)


class Bomb:
    """Unpickling it would leave a trace."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (self.trace, "w"))


def test_a_pickle_is_refused_and_never_run(folder, tmp_path):
    trace = tmp_path / "trace"
    array = np.empty((8, 8), object)
    array[:] = Bomb(str(trace))
    replace_array(folder, npy(array, allow_pickle=True))
    assert "not uint64" in refusal(folder)
    replace_array(folder, pickle.dumps(Bomb(str(trace))))
    assert "not uint64" in refusal(folder)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(str(trace)))).close()
    assert trace.exists()  # the bomb is live


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "hidden"])
def test_a_zip_bomb_is_refused_and_takes_no_memory(declared, folder):
    """256 MiB of zeroes behind a good array, packed into 256 KiB; hidden: the directory tells of one byte more."""
    path, size = folder / "pages.npz", len(npy()) + 256 * MIB
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{SPAN}.npy", "w") as file:
        file.write(npy())
        for _ in range(256):
            file.write(bytes(MIB))
    if not declared:
        data = path.read_bytes()
        assert size.to_bytes(4, "little") in data
        path.write_bytes(data.replace(size.to_bytes(4, "little"), (len(npy()) + 1).to_bytes(4, "little")))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_flipped_bit_fails_the_checksum(folder):
    data = bytearray((folder / "pages.npz").read_bytes())
    data[data.index(npy()[:10]) + 128 + 77] ^= 1
    (folder / "pages.npz").write_bytes(data)
    assert "is no sound zip archive (Bad CRC" in refusal(folder)


@pytest.mark.parametrize("keep", [0, 1, 21, 100, 500, -1, -30])
def test_a_truncated_archive_is_refused(keep, folder):
    data = (folder / "pages.npz").read_bytes()
    (folder / "pages.npz").write_bytes(data[:keep])
    assert "pages.npz is no sound zip archive" in refusal(folder)


def test_an_encrypted_array_is_refused(folder):
    data = bytearray((folder / "pages.npz").read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    (folder / "pages.npz").write_bytes(data)
    assert "encrypted" in refusal(folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_array_packed_as_numpy_never_does_is_refused(method, folder):
    replace_array(folder, npy(), method)
    assert "numpy stores or deflates" in refusal(folder)


def test_deflated_arrays_are_read(folder):
    with np.load(folder / "pages.npz") as archive:
        arrays = dict(archive)
    np.savez_compressed(folder / "pages.npz", **arrays)
    assert captures.verify(read(folder)).states[0].status == "equal"


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_arrays_of_one_name_are_refused(folder):
    with zipfile.ZipFile(folder / "pages.npz", "a") as archive:
        archive.writestr(f"{SPAN}.npy", npy())
    assert "two arrays of one name" in refusal(folder)


def test_names_that_look_like_paths_lead_nowhere(folder):
    with zipfile.ZipFile(folder / "pages.npz", "a") as archive:
        for name in ("../../evil.npy", "/evil.npy", "a/../evil.npy"):
            archive.writestr(name, npy())
    files = sorted(folder.parent.rglob("*"))
    assert captures.verify(read(folder)).states[0].status == "equal"
    assert sorted(folder.parent.rglob("*")) == files


# anything at any place

NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([1 << 31, 1 << 34, 1 << 63, 1 << 64, 10**40, -(1 << 63), 4096, 2 << 20, 1 << 30, 2 << 30]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["0x0", "0x100000", "0x100000000", "0xffffffffffffffff", "0x3ffffffff", "dax0.0", "dax0.1", "ok"]),
    st.sampled_from(["boot", "bind", "unbind", "create_device", "touch", "observe", "create_namespace", "mmap"]),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["ok", "errno", "device", "ranges", "killed"]), st.booleans(), max_size=2),
)


def places(value, path=()):
    """Paths to every value in a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(data, document):
    """Replace, drop, double or move something."""
    path = data.draw(st.sampled_from(list(places(document))))
    holder = document
    for step in path[:-1]:
        holder = holder[step]
    kind = data.draw(st.sampled_from(["replace", "drop", "double", "swap"]))
    note(f"{kind} at {path}")
    if kind == "replace":
        holder[path[-1]] = data.draw(NASTY)
    elif kind == "drop":
        del holder[path[-1]]
    elif isinstance(holder, list):
        other = data.draw(st.integers(0, len(holder) - 1))
        if kind == "double":
            holder.insert(other, copy.deepcopy(holder[path[-1]]))
        else:
            holder[path[-1]], holder[other] = holder[other], holder[path[-1]]


def namespace_run():
    run = Run("5.17", "k-static")
    run.boot_persistent((5 * GIB, 6 * GIB))
    data, end = run.create_namespace(64 * MIB, 2 * MIB, "dev")
    run.state("online", [(5 << 18, 8), (data, 8), (end - 8, 8)])
    return run


def other_runs():
    """Small runs of each kind as (capture, arrays)."""
    case = {"name": "n", "group": "g", "replayable": True, "before": [{"op": "wait"}], "action": {"op": "bind"}}
    for run in (small_run(), namespace_run()):
        yield run.capture, run.arrays
    capture = {key: value for key, value in small_run().capture.items() if key != "states"}
    yield capture | {"kind": "errors", "cases": [case | {"result": {"errno": "EINVAL"}}]}, {}
    yield capture | {"kind": "boot", "actions": [{"op": "boot", "result": {"devices": []}}]}, {}


@settings(max_examples=150)
@given(run=st.sampled_from(list(other_runs())), data=st.data())
def test_anything_at_any_place_is_verified_or_refused(run, data, tmp_path_factory):
    capture, arrays = copy.deepcopy(run[0]), run[1]
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(data, capture)
    folder = write(tmp_path_factory.mktemp("run"), capture, arrays)
    try:
        report = captures.verify(captures.read(folder))
    except WorkbenchError as refused:
        assert len(str(refused)) < 1000
        return
    json.dumps(captures.as_json([report]), allow_nan=False)
    assert all(line.isprintable() for line in captures.as_text([report]))


@settings(max_examples=80)
@given(data=st.data())
def test_any_damage_to_the_archive_is_verified_or_refused(data, tmp_path_factory):
    folder = small_run().write(tmp_path_factory.mktemp("run"))
    content = bytearray((folder / "pages.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        cut = data.draw(st.integers(0, 3))
        content[at : at + cut] = data.draw(st.binary(max_size=3))
    (folder / "pages.npz").write_bytes(content)
    try:
        captures.verify(captures.read(folder))
    except WorkbenchError as refused:
        assert len(str(refused)) < 1000
