"""Collate: every layout against plain torch, of Penstock's samples and of anyone's."""

import collections
import itertools
import pickle

import numpy as np
import pytest
import torch
from reference import ALL_DTYPES, assert_same, random_tensor
from reference.ragged import assert_same_batch, batch_of, fields_of, laid_out, split_by
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset, default_collate

import penstock
from penstock import ArgumentError, Collate, RaggedDataset, SchemaError
from penstock.layout import Layout

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning"),
]
LENGTHS = [4, 0, 7, 1, 3, 7]
VALUES = random_tensor((sum(LENGTHS), 3), torch.float64)
ROWS = split_by(VALUES, LENGTHS)
OURS = RaggedDataset(VALUES, lengths=LENGTHS)


def ours(indices):
    return OURS.__getitems__(indices)


def foreign(indices):
    return [ROWS[i] for i in indices]


# every option ----------------------------------------------------------------------------------------------

PADDED = [
    dict(
        zip(
            ("batch_first", "padding_side", "truncation", "max_length", "pad_to_multiple"),
            values,
            strict=True,
        )
    )
    for values in itertools.product(
        (True, False), ("right", "left"), ("right", "left"), (None, 0, 1, 5, 7, 99), (None, 1, 4, 16)
    )
]


@pytest.mark.parametrize("samples", [ours, foreign])
@pytest.mark.parametrize("indices", [[2, 0, 1, 1, -1], [3], [1, 1]], ids=str)
def test_every_way_to_pad(samples, indices):
    ragged = None if samples is ours else True
    for number, options in enumerate(PADDED):
        options = {**options, "padding_value": (0, -1.5, float("inf"))[number % 3], "mask": number % 2 == 0}
        batch = Collate(**options, ragged=ragged)(samples(indices))
        assert_same(batch, batch_of([ROWS[i] for i in indices], **options))


@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("samples", [ours, foreign])
def test_lengths_and_a_mask_stand_behind_a_padded_tensor(samples, lengths, mask):
    batch = Collate(lengths=lengths, mask=mask)(samples([0, 2]))
    expected = batch_of([ROWS[0], ROWS[2]], lengths=lengths, mask=mask)
    assert type(batch) is type(expected)
    assert_same(batch, expected)


@pytest.mark.parametrize("samples", [ours, foreign])
@pytest.mark.parametrize("truncation", ["right", "left"])
@pytest.mark.parametrize("max_length", [None, 0, 1, 5, 99])
@pytest.mark.parametrize("layout", ["pack", "list"])
def test_layouts_without_padding(samples, layout, max_length, truncation):
    options = {"layout": layout, "max_length": max_length, "truncation": truncation}
    for indices in ([2, 0, 1, 1, -1], [3], [1, 1]):
        batch = Collate(**options, ragged=None if samples is ours else True)(samples(indices))
        assert_same_batch(batch, batch_of([ROWS[i] for i in indices], **options))
        ignored = Collate(
            **options, padding_value=7, padding_side="left", mask=True, pad_to_multiple=8, ragged=True
        )
        assert_same_batch(ignored(samples(indices)), batch)


@pytest.mark.parametrize("samples", [ours, foreign])
@pytest.mark.parametrize("max_length", [None, 5])
def test_nested(samples, max_length):
    nested = Collate(layout="nested", max_length=max_length)(samples([2, 0, 1, 5]))
    rows = [ROWS[i][:max_length] for i in (2, 0, 1, 5)]
    assert nested.is_nested
    assert nested.layout == torch.jagged
    assert_same(list(nested.unbind()), rows)
    assert nested.size(0) == 4
    assert_same((nested * 2).values(), torch.cat(rows) * 2)
    again = RaggedDataset(nested)
    assert_same([again[i] for i in range(4)], rows)


