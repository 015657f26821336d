"""The contract of strategies that keep the net of every task, whole or as a code: decoding, its bytes, and drift."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cl_engine.core.state import bytes_by_part
from cl_engine.data.stream import Stream
from cl_engine.events import Event, TaskLearned
from cl_engine.nn.net import Params
from cl_engine.recall.events import CodesDrifted, Consolidated, SkillBytes
from cl_engine.recall.kept import KeepsNets, recall_bytes
from cl_engine.strategy import Strategy
from cl_engine.testing.answers import StrategyUnderTest
from cl_engine.testing.walking import answers, contents, different, told, walk

TOLD = 1e-5  # of a net's weights: who moves them more says so


class CodesContract(StrategyUnderTest):
    """Holds a strategy that keeps the net of every task to the one contract of codes (`cl_engine.recall.kept`).

    A strategy is held to it by having `KeepsNets`' members, ``decoded`` and ``read_by_recall``.

    >>> class TestMine(CodesContract):
    ...     strategy = "skill_recall"  # or "my_module:Mine"
    ...     options = {"codec": "quantised"}
    """

    def test_the_net_that_is_decoded_is_the_one_that_answers(self) -> None:
        for stream, strategy, kept, _ in self._after_each_task():
            before = contents(strategy.state)
            for task in range(stream.n_tasks or 3):
                net = kept.decoded(task)
                assert all(torch.equal(net[name], again) for name, again in kept.decoded(task).items()), (
                    f"decoding the net of task {task} twice gives two nets: it must draw nothing"
                )
                asked = strategy.net.all(net, stream.test(task).x)
                torch.testing.assert_close(
                    answers(stream, strategy, task), asked, msg=lambda text: f"predict answers by another net: {text}"
                )
                assert told(stream, task) == task, "a net a task is decoded where the task is told"
            changed = different(before, contents(strategy.state))
            assert not changed, f"decoding changed the state ({', '.join(changed)}): only learn may"

    def test_decoding_reads_what_is_counted_and_what_follows_from_the_seeds(self, tmp_path: Path) -> None:
        plain = self.experiment()
        own: dict[str, Any] = {}
        if "backbone" not in plain.resolved:
            module = plain.build_strategy(plain.stream()).net.module(99)
            save_file(module.state_dict(), tmp_path / "backbone.safetensors")
            own["backbone.file"] = str(tmp_path / "backbone.safetensors")
        *_, (stream, strategy, kept, _) = self._after_each_task(**own)
        twin = strategy.drawn()
        twin.state = {
            **twin.state,
            **{part: strategy.state[part] for part in kept.read_by_recall if part in strategy.state},
        }
        assert isinstance(twin, KeepsNets)
        for task in range(stream.n_tasks or 3):
            net = twin.decoded(task)
            odd = [name for name, tensor in kept.decoded(task).items() if not torch.equal(tensor, net[name])]
            assert not odd, (
                f"decoding the net of task {task} ({', '.join(odd)}) reads parts of the state, or the scenario's backbone, that "
                f"read_by_recall, {', '.join(kept.read_by_recall)}, does not name: what is not named is not counted"
            )

    def test_the_bytes_that_are_told_are_those_of_the_state(self) -> None:
        for _, strategy, kept, events in self._after_each_task():
            read, every = recall_bytes(kept), sum(bytes_by_part(strategy.state).values())
            assert 0 < read <= every, f"decoding reads {read} bytes, and the state has {every}"
            whole = sum(t[0].numel() * t.element_size() for t in kept.decoded(0).values())
            for event in (event for event in events if isinstance(event, SkillBytes)):
                assert event.recall_only == read, f"recall_only is {event.recall_only}, and decoding reads {read} bytes"
                assert event.in_all >= read, f"in_all is {event.in_all}, less than what decoding reads, {read}"
                assert event.kept_whole == event.skills * whole, f"a net is {whole} bytes, kept_whole says otherwise"

    def test_past_nets_that_move_are_told_of(self) -> None:
        before: list[Params] = []
        for _, strategy, kept, events in self._after_each_task():
            tells = {event.task_id: event.distance for event in events if isinstance(event, CodesDrifted)}
            encoded_anew = any(isinstance(event, Consolidated) for event in events)
            start = strategy.net.init(strategy.seeds)
            for task, old in enumerate(before):
                new = kept.decoded(task)
                moved = _distance(new, old) / _distance(old, start).clamp_min(1e-12)
                assert encoded_anew or task in tells or bool((moved < TOLD).all()), (
                    f"learning moved the net of task {task} by {moved.tolist()} of its way, and no event says so: yield "
                    "CodesDrifted, or Consolidated"
                )
                if task in tells:
                    assert torch.allclose(torch.tensor(tells[task]), moved, rtol=1e-3, atol=1e-5), (
                        f"CodesDrifted says that task {task} moved by {tells[task]} of its way; it moved by {moved.tolist()}"
                    )
            before = [{name: t.clone() for name, t in kept.decoded(task).items()} for task in range(len(before) + 1)]

    def _after_each_task(self, **options: Any) -> Iterator[tuple[Stream, Strategy, KeepsNets, list[Event]]]:
        """Yield stream, strategy (twice: as what keeps nets, too) and the events of each experience, after it."""
        stream, strategy, events = walk(self.experiment(**{"agenda.curve_batches": 0, **options}))
        if not isinstance(strategy, KeepsNets):
            pytest.fail(f"the strategy '{self.strategy}' has no decoded and read_by_recall: it keeps no nets")
        heard: list[Event] = []
        for event in events:
            heard.append(event)
            if isinstance(event, TaskLearned):
                yield stream, strategy, strategy, heard
                heard.clear()


def _distance(one: Params, other: Params) -> Tensor:
    """Return the distance of two nets of every seed, ``[S]``."""
    moved: Tensor = torch.cat([(one[name] - other[name]).float().flatten(1) for name in one], dim=1).norm(dim=1)
    return moved
