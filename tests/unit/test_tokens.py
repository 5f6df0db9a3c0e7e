"""TokenDataset: what it gives, and what a dataset of ours can do."""

import itertools
import multiprocessing
import os
import pickle
import time

import numpy as np
import pytest
import torch
from processes import share_in_cache
from reference import assert_same
from token_writers import random_tokens, windows_of, write_llm_c, write_megatron, write_raw
from torch.utils.data import DataLoader, Subset

import penstock

T = 16
LENGTHS = (300, 7, 1000, 33)


@pytest.fixture
def tokens():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 50_257, length, dtype=np.uint16) for length in LENGTHS]


@pytest.fixture
def folder(tmp_path, tokens):
    for number, each in enumerate(tokens):
        write_raw(tmp_path / f"{number}.bin", each)
    return tmp_path


def opened(folder, **options):
    return penstock.TokenDataset(folder, **{"dtype": "uint16", "block_size": T} | options)


def test_samples_are_x_and_y_one_token_later(folder, tokens):
    dataset = opened(folder)
    x, y = dataset[0]
    assert_same(x, torch.from_numpy(tokens[0][:T].astype(np.int64)))
    assert_same(y, torch.from_numpy(tokens[0][1 : T + 1].astype(np.int64)))
    assert type(dataset[0]) is tuple


@pytest.mark.parametrize("stride", [None, 1, 3, T, T + 1, 100, 1 << 80])
def test_every_window(folder, tokens, stride):
    dataset = opened(folder, stride=stride)
    expected = windows_of(tokens, T, stride or T)
    assert len(dataset) == len(expected)
    for i, sample in enumerate(expected):
        for mine, theirs in zip(dataset[i], sample, strict=True):
            assert_same(mine, theirs)
    assert_same(dataset[-1][1], expected[-1][1])


def test_every_token_but_the_first_of_a_file_is_in_one_y(tmp_path):
    write_raw(tmp_path / "a.bin", np.arange(4 * T + 1, dtype=np.uint16))
    dataset = opened(tmp_path)
    assert torch.cat([y for _, y in dataset]).tolist() == list(range(1, 4 * T + 1))
    assert dataset.num_left_out == 0


@pytest.mark.parametrize("stride", [None, 1, 5, 40])
def test_tokens_that_fill_no_window_are_counted(folder, tokens, stride):
    dataset = opened(folder, stride=stride)
    assert dataset.num_tokens == sum(LENGTHS)
    ends = [max([0, *(at + T + 1 for at in range(0, n - T, stride or T))]) for n in LENGTHS]
    assert dataset.num_left_out == sum(LENGTHS) - sum(ends)


def test_the_schema(folder):
    dataset = opened(folder)
    assert [(f.name, f.dtype, f.shape, f.shards) for f in dataset.schema] == [
        ("x", torch.int64, (T,), 4),
        ("y", torch.int64, (T,), 4),
    ]
    assert dataset.shard_lengths.tolist() == [18, 0, 62, 2]
    assert (dataset.block_size, dataset.stride) == (T, T)
    assert "x: int64 (16,)" in repr(dataset)
    with pytest.raises(AttributeError, match="no class labels"):
        _ = dataset.targets


@pytest.mark.parametrize("dtype", ["uint16", torch.uint16, np.uint16, np.dtype("uint16"), np.dtype("<u2")])
def test_names_of_a_dtype(folder, tokens, dtype):
    assert_same(opened(folder, dtype=dtype)[0][0], windows_of(tokens, T, T)[0][0])


def test_sources(folder, tokens):
    (folder / "notes.txt").write_text("not tokens")
    expected = windows_of(tokens, T, T)
    for source in (folder, str(folder / "*.bin"), sorted(folder.glob("*.bin"))):
        assert len(opened(source)) == len(expected)
    assert_same(opened([folder / "2.bin", folder / "0.bin"])[0][0], windows_of(tokens[2:3], T, T)[0][0])
    assert len(opened(folder / "2.bin")) == 62