def test_as_torchs_pad_sequence():
    rows = [row for row in ROWS if len(row)]
    for batch_first, side, value in itertools.product((True, False), ("right", "left"), (0, -3.5)):
        made = Collate(value, batch_first, False, padding_side=side)
        theirs = pad_sequence(rows, batch_first, value, side)
        assert_same(made(rows), theirs)
        assert_same(made(RaggedDataset(rows).__getitems__(range(len(rows)))), theirs)


def test_as_torchs_packed_sequences_take_it():
    rows = sorted(ROWS, key=len, reverse=True)[:5]
    padded, lengths = penstock.collate(rows)
    packed = pack_padded_sequence(padded, lengths, batch_first=True)
    assert_same(pad_packed_sequence(packed, batch_first=True)[0], padded)


def test_as_flash_attention_takes_it():
    values, cu_seqlens = Collate(layout="pack")(ours([2, 1, 0]))
    assert cu_seqlens.dtype == torch.int32
    assert cu_seqlens.tolist() == [0, 7, 7, 11]
    assert cu_seqlens.is_contiguous()
    assert values.is_contiguous()


def test_the_parts_of_a_batch_are_contiguous():
    for options in ({"mask": True}, {"mask": True, "batch_first": False}, {"layout": "pack"}):
        assert all(part.is_contiguous() for part in Collate(**options)(ours([2, 0, 1])))


def test_arguments_by_position():
    made = Collate(7, False, False, 4, 6, "left", "left", "pad")
    named = Collate(
        padding_value=7,
        batch_first=False,
        lengths=False,
        pad_to_multiple=4,
        max_length=6,
        truncation="left",
        padding_side="left",
        layout="pad",
    )
    assert made.layout == named.layout
    assert_same(made(ours([0, 2])), named(ours([0, 2])))
    with pytest.raises(TypeError):
        Collate(0, True, True, None, None, "right", "right", "pad", True)


def test_a_collate_can_be_pickled_and_shown():
    made = Collate(-1, layout="list", ragged=["x"])
    again = pickle.loads(pickle.dumps(made))
    assert (again.layout, again.ragged, again.pin_memory) == (made.layout, made.ragged, made.pin_memory)
    assert "list" in repr(made)


# arguments that cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "padded"},
        {"layout": None},
        {"truncation": "middle"},
        {"truncation": None},
        {"padding_side": "both"},
        {"pad_to_multiple": 0},
        {"pad_to_multiple": -8},
        {"pad_to_multiple": 2.0},
        {"pad_to_multiple": True},
        {"pad_to_multiple": "8"},
        {"max_length": -1},
        {"max_length": 1.5},
        {"max_length": False},
    ],
    ids=str,
)
def test_arguments_that_cannot_be_are_refused_at_once(options):
    (name,) = options
    with pytest.raises(ArgumentError, match=name):
        Collate(**options)


@pytest.mark.parametrize("options", [{"pad_to_multiple": 2**63}, {"max_length": 2**63}], ids=str)
def test_numbers_beyond_64_bits_are_refused_at_once_or_have_no_effect(options):
    try:
        made = Collate(**options)
    except ArgumentError:
        return
    made(ours([0]))


@pytest.mark.parametrize("name", ["pad_to_multiple", "max_length"])
def test_numpys_integers_are_integers(name):
    made = Collate(**{name: np.int64(3)})
    assert_same(made(ours([0, 2])), batch_of([ROWS[0], ROWS[2]], **{name: 3}))


@pytest.mark.filterwarnings("ignore:no pinned memory:UserWarning")
@pytest.mark.parametrize("multiple", [2**40, 2**62, 2**63 - 1])
@pytest.mark.parametrize("samples", [ours, foreign])
def test_a_batch_of_more_bytes_than_there_are_is_refused(samples, multiple):
    with pytest.raises((MemoryError, penstock.PenstockError)):
        Collate(pad_to_multiple=multiple, ragged=True)(samples([0, 2]))
    with pytest.raises((MemoryError, penstock.PenstockError)):
        next(iter(penstock.DataLoader(OURS, 2, collate_fn=Collate(pad_to_multiple=multiple))))


