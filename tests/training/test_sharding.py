"""Every process gets its own share of every step, dealt by accelerate as the Trainer has it do."""

from __future__ import annotations

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, SequentialSampler

from llara_core.training.sharding import MICRO_BATCHES, RankedSteps, only_item


class Labelled:
    """A part says which step, process and world it is for."""

    def __len__(self) -> int:
        return 4

    def part(self, step: int, rank: int, world: int) -> list[dict[str, torch.Tensor]]:
        return [{"label": torch.tensor([step, rank, world, number])} for number in range(rank + 1)]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_item_by_item_each_process_gets_its_own_parts(world: int) -> None:
    steps = RankedSteps(Labelled(), world)
    assert len(steps) == 4 * world
    for rank in range(world):
        plain = DataLoader(steps, batch_size=1, sampler=SequentialSampler(steps), collate_fn=only_item)
        dealt = prepare_data_loader(plain, num_processes=world, process_index=rank, put_on_device=False)
        assert len(dealt) == 4
        found = [[batch["label"].tolist() for batch in item[MICRO_BATCHES]] for item in dealt]
        assert found == [[[step, rank, world, number] for number in range(rank + 1)] for step in range(4)]


@pytest.mark.parametrize("order", [range(1, 8, 2), [1, 5, 3, 7], [1, 1]])
def test_looking_ahead_gives_the_same_items(order) -> None:
    plain, ahead = RankedSteps(Labelled(), 2), RankedSteps(Labelled(), 2, ahead=True)
    for index in order:
        expected = [batch["label"].tolist() for batch in plain[index][MICRO_BATCHES]]
        assert [batch["label"].tolist() for batch in ahead[index][MICRO_BATCHES]] == expected


def test_looking_ahead_makes_each_item_once_and_raises_when_it_is_asked_for() -> None:
    made: list[int] = []

    class Failing(Labelled):
        def part(self, step: int, rank: int, world: int) -> list[dict[str, torch.Tensor]]:
            made.append(step)
            if step == 2:
                raise ValueError("step 2 cannot be made")
            return super().part(step, rank, world)

    steps = RankedSteps(Failing(), 1, ahead=True)
    assert [len(steps[index][MICRO_BATCHES]) for index in (0, 1)] == [1, 1]
    with pytest.raises(ValueError, match="step 2 cannot be made"):
        steps[2]
    assert made == [0, 1, 2]
