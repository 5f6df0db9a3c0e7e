"""Random files of tokens, in every format: windows equal a loop over numpy arrays."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import assert_same
from token_writers import DTYPES, random_tokens, windows_of, write_llm_c, write_megatron, write_raw

import penstock
from penstock import _core


@st.composite
def token_files(draw):
    """(how to write, dtype, tokens of each file)"""
    form = draw(st.sampled_from(["raw", "llm.c", "megatron"]))
    names = {"raw": DTYPES, "llm.c": ("uint16", "uint32"), "megatron": tuple(set(DTYPES) - {"uint32"})}[form]
    dtype = draw(st.sampled_from(sorted(names)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    lengths = draw(st.lists(st.integers(1, 200), min_size=1, max_size=5))
    return form, dtype, [random_tokens(rng, length, dtype) for length in lengths]


def written(folder, form, files, cuts):
    for number, tokens in enumerate(files):
        path = Path(folder, f"{number}.bin")
        if form == "megatron":
            write_megatron(path, np.split(tokens, sorted(cut % (len(tokens) + 1) for cut in cuts)))
        else:
            {"raw": write_raw, "llm.c": write_llm_c}[form](path, tokens)


@given(
    token_files(),
    st.integers(1, 40),
    st.integers(1, 80) | st.none(),
    st.lists(st.integers(0, 10_000), max_size=4),
    st.lists(st.integers(), min_size=1, max_size=70),
)
def test_windows_equal_a_loop(files, block_size, stride, cuts, picks):
    form, dtype, tokens = files
    expected = windows_of(tokens, block_size, stride or block_size)
    with tempfile.TemporaryDirectory() as folder:
        written(folder, form, tokens, cuts)
        options = {"block_size": block_size, "stride": stride, "dtype": dtype if form == "raw" else None}
        if not expected:
            with pytest.raises(penstock.SchemaError, match="one window"):
                penstock.TokenDataset(folder, **options)
            return
        dataset = penstock.TokenDataset(folder, **options)
        assert len(dataset) == len(expected)
        assert dataset.num_tokens == sum(map(len, tokens))
        rows = [pick % len(expected) for pick in picks]
        x, y = dataset.gather(rows)
        assert_same(x, torch.stack([expected[row][0] for row in rows]))
        assert_same(y, torch.stack([expected[row][1] for row in rows]))
        by_pread = _core.TokenFiles(sorted(map(bytes, Path(folder).glob("*.bin"))), "auto", dtype, "read")
        core = _core.Table([_core.TokenSource(by_pread.windows(block_size, stride or block_size), None)])
        assert_same(torch.from_dlpack(core.gather(rows)[1]), y)


@given(token_files(), st.integers(1, 300), st.integers(1, 1 << 33))
def test_a_token_outside_the_vocabulary_is_found_wherever_it_is(files, block_size, vocab_size):
    form, dtype, tokens = files
    with tempfile.TemporaryDirectory() as folder:
        written(folder, form, tokens, [])
        block_size = min(block_size, max(map(len, tokens)) - 1)
        if block_size < 1:
            return
        dataset = penstock.TokenDataset(
            folder, dtype=dtype, block_size=block_size, stride=1, vocab_size=vocab_size
        )
        for row, (x, y) in enumerate(windows_of(tokens, block_size, 1)):
            window = torch.cat([x, y[-1:]])
            good = bool(((window >= 0) & (window < vocab_size)).all())
            if good:
                assert_same(dataset[row][0], x)
                continue
            with pytest.raises(penstock.FormatError) as caught:
                dataset[row]
            assert caught.value.row == row
            value = int(caught.value.actual)
            assert value in window.tolist()
            assert not 0 <= value < vocab_size