@pytest.mark.parametrize("layout", ["pad", "list"])
@pytest.mark.parametrize("power", [40, 50, 58])
def test_rows_of_more_bytes_than_there_are_are_refused(power, layout):
    huge = RaggedDataset(torch.zeros(1).expand(2**power), lengths=[2**power])
    for use in (lambda: huge[0], lambda: Collate(layout=layout)(huge.__getitems__([0] * 16))):
        with pytest.raises((MemoryError, penstock.PenstockError)):
            use()


def test_packed_values_beyond_64_bits_are_refused():
    huge = RaggedDataset(torch.zeros(1, dtype=torch.uint8).expand(2**60), lengths=[2**60])
    with pytest.raises((MemoryError, penstock.PenstockError)):
        Collate(layout="pack")(huge.__getitems__([0] * 16))


def test_more_values_than_int32_counts_are_not_packed():
    values = torch.empty(2**31, 0)
    parts = Layout(layout="pack").parts(values, torch.tensor([2**30, 0, 2**30 - 1]))
    assert parts["_cu_seqlens"].tolist() == [0, 2**30, 2**30, 2**31 - 1]
    with pytest.raises(SchemaError, match="int32"):
        Layout(layout="pack").parts(values, torch.tensor([2**30, 2**30]))


# padding values --------------------------------------------------------------------------------------------

GOOD = {
    torch.float32: (0, 1, -1.5, float("inf"), True),
    torch.float16: (0, -2, 0.5, float("-inf")),
    torch.bfloat16: (1, 0.1),
    torch.float8_e4m3fn: (0, 1.5),
    torch.float8_e5m2: (0, -2),
    torch.int8: (0, -128, 127, 5.0, True),
    torch.uint8: (255, 7.0),
    torch.uint16: (65535,),
    torch.int64: (-(2**63), 2**63 - 1),
    torch.uint64: (2**63, 2**64 - 1),
    torch.bool: (True, False, 1, 0, 1.0),
    torch.complex64: (0, 1j, 2.5 - 1j),
}


@pytest.mark.parametrize("dtype", GOOD, ids=str)
def test_padding_values_that_a_dtype_holds(dtype):
    rows = split_by(random_tensor((8, 2), dtype), [3, 0, 5])
    dataset = RaggedDataset(rows)
    for value in GOOD[dtype]:
        expected = batch_of(rows, padding_value=value)
        assert_same(Collate(value)(dataset.__getitems__([0, 1, 2])), expected)
        assert_same(Collate(value)(rows), expected)
        assert_same(
            Collate(value, batch_first=False)(rows), batch_of(rows, padding_value=value, batch_first=False)
        )


def test_nan_pads():
    rows = [torch.ones(2), torch.ones(3)]
    batch = Collate(float("nan"), lengths=False)(rows)
    assert batch[0, 2].isnan()
    assert torch.equal(batch.isnan().sum(1), torch.tensor([1, 0]))


BAD = [
    *(
        (dtype, value)
        for dtype in (torch.int32, torch.uint8, torch.bool)
        for value in (0.5, float("nan"), 1j, 2**40)
    ),
    (torch.int64, float("inf")),
    (torch.int64, 2**63),
    (torch.int64, 2**70),
    (torch.uint8, -1),
    (torch.uint8, 256),
    (torch.uint16, -1),
    (torch.uint64, -1),
    (torch.uint64, 2**64),
    (torch.int8, 128),
    (torch.bool, 2),
    (torch.bool, -1),
    (torch.float32, 1j),
    (torch.float32, "0"),
    (torch.float32, None),
    (torch.int32, None),
]