def test_llm_c_files_need_no_dtype(tmp_path):
    tokens = random_tokens(np.random.default_rng(1), 100, "uint32")
    write_llm_c(tmp_path / "a.bin", tokens)
    for options in ({}, {"format": "llm.c"}, {"dtype": "uint32"}):
        dataset = penstock.TokenDataset(tmp_path, block_size=T, **options)
        assert_same(dataset[2][1], windows_of([tokens], T, T)[2][1])
    as_said = penstock.TokenDataset(tmp_path, block_size=T, dtype="uint32", format="raw")
    assert as_said[0][0][0] == 20240801
    assert as_said.num_tokens == dataset.num_tokens + 256


@pytest.mark.parametrize("modes", [False, True])
def test_megatron_windows_run_through_the_ends_of_documents(tmp_path, modes):
    rng = np.random.default_rng(2)
    documents = [random_tokens(rng, length, "int32") for length in (40, 0, 5, 1, 90)]
    write_megatron(tmp_path / "corpus.bin", documents, modes=modes)
    expected = windows_of([np.concatenate(documents)], T, 4)
    for options in ({}, {"format": "megatron"}, {"dtype": torch.int32}):
        dataset = penstock.TokenDataset(tmp_path, block_size=T, stride=4, **options)
        x, y = dataset.gather(range(len(dataset)))
        assert_same(x, torch.stack([sample[0] for sample in expected]))
        assert_same(y, torch.stack([sample[1] for sample in expected]))


def test_formats_may_be_mixed(tmp_path):
    rng = np.random.default_rng(3)
    a, b, c = (random_tokens(rng, 50, "uint16") for _ in range(3))
    write_raw(tmp_path / "a.bin", a)
    write_llm_c(tmp_path / "b.bin", b)
    write_megatron(tmp_path / "c.bin", [c[:20], c[20:]])
    dataset = opened(tmp_path)
    for mine, theirs in zip(dataset, windows_of([a, b, c], T, T), strict=True):
        assert_same(mine[1], theirs[1])


@pytest.mark.parametrize("threads", [1, 4])
def test_gather_in_any_order_and_into_given_tensors(folder, tokens, restore_threads, threads):
    penstock.set_num_threads(threads)
    dataset = opened(folder, stride=1)
    expected = windows_of(tokens, T, 1)
    rows = np.random.default_rng(4).integers(-len(dataset), len(dataset), 30_000)
    out = [torch.empty(len(rows), T, dtype=torch.int64) for _ in range(2)]
    assert dataset.gather(rows, out=out) is out
    for mine, k in zip(dataset.gather(rows), (0, 1), strict=True):
        assert_same(mine, torch.stack([expected[row][k] for row in rows]))
        assert_same(mine, out[k])


def test_subsets_and_sums(folder, tokens):
    dataset = opened(folder)
    expected = windows_of(tokens, T, T)
    rows = [5, -1, 5, 70]
    x, _ = dataset.subset(rows).gather([0, 1, 2, 3])
    assert_same(x, torch.stack([expected[row][0] for row in rows]))
    both = dataset.subset([3, 4]) + opened(folder, stride=2)
    assert isinstance(both, penstock.Dataset)
    assert len(both) == 2 + len(windows_of(tokens, T, 2))
    assert_same(both[3][1], windows_of(tokens, T, 2)[1][1])
    assert dataset.subset(rows).block_size == T
    train, rest = penstock.random_split(dataset, [0.5, 0.5], seed=0)
    assert len(train) + len(rest) == len(dataset)


@pytest.mark.parametrize("change", [{"block_size": T + 1}, {"vocab_size": 60_000}])
def test_sums_that_disagree_are_refused(folder, change):
    with pytest.raises(penstock.SchemaError):
        opened(folder) + opened(folder, **change)


def test_a_sum_with_rows_of_another_kind_is_refused(folder, tmp_path):
    rows = torch.zeros(3, T, dtype=torch.int64)
    with pytest.raises(penstock.SchemaError, match=r"disagree|different kinds|different numbers"):
        opened(folder) + penstock.TensorDataset(rows, rows)


