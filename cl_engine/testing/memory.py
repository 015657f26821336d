"""The part of the contract of strategies that is about memory: what is counted is what answers need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cl_engine.core.state import Memory
from cl_engine.core.tree import Path as Place
from cl_engine.core.tree import leaves_with_path
from cl_engine.testing.answers import StrategyUnderTest
from cl_engine.testing.promises import held
from cl_engine.testing.walking import after_each_task, answers


class MemoryContract(StrategyUnderTest):
    """Holds a strategy to the rule of `cl_engine.core.state`; a part of `StrategyContract`.

    >>> from cl_engine.testing import StrategyContract
    >>> issubclass(StrategyContract, MemoryContract)
    True
    """

    def test_the_memory_reported_is_the_bytes_of_the_state_one_seed_holds(self, setting: str) -> None:
        held(self, setting, "memory")

    def test_answers_need_nothing_but_what_counts_as_memory_and_what_follows_from_the_seeds(
        self, setting: str, tmp_path: Path
    ) -> None:
        own: dict[str, Any] = {"stream.setting": setting}
        plain = self.experiment(**own)
        if "backbone" not in plain.resolved:
            module = plain.build_strategy(plain.stream()).net.module(99)
            save_file(module.state_dict(), tmp_path / "backbone.safetensors")
            own["backbone.file"] = str(tmp_path / "backbone.safetensors")
        *_, (stream, strategy) = after_each_task(self.experiment(**own))
        before = [answers(stream, strategy, task) for task in range(stream.n_tasks or 3)]
        twin = strategy.drawn()
        memory, drawn = Memory(twin.state), dict(leaves_with_path(twin.state))

        def kept(state: Mapping[str, Any], at: Place = ()) -> dict[str, Any]:
            places = {key: (*at, key) for key in state}
            return {
                key: kept(leaf, places[key])
                if isinstance(leaf, Mapping)
                else (leaf if memory.counts(places[key], leaf) else drawn[places[key]])
                for key, leaf in state.items()
            }

        twin.state = kept(strategy.state)
        for task, logits in enumerate(before):
            assert torch.equal(logits, answers(stream, twin, task)), (
                f"the answers on task {task} depend on the scenario's backbone, or on an attribute, which is not in self.state: "
                "what answers need is put there and counted, unless it follows from the seeds"
            )