@pytest.mark.parametrize(("dtype", "value"), BAD, ids=str)
def test_padding_values_that_a_dtype_does_not_hold_are_refused(dtype, value):
    dataset = RaggedDataset({"x": torch.zeros(3, dtype=dtype)}, lengths=[1, 2])
    for use in (
        lambda: Collate(value)(dataset.__getitems__([0, 1])),
        lambda: Collate(value)([{"x": row["x"]} for row in (dataset[0], dataset[1])]),
        lambda: next(iter(penstock.DataLoader(dataset, 2, collate_fn=Collate(value)))),
    ):
        with pytest.raises(ArgumentError) as caught:
            use()
        assert caught.value.field == "x"
        assert str(dtype) in str(caught.value)
        assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        pytest.param(torch.float16, 1e6, id="becomes inf"),
        pytest.param(torch.float32, 1e300, id="becomes inf"),
        pytest.param(torch.float8_e4m3fn, 1e6, id="becomes 448"),
        pytest.param(torch.float8_e4m3fn, float("inf"), id="becomes 448"),
    ],
)
def test_floating_point_paddings_that_become_something_else_are_refused(dtype, value):
    with pytest.raises(ArgumentError):
        Collate(value)([torch.zeros(2, dtype=dtype), torch.zeros(3, dtype=dtype)])


def test_a_value_that_one_field_cannot_hold_names_it():
    dataset = RaggedDataset(
        {"x": torch.zeros(3), "tokens": torch.zeros(3, dtype=torch.uint8)}, lengths=[1, 2]
    )
    with pytest.raises(ArgumentError) as caught:
        Collate(-100)(dataset.__getitems__([0, 1]))
    assert caught.value.field == "tokens"


@pytest.mark.parametrize("layout", ["pack", "list", "nested"])
def test_what_is_not_padded_needs_no_padding(layout):
    tokens = torch.zeros(3, dtype=torch.uint8)
    Collate(-100, layout=layout)(RaggedDataset(tokens, lengths=[1, 2]).__getitems__([0, 1]))


# anyone's samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [each for each in ALL_DTYPES if "x2" not in str(each)], ids=str)
def test_lists_of_tensors_of_every_dtype(dtype):
    rows = split_by(random_tensor((10, 2), dtype), [3, 0, 1, 6])
    for layout in ("pad", "pack", "list"):
        assert_same_batch(Collate(layout=layout)(rows), batch_of(rows, layout=layout))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)], ids=str)
def test_lists_of_tensors_of_any_trailing_shape(shape):
    rows = split_by(random_tensor((10, *shape), torch.int16), [3, 0, 1, 6])
    assert_same(penstock.collate(rows), batch_of(rows))


def test_tensors_in_any_layout():
    wide = random_tensor((9, 6))
    rows = [wide[::2, :3], wide[1:3, ::2], wide.t()[:3].t()[:0], wide[:1, :1].expand(4, 3)]
    assert_same(penstock.collate(rows), batch_of([row.contiguous() for row in rows]))


def test_arrays():
    rows = [np.ones((2, 3)), np.zeros((4, 3))]
    assert_same(penstock.collate(rows), batch_of(list(map(torch.from_numpy, rows))))
    batch = penstock.collate([(rows[0], 1), (rows[1], 2)])
    assert_same(batch, [*batch_of(list(map(torch.from_numpy, rows))), torch.tensor([1, 2])])


def test_gradients_are_not_followed():
    rows = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True) * 2]
    batch = penstock.collate(rows)
    assert not batch[0].requires_grad
    assert_same(batch, batch_of([row.detach() for row in rows]))


def test_what_is_given_is_left_as_it_is():
    rows = [torch.ones(2), torch.ones(4)]
    padded, _ = penstock.collate(rows)
    padded.zero_()
    listed = Collate(layout="list")(rows)
    listed[0].zero_()
    assert_same(rows, [torch.ones(2), torch.ones(4)])


SAMPLES = [(ROWS[i], i, torch.full((2,), i), f"name {i}", ROWS[-1 - i][:, 0].contiguous()) for i in range(3)]


@pytest.mark.parametrize("as_type", [tuple, list])
def test_tuples(as_type):
    batch = penstock.collate([as_type(sample) for sample in SAMPLES])
    columns = list(zip(*SAMPLES, strict=True))
    expected = [*laid_out(columns[0]).values(), torch.arange(3), torch.stack(columns[2]), list(columns[3])]
    expected += laid_out(columns[4]).values()
    assert batch.pop(4) == expected.pop(4)
    assert_same(batch, expected)


