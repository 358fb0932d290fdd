import hashlib
import json
import mmap
import multiprocessing
import shutil
from collections import Counter
from typing import Any

import numpy as np
import orjson
import pytest

from doodlelib import strokes
from doodlelib.data import dataset, sample
from doodlelib.data.dataset import (
    default_words,
    load_split,
    prepare,
    read,
    read_store,
    sample_store,
    split_of,
)
from doodlelib.simplify import simplify

WORDS = ["cat", "car"]


def write_mirror(folder, kind="raw", count=300, words=WORDS, bad=()):
    """A mirror of made drawings; untimed ones for the simplified files."""
    (folder / "full" / kind).mkdir(parents=True, exist_ok=True)
    for word in words:
        lines = [record.to_json() for record in sample.make_drawings(word, n=count, seed=3)]
        for record in lines if kind == "simplified" else []:
            record["drawing"] = [stroke[:2] for stroke in record["drawing"]]
        rows = [orjson.dumps(record) for record in lines] + list(bad)
        (folder / "full" / kind / f"{word}.ndjson").write_bytes(b"\n".join(rows) + b"\n")
    return folder.as_uri()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirror")
    write_mirror(folder, "simplified")
    return write_mirror(folder)


@pytest.fixture(scope="module")
def store(url, tmp_path_factory):
    return make(tmp_path_factory.mktemp("stores") / "store", url)


def make(out, url, **options):
    settings: dict[str, Any] = {
        "words": WORDS,
        "source": "raw",
        "samples_per_class": 300,
        "base_url": url,
    }
    return prepare(out, progress=False, **(settings | options))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def ids(split):
    return {split.key_id(index) for index in range(len(split))}


def all_ids(folder):
    return {name: ids(load_split(folder, name)) for name in ("train", "valid", "test")}


def test_each_drawing_is_stored_simplified_under_its_word(store):
    made = {r.key_id: r for word in WORDS for r in sample.make_drawings(word, n=300, seed=3)}
    seen = 0
    for name in ("train", "valid", "test"):
        split = load_split(store, name)
        assert split.classes == tuple(WORDS)
        assert split.timed.all()
        assert split.lengths.sum() == len(split.points)
        for index in range(len(split)):
            record = made[split.key_id(index)]
            expected = strokes.to_stroke4(simplify(record.drawing))
            assert np.array_equal(split[index], expected.astype(np.float32))
            assert split.word(index) == record.word
        seen += len(split)
    assert seen == len(made) == 600
    drawing = load_split(store, "train").drawing(-1)
    assert strokes.is_timed(drawing)
    assert (drawing[0][0][0], drawing[0][2][0]) == (0, 0)
    with pytest.raises(IndexError):
        split[len(split)]


def test_scale_is_that_of_the_moves_of_train(store):
    split = load_split(store, "valid")
    train = load_split(store, "train")
    rows = np.concatenate([train[n][1:] for n in range(len(train))]).astype(np.float64)
    log_dt = np.log(np.maximum(rows[:, 2], 1))
    segment, pause = log_dt[rows[:, 3] == 1], log_dt[rows[:, 3] == 0]
    expected = [rows[:, :2].std(), segment.mean(), segment.std(), pause.mean(), pause.std()]
    found = [getattr(split.scale, name) for name in split.scale.__dataclass_fields__]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert split.scale == train.scale


def test_the_files_are_npy(store):
    split = load_split(store, "train")
    for name in ("points", "offsets", "words", "timed", "ids"):
        array = np.load(store / f"train.{name}.npy")
        assert array.dtype == getattr(split, name).dtype
        assert np.array_equal(array, getattr(split, name))
        assert not getattr(split, name).flags.writeable


