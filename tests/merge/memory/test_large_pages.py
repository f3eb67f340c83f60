"""Memory of candidates: tensors keep their values, their ties and their own count of changes."""

import torch
from torch import nn

from merge.memory.large_pages import CHUNK, LargePages, ReusedBuffer, move_to_large_pages


def test_what_is_kept_is_a_copy_of_its_own() -> None:
    pages = LargePages()
    tensors = [torch.randn(3, 5), torch.ones(7, dtype=torch.bfloat16), torch.empty(0), torch.tensor(2.0)]
    kept = [pages.keep(tensor) for tensor in tensors]
    assert all(torch.equal(now, then) and now.dtype == then.dtype for now, then in zip(kept, tensors, strict=True))
    before = kept[1]._version
    kept[0].add_(1)
    assert kept[1]._version == before
    assert not torch.equal(kept[0], tensors[0])


def test_a_tensor_larger_than_a_chunk_has_its_own() -> None:
    large = torch.arange(CHUNK // 4 + 1, dtype=torch.int32)
    pages = LargePages()
    small = pages.keep(torch.ones(4))
    assert torch.equal(pages.keep(large), large)
    assert torch.equal(small, torch.ones(4))


def test_a_settled_model_computes_the_same_and_stays_tied() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    wanted = model(torch.ones(1, 4))
    move_to_large_pages(model)
    assert torch.equal(model(torch.ones(1, 4)), wanted)
    assert first.weight.data_ptr() == second.weight.data_ptr()


def test_a_room_gives_the_same_memory_again_and_grows_where_it_must() -> None:
    room = ReusedBuffer()
    small, large = room.take((3, 5), torch.bfloat16), room.take((700, 4), torch.float32)
    assert (small.shape, small.dtype, large.shape, large.dtype) == ((3, 5), torch.bfloat16, (700, 4), torch.float32)
    assert room.take((), torch.float32).shape == ()
    assert room.take((700, 4), torch.float32).data_ptr() == large.data_ptr()