@pytest.mark.parametrize("as_type", [dict, collections.OrderedDict])
@pytest.mark.parametrize("layout", ["pad", "pack", "list"])
def test_dicts(as_type, layout):
    names = ("x", "i", "size", "name", "z")
    batch = Collate(layout=layout)([as_type(zip(names, sample, strict=True)) for sample in SAMPLES])
    columns = dict(zip(names, zip(*SAMPLES, strict=True), strict=True))
    assert batch.pop("name") == list(columns["name"])
    fields = {"x": list(columns["x"]), "i": torch.arange(3), "size": torch.stack(columns["size"])}
    assert_same_batch(batch, fields_of({**fields, "z": list(columns["z"])}, layout=layout))


def test_what_is_not_ragged_is_torchs():
    for samples in (
        [torch.ones(3), torch.zeros(3)],
        [(torch.ones(3), 1), (torch.zeros(3), 2)],
        [{"x": torch.ones(3), "y": {"z": torch.ones(2)}}] * 2,
        [1, 2],
        [1.5, 2],
        [np.ones(3)] * 2,
        [torch.tensor(1), torch.tensor(2)],
        [([torch.ones(2)], torch.ones(1))] * 3,
    ):
        assert_same(penstock.collate(samples), default_collate(samples))
    assert penstock.collate(["a", "bc"]) == default_collate(["a", "bc"])


def test_a_batch_of_one_is_stacked_unless_it_is_said_to_be_ragged():
    assert_same(penstock.collate([ROWS[0]]), ROWS[0][None])
    assert_same(Collate(ragged=True)([ROWS[0]]), batch_of([ROWS[0]]))
    assert_same(Collate(ragged=[0])([(ROWS[0], 5)]), [*batch_of([ROWS[0]]), torch.tensor([5])])
    assert_same(penstock.collate(ours([0])), batch_of([ROWS[0]]))  # ours are known to be


@pytest.mark.parametrize("ragged", [True, [0], ["0"], (0,), {0}])
def test_a_batch_of_one_length_has_lengths_where_it_is_said_to_be_ragged(ragged):
    samples = [(ROWS[2], 1), (ROWS[5], 2)]
    assert_same(Collate(ragged=ragged)(samples), [*batch_of([ROWS[2], ROWS[5]]), torch.tensor([1, 2])])


def test_names_and_positions_choose():
    samples = [{"x": ROWS[2], "z": ROWS[5]}, {"x": ROWS[5], "z": ROWS[2]}]
    stacked = {"z": torch.stack([ROWS[5], ROWS[2]])}
    assert_same(Collate(ragged=["x"])(samples), {**fields_of({"x": [ROWS[2], ROWS[5]]}), **stacked})
    pairs = [tuple(sample.values()) for sample in samples]
    assert_same(Collate(ragged=[0])(pairs), [*batch_of([ROWS[2], ROWS[5]]), stacked["z"]])
    everything = Collate(ragged=True)(samples)
    assert list(everything) == ["x", "x_lengths", "z", "z_lengths"]
    assert_same(Collate(ragged=False)(samples), default_collate(samples))
    assert_same(Collate(ragged=[])(samples), default_collate(samples))


def test_ragged_true_leaves_numbers_and_words():
    batch = Collate(ragged=True)([(torch.tensor(1), 2, "a", ROWS[0]), (torch.tensor(3), 4, "b", ROWS[2])])
    assert batch.pop(2) == ["a", "b"]
    assert_same(batch, [torch.tensor([1, 3]), torch.tensor([2, 4]), *batch_of([ROWS[0], ROWS[2]])])


def test_a_lone_name_is_a_name():
    samples = [{"tokens": ROWS[2]}, {"tokens": ROWS[5]}]
    try:
        made = Collate(ragged="tokens")
    except ArgumentError:
        return
    assert "tokens_lengths" in made(samples)