def test_an_old_store_is_refused_with_advice_and_replaced(store, url, tmp_path):
    old = tmp_path / "s"
    old.mkdir()
    for name in ("train", "valid", "test"):
        (old / f"{name}.safetensors").write_bytes(b"old")
    described = json.loads((store / "store.json").read_bytes()) | {"format_version": 1}
    (old / "store.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match=r"format 1, not 2; prepare the store again"):
        load_split(old)
    assert contents(make(old, url)) == contents(store)


def test_store_json_says_what_was_kept_dropped_and_how(url, tmp_path):
    bad = [b'{"broken', b'{"word":"cat","recognized":false,"drawing":[[[1,2],[1,2],[0,90]]]}']
    out = make(tmp_path / "s", write_mirror(tmp_path, bad=bad), samples_per_class=None)
    store = read_store(out)
    assert sum(store["kept"]["cat"].values()) == 300
    assert store["dropped"]["car"] == {"not JSON": 1, "not recognised": 1}
    assert store["settings"]["epsilon_time"] == 8.0
    assert store["settings"]["sources"][0]["kind"] == "raw"
    assert set(store["versions"]) >= {"doodlelib", "numpy"}


def test_same_drawings_and_settings_give_the_same_bytes(store, url, tmp_path):
    assert contents(make(tmp_path / "other", url)) == contents(store)


@pytest.mark.parametrize("limit", [None, 250])
def test_the_bytes_do_not_depend_on_the_number_of_cores(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(dataset, "BATCH", 16)  # several batches at once
    bad = [b'{"broken', b'{"word":"cat","recognized":false,"drawing":[[[1,2],[1,2],[0,90]]]}']
    rows = [orjson.dumps(r.to_json()) for r in sample.make_drawings("cat", n=300, seed=3)]
    for place in range(0, 300, 7):
        rows.insert(place, bad[place % 2])
    (tmp_path / "full" / "raw").mkdir(parents=True)
    for word in WORDS:
        (tmp_path / "full" / "raw" / f"{word}.ndjson").write_bytes(b"\n".join(rows))
    stores = []
    for cores in (1, 2, 4):
        monkeypatch.setattr(dataset, "cpu_count", lambda cores=cores: cores)
        out = make(tmp_path / f"{cores}", tmp_path.as_uri(), samples_per_class=limit)
        stores.append(contents(out))
    assert stores[0] == stores[1] == stores[2]
    store = read_store(out)
    assert {sum(kept.values()) for kept in store["kept"].values()} == {limit or 300}
    places = [n for n, row in enumerate(rows) if row not in bad]
    read = rows[: places[limit - 1] + 1] if limit else rows  # and no line after the last wanted
    reasons = {"not JSON": read.count(bad[0]), "not recognised": read.count(bad[1])}
    assert store["dropped"] == {"cat": reasons, "car": reasons}


def test_an_equal_store_is_left_alone_and_another_is_replaced(url, tmp_path):
    out = make(tmp_path / "s", url)
    before = (out / "store.json").stat().st_ino
    assert make(out, url) == out
    assert (out / "store.json").stat().st_ino == before
    for change in (
        {"epsilon": 3.0},
        {"method": "rdp"},
        {"split": (0.5, 0.3, 0.2)},
        {"words": "cat"},
    ):
        make(out, url, **change)
        after = (out / "store.json").stat().st_ino
        assert after != before
        before = after
    assert contents(out) == contents(make(tmp_path / "t", url, words=["cat"]))
    assert not list(tmp_path.glob(".*.partial"))


def test_a_drawing_never_changes_sides(store, url, tmp_path):
    few = all_ids(make(tmp_path / "few", url, samples_per_class=50, words=["car"]))
    many = all_ids(store)
    assert all(few[name] <= many[name] for name in few)
    sizes = [len(many[name]) for name in ("train", "valid", "test")]
    assert sum(sizes) == 600
    np.testing.assert_allclose(np.array(sizes) / 600, (0.80, 0.19, 0.01), atol=0.05)
    sides = split_of((str(n) for n in range(20_000)), shares=(0.8, 0.19, 0.01))
    np.testing.assert_allclose(np.bincount(sides) / 20_000, (0.80, 0.19, 0.01), atol=0.01)
    assert split_of(["4597292839469056"], shares=(0.8, 0.19, 0.01)).tolist() == [0]


def test_timed_and_untimed_mix(url, tmp_path):
    out = make(tmp_path / "s", url, source=["raw", "simplified"], samples_per_class=100)
    split = load_split(out, "train")
    assert 0.4 < split.timed.mean() < 0.6
    for index in range(0, len(split), 17):
        assert np.isnan(split[index][:, 2]).all() != split.timed[index]
        assert strokes.is_timed(split.drawing(index)) == split.timed[index]
    only = load_split(make(tmp_path / "u", url, source="simplified"), "train")
    assert not only.timed.any()
    assert (only.scale.segment_mean, only.scale.segment_std) == (0, 1)


def test_the_sample_needs_no_files(tmp_path):
    out = prepare(tmp_path / "s", words=WORDS, samples_per_class=20, progress=False)
    assert sum(len(load_split(out, name)) for name in ("train", "valid", "test")) == 40
    other = prepare(tmp_path / "t", words=WORDS, samples_per_class=20, seed=1, progress=False)
    assert not ids(load_split(out, "train")) & ids(load_split(other, "train"))


def test_a_sample_that_has_changed_is_made_again(tmp_path, monkeypatch):
    options: dict[str, Any] = {"words": WORDS, "samples_per_class": 5, "progress": False}
    before = contents(prepare(tmp_path / "s", **options))
    made = sample.make_drawings
    monkeypatch.setattr(sample, "make_drawings", lambda word, n, seed=0: made(word, n, seed + 1))
    assert contents(prepare(tmp_path / "s", **options)) != before


def test_own_drawings_are_read_and_read_again_when_they_change(tmp_path):
    own = tmp_path / "mine"
    own.mkdir()
    rows = [orjson.dumps(r.to_json()) for r in sample.make_drawings("cat", n=30)]
    (own / "my robot.ndjson").write_bytes(b"\n".join(rows[:20]))
    options: dict[str, Any] = {
        "words": ["my robot"],
        "source": own,
        "samples_per_class": None,
        "progress": False,
    }
    out = prepare(tmp_path / "s", **options)
    train = load_split(out, "train")
    assert train.word(0) == "my robot"
    (own / "my robot.ndjson").write_bytes(b"\n".join(rows))
    assert len(load_split(prepare(out, **options), "train")) > len(train)
    train.points.sum()  # the old store stays readable where it is open


def test_too_few_drawings_are_a_warning_and_none_an_error(url, tmp_path):
    with pytest.warns(
        UserWarning, match=r"400 good drawings a word .* holds fewer of 1 words: 'cat' 300"
    ):
        make(tmp_path / "s", url, words=["cat"], samples_per_class=400)
    (tmp_path / "full" / "raw").mkdir(parents=True)
    (tmp_path / "full" / "raw" / "cat.ndjson").write_bytes(b"nothing\n")
    with pytest.raises(ValueError, match=r"no good drawing of 'cat'.*not JSON"):
        make(tmp_path / "t", tmp_path.as_uri(), words=["cat"])
    with pytest.raises(ValueError, match="catt"):
        make(tmp_path / "t", url, words=["catt"])
    assert not (tmp_path / "t").exists()
    assert not list(tmp_path.glob(".*.partial"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": []}, "words are"),
        ({"words": ["cat", "cat"]}, "words are"),
        ({"source": []}, "empty"),
        ({"source": "no such folder"}, "no such folder"),
        ({"source": "sample", "samples_per_class": None}, "must be a number"),
        ({"samples_per_class": 0}, "samples_per_class is 0"),
        ({"split": (0.5, 0.4, 0.3)}, "split is"),
        ({"split": (0.0, 0.5, 0.5)}, "split is"),
        ({"method": "vw"}, "method"),
        ({"epsilon": -1.0}, "epsilon"),
    ],
)
def test_settings_out_of_range_are_errors(url, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        make(tmp_path / "s", url, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_half_store_is_refused_and_made_again(store, url, tmp_path):
    half = tmp_path / "s"
    shutil.copytree(store, half)
    (half / "store.json").unlink()
    with pytest.raises(ValueError, match=r"no whole store.*prepare"):
        load_split(half)
    assert contents(make(half, url)) == contents(store)


def test_damaged_files_are_errors_and_made_again(store, url, tmp_path):
    broken = tmp_path / "s"
    whole = contents(store)
    for name, data in [
        ("train.points.npy", whole["train.points.npy"][:-4]),
        ("train.points.npy", whole["train.points.npy"][:5]),
        ("train.points.npy", b""),
        ("train.points.npy", b"\xff" * len(whole["train.points.npy"])),
        ("train.points.npy", whole["train.points.npy"].replace(b"<f4", b"<i4")),
        ("train.timed.npy", whole["valid.timed.npy"]),
        ("store.json", whole["store.json"][:100]),
        ("store.json", b"[]"),
        ("store.json", whole["store.json"].replace(b'"format_version": 2', b'"format_version": 9')),
    ]:
        shutil.copytree(store, broken, dirs_exist_ok=True)
        (broken / name).write_bytes(data)
        with pytest.raises(ValueError, match="prepare"):
            load_split(broken, "train")
    assert contents(make(broken, url)) == whole
    with pytest.raises(ValueError, match="'dev'"):
        load_split(broken, "dev")


def test_a_folder_with_other_files_is_never_replaced(url, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        make(tmp_path, url)
    with pytest.raises(ValueError, match="is a file"):
        make(tmp_path / "thesis.txt", url)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("epsilons", [(2.0, 2.0), (2.0, 3.0)])
def test_processes_that_prepare_at_once_leave_one_whole_store(url, tmp_path, epsilons):
    out = tmp_path / "s"
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=make, args=(out, url), kwargs={"epsilon": epsilon})
        for epsilon in epsilons
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    last = json.loads((out / "store.json").read_bytes())["settings"]["epsilon"]
    assert contents(out) == contents(make(tmp_path / "t", url, epsilon=last))
    assert {path.name for path in tmp_path.iterdir()} == {"s", "t", ".s.lock", ".t.lock"}


def test_long_ids_are_kept_apart(tmp_path):
    record = sample.make_drawings("cat", n=1)[0].to_json()
    rows = [orjson.dumps(record | {"key_id": "ü" * 40 + str(n)}) for n in range(50)]
    (tmp_path / "full" / "raw").mkdir(parents=True)
    (tmp_path / "full" / "raw" / "cat.ndjson").write_bytes(b"\n".join(rows))
    out = make(tmp_path / "s", tmp_path.as_uri(), words=["cat"], samples_per_class=None)
    digest = hashlib.blake2b(("ü" * 40 + "0").encode(), digest_size=20).hexdigest()
    found = set().union(*all_ids(out).values())
    assert len(found) == 50
    assert f"long-{digest}" in found


def test_nothing_is_read_before_it_is_used(store):
    for array in vars(load_split(store, "train")).values():
        while isinstance(array, np.ndarray):
            array = array.base
            assert array is not None, "the array owns its memory"
        assert isinstance(array, mmap.mmap | tuple | strokes.Scale)


def test_the_mirror_is_prepared(mirror, tmp_path):
    out = make(tmp_path / "s", mirror, words=["cat", "The Eiffel Tower"], samples_per_class=10)
    split = load_split(out, "train")
    assert Counter(map(split.word, range(len(split)))).keys() == {"cat", "The Eiffel Tower"}
    assert split.lengths.min() > 0
    corners = np.concatenate([np.cumsum(split[n][:, :2], axis=0) for n in range(len(split))])
    assert np.abs(corners).max() <= strokes.BOX * 1.001


def test_sources_are_read_as_a_store_would_take_them(url, tmp_path):
    dropped = Counter()
    both = list(read(WORDS, ["sample", "raw"], limit=7, base_url=url, seed=2, dropped=dropped))
    assert [record.word for record in both] == ["cat"] * 14 + ["car"] * 14
    assert both[0].to_json() == sample.make_drawings("cat", 1, seed=2)[0].to_json()
    assert not dropped
    with pytest.raises(ValueError, match="no end"):
        list(read("cat"))
    assert default_words("raw") == default_words(["sample", "raw"]) == list(sample.WORDS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "robot.ndjson").write_bytes(orjson.dumps(both[0].to_json()))
    assert default_words([tmp_path / "mine", "raw"]) == ["robot"]
    assert [record.word for record in read("robot", tmp_path / "mine")] == ["robot"]
    with pytest.raises(ValueError, match="no such folder"):
        default_words("no such folder")


def test_own_files_without_a_good_drawing_are_refused_with_the_reasons(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "cat.ndjson").write_bytes(b'{"word": "cat", "drawing": "?"}\n' * 2)
    reasons = r"dropped: \{'wrong types or keys': 2\}"
    with pytest.raises(ValueError, match=f"no good drawing of 'cat'; {reasons}"):
        list(read(["cat"], folder, limit=5))
    with pytest.raises(ValueError, match=f"no good drawing of 'cat'; {reasons}"):
        prepare(tmp_path / "store", words="cat", source=folder)
    with pytest.raises(ValueError, match=f"no good drawing in .*mine.*; {reasons}"):
        default_words(folder)


def test_a_store_of_untimed_drawings_knows_no_time(tmp_path, url, store):
    out = make(tmp_path / "store", url, source="simplified", samples_per_class=30)
    assert not load_split(out).scale.knows_time
    assert load_split(store).scale.knows_time


def test_the_sample_store_is_made_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "WORDS", {"star": sample.WORDS["star"]})
    out = sample_store(tmp_path / "s")
    assert read_store(out)["words"] == ["star"]
    before = (out / "store.json").stat().st_ino
    assert (sample_store(out) / "store.json").stat().st_ino == before


def test_a_split_says_who_made_its_drawings(tmp_path):
    lines = [record.to_json() for record in sample.make_drawings("cat", 9)]
    lines = [orjson.dumps(line | {"key_id": f"{n}"}) for n, line in enumerate(lines)]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "cat.ndjson").write_bytes(b"\n".join(lines))
    for source, who in [
        ("sample", "made by a program"),
        (tmp_path / "mine", "made by people"),
        (["sample", tmp_path / "mine"], "made by people and by a program"),
    ]:
        prepare(tmp_path / who, words="cat", source=source, samples_per_class=9)
        assert load_split(tmp_path / who, "train").origin == who