def test_a_pickle_carries_paths_and_no_data(folder, tokens):
    dataset = opened(folder, vocab_size=50_257)
    state = pickle.dumps(dataset + opened(folder, stride=1, vocab_size=50_257))
    assert len(state) < 4000
    again = pickle.loads(state)
    assert_same(again[len(dataset)][0], windows_of(tokens, T, 1)[0][0])
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint == dataset.fingerprint
    assert again.num_left_out == dataset.num_left_out
    for mine, theirs in zip(again.gather([3, 1]), dataset.gather([3, 1]), strict=True):
        assert_same(mine, theirs)
    write_raw(folder / "0.bin", np.full(LENGTHS[0], 60_000, np.uint16))
    with pytest.raises(penstock.PenstockError, match=r"0\.bin"):  # changed, or outside the vocabulary
        pickle.loads(state)[0]


def test_fingerprints_tell_datasets_apart(folder):
    options = [{}, {"block_size": T + 1}, {"stride": 5}, {"stride": 2 * T}]
    assert len({opened(folder, **each).fingerprint for each in options}) == len(options)
    assert opened(folder).fingerprint == opened(folder).fingerprint


@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "fork"), (2, "spawn")])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_standard_loader(folder, tokens, workers, start):
    context = None if start is None else multiprocessing.get_context(start)
    loader = DataLoader(opened(folder), batch_size=20, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    assert all(isinstance(batch, list) and len(batch) == 2 for batch in batches)
    expected = windows_of(tokens, T, T)
    for k in (0, 1):
        assert_same(torch.cat([batch[k] for batch in batches]), torch.stack([each[k] for each in expected]))


def test_torchs_own_subset(folder, tokens):
    loader = DataLoader(Subset(opened(folder), [9, 2]), batch_size=2)
    (x, _y) = next(iter(loader))
    expected = windows_of(tokens, T, T)
    assert_same(x, torch.stack([expected[9][0], expected[2][0]]))


def test_our_loader_shuffles_and_resumes(folder):
    dataset = opened(folder, stride=1)

    def loader():
        return penstock.DataLoader(dataset, batch_size=50, shuffle=True, seed=3)

    whole = [x for x, _ in loader()]
    assert sorted(torch.cat(whole).tolist()) == sorted(dataset.gather(range(len(dataset)))[0].tolist())
    first = loader()
    seen = [x for x, _ in itertools.islice(first, 7)]
    state = first.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    for mine, theirs in zip([*seen, *(x for x, _ in resumed)], whole, strict=True):
        assert_same(mine, theirs)


def test_samplers_of_ours(folder):
    dataset = opened(folder)
    for sampler in (
        penstock.BlockShuffleSampler(dataset, window_bytes=4096, block_bytes=1024),
        penstock.DistributedSampler(dataset, num_replicas=2, rank=1),
    ):
        loader = DataLoader(dataset, batch_sampler=penstock.BatchSampler(sampler, 8, lookahead=2))
        assert sum(len(x) for x, _ in loader) == len(sampler)


def test_a_transform(folder, tokens):
    dataset = opened(folder, transform=lambda sample: sample[0].sum())
    assert int(dataset[1]) == int(windows_of(tokens, T, T)[1][0].sum())
    assert dataset.gather([1, 2]).shape == (2,)


def test_more_than_memory_is_asked_for_ahead(folder):
    dataset = opened(folder, stride=100)
    dataset.will_need(np.array([0, 2]), np.array([2, 1]))


# --- what is wrong with a file ---------------------------------------------------------------------


def test_an_empty_file(folder):
    (folder / "5.bin").touch()
    with pytest.raises(penstock.FormatError, match=r"5\.bin: the file holds no tokens"):
        opened(folder)


def test_an_odd_byte(folder):
    with open(folder / "2.bin", "ab") as file:
        file.write(b"x")
    with pytest.raises(penstock.FormatError, match=r"2\.bin.*end of a token.*1 byte"):
        opened(folder)


def test_a_missing_file(folder):
    with pytest.raises(penstock.ShardError, match=r"9\.bin"):
        opened([folder / "0.bin", folder / "9.bin"])


def test_no_file(tmp_path):
    with pytest.raises(penstock.SchemaError, match=r"\*\.bin"):
        opened(tmp_path)


def test_a_dtype_is_needed_for_files_without_a_header(folder):
    with pytest.raises(penstock.SchemaError, match=r"0\.bin.*no header.*dtype="):
        opened(folder, dtype=None)


@pytest.mark.parametrize("dtype", ["float32", "uint64", "bool", torch.bfloat16, "int", int, "", ">u2", 5])
def test_dtypes_that_are_no_tokens(folder, dtype):
    with pytest.raises(penstock.SchemaError, match="dtype"):
        opened(folder, dtype=dtype)


@pytest.mark.parametrize("name", ["block_size", "stride", "vocab_size"])
def test_numbers_that_cannot_be(folder, name):
    for number in (0, -1, -(1 << 70)):
        with pytest.raises(penstock.ArgumentError, match=name):
            opened(folder, **{name: number})
    for number in (1.5, "3", True):
        with pytest.raises(penstock.SchemaError, match=name):
            opened(folder, **{name: number})


def test_an_unknown_format(folder):
    with pytest.raises(penstock.SchemaError, match=r"auto, raw, llm\.c or megatron"):
        opened(folder, format="gpt")


@pytest.mark.parametrize("block_size", [1000, 1 << 40, 1 << 63, 1 << 80])
def test_no_file_is_as_long_as_a_window(folder, block_size):
    with pytest.raises(penstock.SchemaError, match=r"no file is as long as one window.*1000"):
        opened(folder, block_size=block_size)


def test_a_window_of_a_whole_file(folder, tokens):
    dataset = opened(folder, block_size=999)
    assert len(dataset) == 1
    assert_same(dataset[0][1], torch.from_numpy(tokens[2][1:].astype(np.int64)))


def test_files_of_different_dtypes(tmp_path):
    rng = np.random.default_rng(5)
    write_llm_c(tmp_path / "a.bin", random_tokens(rng, 50, "uint16"))
    write_llm_c(tmp_path / "b.bin", random_tokens(rng, 50, "uint32"))
    with pytest.raises(penstock.SchemaError, match=r"b\.bin.*uint16 as in .*a\.bin.*uint32"):
        penstock.TokenDataset(tmp_path, block_size=T)
    with pytest.raises(penstock.SchemaError, match=r"b\.bin.*dtype= says"):
        penstock.TokenDataset(tmp_path / "b.bin", block_size=T, dtype="uint16")


WRONG_LLM_C = {
    "a token missing": lambda file: file[:-2],
    "a token more": lambda file: file + b"xx",
    "the header alone": lambda file: file[:1024],
    "a cut header": lambda file: file[:1000],
    "another version": lambda file: file[:4] + b"\x02" + file[5:],
    "evaluation questions": lambda file: b"\x8a" + file[1:],
}


@pytest.mark.parametrize("damage", WRONG_LLM_C)
def test_llm_c_headers_that_are_not_so(tmp_path, damage):
    path = write_llm_c(tmp_path / "a.bin", random_tokens(np.random.default_rng(6), 50, "uint16"))
    path.write_bytes(WRONG_LLM_C[damage](path.read_bytes()))
    with pytest.raises(penstock.FormatError, match=r"a\.bin"):
        opened(tmp_path)


def test_a_wrong_magic_where_llm_c_is_said(folder):
    with pytest.raises(penstock.FormatError, match=r"20240520 or 20240801"):
        opened(folder, format="llm.c")


WRONG_MEGATRON = {
    "magic": lambda index: b"TNTIDX" + index[6:],
    "version": lambda index: index[:9] + b"\x02" + index[10:],
    "floating point": lambda index: index[:17] + b"\x07" + index[18:],
    "dtype of another width": lambda index: index[:17] + b"\x04" + index[18:],
    "count": lambda index: index[:18] + b"\xff" * 8 + index[26:],
    "cut": lambda index: index[:-1],
    "one byte more": lambda index: index + b"x",
    "negative length": lambda index: index[:34] + b"\xff" * 4 + index[38:],
    "nothing": lambda index: b"",
}


@pytest.mark.parametrize("damage", WRONG_MEGATRON)
def test_megatron_indices_that_are_not_so(tmp_path, damage):
    rng = np.random.default_rng(7)
    path = write_megatron(tmp_path / "a.bin", [random_tokens(rng, n, "uint16") for n in (30, 8)])
    index = path.with_suffix(".idx")
    index.write_bytes(WRONG_MEGATRON[damage](index.read_bytes()))
    with pytest.raises(penstock.FormatError, match=r"a\.idx"):
        opened(tmp_path)


@pytest.mark.parametrize("size", [0, 74, 78])
def test_megatron_tokens_of_another_length_than_the_index_says(tmp_path, size):
    rng = np.random.default_rng(8)
    path = write_megatron(tmp_path / "a.bin", [random_tokens(rng, n, "uint16") for n in (30, 8)])
    os.truncate(path, size)
    with pytest.raises(penstock.FormatError, match=r"a\.bin"):
        opened(tmp_path)


def test_megatron_without_its_index(folder):
    with pytest.raises(penstock.ShardError, match=r"0\.idx"):
        opened(folder, format="megatron")


def test_an_index_is_no_file_of_tokens(tmp_path):
    path = write_megatron(tmp_path / "a.bin", [np.arange(50, dtype=np.uint16)])
    with pytest.raises(penstock.FormatError, match=r"a\.idx.*\.bin"):
        opened(path.with_suffix(".idx"))


def test_arrays_are_no_plain_files_of_tokens(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(50, dtype=np.uint16))
    with pytest.raises(penstock.FormatError, match=r"a\.npy.*ShardDataset"):
        opened(tmp_path / "a.npy")


def test_a_token_outside_the_vocabulary(folder, tokens):
    tokens[2][500] = 50_257
    write_raw(folder / "2.bin", tokens[2])
    dataset = opened(folder, vocab_size=50_257)
    assert len(opened(folder)) == len(dataset)
    first = 18 + 499 // T
    dataset.gather([row for row in range(len(dataset)) if row not in (first, first + 1)])
    for use in (
        lambda: dataset[first],
        lambda: dataset.gather(range(len(dataset))),
        lambda: list(penstock.DataLoader(dataset, batch_size=8)),
    ):
        with pytest.raises(penstock.FormatError, match=r"2\.bin.*vocabulary.*50257") as caught:
            use()
        assert (caught.value.row, caught.value.offset) == (first, 1000)


@pytest.mark.parametrize("size", [0, 1000, 4096])
def test_a_file_that_shrinks_while_it_is_open(tmp_path, size):
    for name in ("a", "b"):
        write_raw(tmp_path / f"{name}.bin", np.ones(100_000, np.uint16))
    dataset = opened(tmp_path, block_size=100)
    dataset.gather(range(len(dataset)))
    time.sleep(0.02)  # a change within one tick of the file system's clock has no other time
    os.truncate(tmp_path / "b.bin", size)
    with pytest.raises(penstock.ShardError, match=r"b\.bin"):
        dataset.gather(range(len(dataset)))
    assert dataset.gather([0, 5])[0].sum() == 200


def test_pages_of_overlapping_windows_are_dropped_on_request(tmp_path):
    path = write_raw(tmp_path / "a.bin", np.zeros(1 << 25, np.uint16))
    os.sync()
    dataset = opened(tmp_path, block_size=1 << 15, stride=1 << 14)
    for drop_cache, least, most in ((False, 0.9, 1.0), (True, 0.0, 0.3)):
        for _ in penstock.DataLoader(dataset, 16, drop_cache=drop_cache):
            pass
        assert least <= share_in_cache(path) <= most