def test_a_name_that_is_nowhere_is_refused():
    with pytest.raises((ArgumentError, SchemaError)):
        Collate(ragged=["tokenz"])([{"tokens": ROWS[2]}, {"tokens": ROWS[5]}])


@pytest.mark.parametrize(
    "rows",
    [
        [torch.ones(2, 3), torch.ones(3, 4)],
        [torch.ones(2), torch.ones(3, 1)],
        [torch.ones(2), torch.ones(3, dtype=torch.int32)],
        [torch.ones(0), torch.ones(3, 4)],
        [torch.ones(2, 3), np.ones((4, 3), np.float16)],
    ],
)
def test_sequences_that_differ_in_more_than_their_lengths_are_refused(rows):
    with pytest.raises(SchemaError, match="number 1"):
        penstock.collate(rows)
    with pytest.raises(SchemaError) as caught:
        penstock.collate([{"x": row} for row in rows])
    assert caught.value.field == "x"


@pytest.mark.parametrize("each", [torch.tensor(1), 3, 2.5])
def test_what_is_no_sequence_cannot_be_said_to_be_ragged(each):
    with pytest.raises(SchemaError):
        Collate(ragged=["x"])([{"x": each}, {"x": each}])


def test_samples_that_differ_in_number_are_torchs_error():
    with pytest.raises((RuntimeError, TypeError)):
        penstock.collate([(torch.ones(2),), (torch.ones(2), torch.ones(3))])


def test_nothing_to_collate_is_as_with_torch():
    with pytest.raises(IndexError):
        default_collate([])
    with pytest.raises(IndexError):
        penstock.collate([])


class Words(Dataset):
    """Anyone's dataset."""

    def __init__(self, kind="tensor"):
        self.kind = kind

    def __len__(self):
        return 50

    def __getitem__(self, i):
        row = torch.arange(i * 7 % 11, dtype=torch.float32) + i
        return {"tensor": row, "tuple": (row, i), "dict": {"x": row, "y": i}}[self.kind]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("layout", ["pad", "pack", "list"])
@pytest.mark.parametrize("kind", ["tensor", "tuple", "dict"])
def test_loaders_of_anyones_dataset(kind, layout, num_workers):
    collate = Collate(layout=layout, ragged=True)
    context = "fork" if num_workers else None
    loaders = [
        make(Words(kind), 8, collate_fn=collate, num_workers=num_workers, multiprocessing_context=context)
        for make in (DataLoader, penstock.DataLoader)
    ]
    for number, batches in enumerate(zip(*loaders, strict=True)):
        indices = range(number * 8, min(number * 8 + 8, 50))
        rows = [Words()[i] for i in indices]
        numbers = torch.tensor(indices)
        expected = {
            "tensor": batch_of(rows, layout=layout),
            "tuple": [*laid_out(rows, layout=layout).values(), numbers],
            "dict": fields_of({"x": rows, "y": numbers}, layout=layout),
        }
        for batch in batches:
            assert_same_batch(batch, expected[kind])


def test_ours_among_others():
    lists = [OURS[i] for i in (0, 2)]
    assert_same(penstock.collate(lists), batch_of(lists))
    assert_same(penstock.collate(ours([0, 2])[:]), batch_of(lists))
    assert_same(
        penstock.collate([(sample, 1) for sample in ours([0, 2])]), [*batch_of(lists), torch.tensor([1, 1])]
    )
    mixed = torch.utils.data.ConcatDataset([OURS, OURS])
    batch = next(iter(DataLoader(mixed, 4, collate_fn=penstock.collate)))
    assert_same(batch, batch_of(ROWS[:4]))


def test_fixed_samples_are_as_ever():
    dataset = penstock.TensorDataset(VALUES, torch.arange(len(VALUES)))
    batch = Collate(-1, layout="pack", mask=True)(dataset.__getitems__([3, 1]))
    assert_same(batch, [VALUES[[3, 1]], torch.tensor([3, 1])])
