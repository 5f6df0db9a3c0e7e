"""Rows of different lengths, laid out row by row in plain torch: slow, and easy to believe."""

import itertools

import torch

from . import assert_same


def cut(row, max_length=None, truncation="right"):
    """What is left of a row that may be too long."""
    if max_length is None or len(row) <= max_length:
        return row
    return row[:max_length] if truncation == "right" else row[len(row) - max_length :]


def laid_out(
    rows,
    *,
    padding_value=0,
    batch_first=True,
    lengths=True,
    mask=False,
    pad_to_multiple=None,
    max_length=None,
    truncation="right",
    padding_side="right",
    layout="pad",
):
    """What `Collate` of these arguments makes of one field: {what follows its name: a tensor or a list}.

    A nested tensor is [its values, its offsets].
    """
    rows = [cut(row, max_length, truncation) for row in rows]
    counts = [len(row) for row in rows]
    if layout == "list":
        return {"": rows}
    sums = list(itertools.accumulate(counts, initial=0))
    if layout == "nested":
        return {"": [end_to_end(rows), torch.tensor(sums)]}
    if layout == "pack":
        return {"": end_to_end(rows), "_cu_seqlens": torch.tensor(sums, dtype=torch.int32)}
    step = pad_to_multiple or 1
    width = -(-max(counts) // step) * step
    padded = torch.full((len(rows), width, *rows[0].shape[1:]), padding_value, dtype=rows[0].dtype)
    is_value = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, (row, count) in enumerate(zip(rows, counts, strict=True)):
        at = slice(0, count) if padding_side == "right" else slice(width - count, width)
        padded[i, at] = row
        is_value[i, at] = True
    parts = {"": padded if batch_first else padded.transpose(0, 1).contiguous()}
    if lengths:
        parts["_lengths"] = torch.tensor(counts)
    if mask:
        parts["_mask"] = is_value if batch_first else is_value.T.contiguous()
    return parts


def end_to_end(rows):
    """`torch.cat`, for element types too that torch cannot concatenate."""
    values = torch.empty((sum(map(len, rows)), *rows[0].shape[1:]), dtype=rows[0].dtype)
    begin = 0
    for row in rows:
        values[begin : begin + len(row)] = row
        begin += len(row)
    return values


def batch_of(rows, **options):
    """The batch of samples that are lone tensors."""
    parts = list(laid_out(rows, **options).values())
    return parts[0] if len(parts) == 1 else parts


def fields_of(fields, **options):
    """The batch of samples that are dicts, of {field: its rows, or a tensor where they are fixed}."""
    batch = {}
    for name, field in fields.items():
        parts = {"": field} if isinstance(field, torch.Tensor) else laid_out(field, **options)
        batch |= {name + suffix: part for suffix, part in parts.items()}
    return batch


def opened(batch):
    """The same with nested tensors as [values, offsets]."""
    if isinstance(batch, torch.Tensor):
        return [batch.values(), batch.offsets()] if batch.is_nested else batch
    if isinstance(batch, dict):
        return {name: opened(part) for name, part in batch.items()}
    return [opened(part) for part in batch] if isinstance(batch, (list, tuple)) else batch


def assert_same_batch(actual, expected):
    """Equal in structure, names, their order, dtypes, shapes and bytes."""
    assert_same(opened(actual), expected)
    if isinstance(expected, dict):
        assert list(actual) == list(expected)


def split_by(values, lengths):
    """Values as rows of these lengths."""
    ends = list(itertools.accumulate(lengths))
    return [values[end - count : end] for end, count in zip(ends, lengths, strict=True)]
