"""The contract of strategies: what the engine relies on, whatever is learned and however."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from cl_engine.errors import UsageError
from cl_engine.events import EpochEnded, Event, Progress, Saved
from cl_engine.testing import small
from cl_engine.testing.answers import AnswersContract
from cl_engine.testing.devices import DevicesContract
from cl_engine.testing.logs import LeftOnDisk, assert_same_facts, facts
from cl_engine.testing.memory import MemoryContract
from cl_engine.testing.targets import TargetsContract
from cl_engine.testing.walking import after_each_task, answers, contents, different, told, traced, walk
from cl_engine.training import workers

SETTINGS = ("task", "domain", "class")
# what the logs say of runs that nothing ended early, and how many events they had: two tests compare others with the same one
UNCUT: dict[tuple[type, str], tuple[dict[str, Any], int]] = {}
BETWEEN_EPOCHS: dict[str, Any] = {"agenda.save_every": 2, "train.epochs": 1}


class Cut(BaseException):
    """Ends a run where it stands, as a kill would.

    >>> issubclass(Cut, Exception)  # not caught by `except Exception`
    False
    """


class StrategyContract(AnswersContract, TargetsContract, MemoryContract, DevicesContract):
    """Holds a strategy to all that the engine's own are held to; each failure says what is broken and how to mend it.

    >>> class TestL2(StrategyContract):
    ...     strategy = "my_module:L2"
    ...     options = {"pull": 0.1}

    Attributes:
        cut_every: of how many events one is followed by a stop, in one of the settings; more for a strategy with many fits that
            are alike.
    """

    cut_every: ClassVar[int] = 7

    def test_a_seed_learns_the_same_alone_as_beside_others(self, setting: str) -> None:
        def learned(*seeds: int) -> list[torch.Tensor]:
            walked = after_each_task(self.experiment(seeds, **{"stream.setting": setting}))
            return [answers(stream, strategy, 0) for stream, strategy in walked]

        for one, several in zip(learned(7), learned(3, 7, 5), strict=True):
            torch.testing.assert_close(
                one[0],
                several[1],
                rtol=1e-3,
                atol=1e-3,
                msg=lambda text: f"seed 7 learns otherwise beside the seeds 3 and 5 than alone: {text}",
            )

    def test_a_seed_with_tasks_of_its_own_learns_the_same_alone_as_beside_others(self) -> None:
        if not type(self.experiment().build_strategy(self.experiment().stream())).per_seed:
            pytest.skip(f"the strategy '{self.strategy}' gives all seeds the same rows")

        def learned(place: int, *seeds: int) -> list[torch.Tensor]:
            walked = after_each_task(self.experiment(seeds, **{"stream.per_seed": True}))
            return [
                strategy.of_seed(place).predict(stream.test(1).of(place)[0], told(stream, 1))
                for stream, strategy in walked
            ]

        for alone, beside in zip(learned(0, 7), learned(1, 3, 7, 5), strict=True):
            torch.testing.assert_close(
                alone,
                beside,
                rtol=1e-3,
                atol=1e-3,
                msg=lambda text: (
                    f"where each seed has tasks of its own, seed 7 learns otherwise beside others than alone: {text}"
                ),
            )

    def test_what_is_learned_depends_on_how_many_tasks_there_are_only_if_the_strategy_says_so(self) -> None:
        setting = next((setting for setting in SETTINGS[:2] if setting in self.kind().settings), None)
        if setting is None:
            pytest.skip(f"the strategy '{self.strategy}' has a head for the classes of all tasks")
        own: dict[str, Any] = {"stream.setting": setting, "train.epochs": 1}
        short, longer = (after_each_task(self.experiment((0,), **own, **{"stream.n": n})) for n in (2, 3))
        for (_, before), (_, after) in zip(short, longer, strict=False):
            if after.looks_ahead:
                pytest.skip(f"the strategy '{self.strategy}' says that it looks ahead")
            changed = different(contents(before.state), contents(after.state))
            assert not changed, (
                f"the state is another one where more tasks are to come ({', '.join(changed)}): let it not depend on that, or "
                "say so by the property looks_ahead"
            )

    def test_a_kill_after_any_event_and_a_resume_give_the_same_log(self, tmp_path: Path) -> None:
        setting = self.kind().settings[0]  # in the others it is stopped, which is quicker: the next test
        experiment = self.experiment(**{"stream.setting": setting, **BETWEEN_EPOCHS})
        left = LeftOnDisk(tmp_path / "whole", tmp_path)
        whole = facts(experiment.run(left.folder, device="cpu", listeners=lambda stream: [left]) / "log.h5")
        UNCUT[type(self), setting] = whole, left.heard
        for folder, killed in left.found.items():
            resumed = experiment.run(folder, device="cpu")
            assert_same_facts(facts(resumed / "log.h5"), whole, f"killed after event {killed} and resumed: ")

    def test_a_cut_after_an_event_and_a_resume_give_the_same_log(self, setting: str, tmp_path: Path) -> None:
        experiment = self.experiment(**{"stream.setting": setting, **BETWEEN_EPOCHS})
        heard: list[Event] = []

        def hearing(event: Event) -> None:
            heard.extend([event] * (not isinstance(event, Progress)))

        if (type(self), setting) not in UNCUT:
            folder = experiment.run(tmp_path / "whole", listeners=lambda stream: [hearing], device="cpu")
            UNCUT[type(self), setting] = facts(folder / "log.h5"), len(heard)
        whole, events = UNCUT[type(self), setting]
        # each strategy is cut after other events, and in other settings after others again: together after every `cut_every`-th
        settings = self.kind().settings
        every = self.cut_every * len(settings)
        begin = 1 + (zlib.crc32(self.strategy.encode()) + self.cut_every * settings.index(setting)) % every
        for cut in range(begin, events, every):
            heard.clear()

            def cutting(event: Event, cut: int = cut) -> None:
                hearing(event)
                if len(heard) == cut:
                    raise Cut

            with pytest.raises(Cut):
                experiment.run(tmp_path / f"cut {cut}", device="cpu", listeners=lambda stream: [cutting])
            resumed = experiment.run(tmp_path / f"cut {cut}", device="cpu")
            assert_same_facts(facts(resumed / "log.h5"), whole, f"cut after event {cut} and resumed: ")

    @pytest.mark.parametrize("curves", [0, 1])
    def test_a_cut_in_the_middle_of_an_experience_is_resumed_from_the_last_epoch_saved(
        self, curves: int, tmp_path: Path
    ) -> None:
        often: dict[str, Any] = {"agenda.save_every_epochs": 1, "agenda.save_every": 2, "agenda.curve_batches": curves}
        own = {
            "stream.setting": self.kind().settings[-1],
            "stream.n": 2,
            "agenda.curve_tasks": curves,
            "train.epochs": 3,
        }
        experiment = self.experiment(**own, **often)
        whole = facts(experiment.run(tmp_path / "whole", device="cpu") / "log.h5")
        saved, epochs, kills = 0, [0], 0

        def cutting(event: Event) -> None:
            nonlocal saved
            epochs[-1] += isinstance(event, EpochEnded)
            if isinstance(event, Saved) and event.midway:
                saved += 1
                if saved % 3 == 2:
                    raise Cut

        while True:
            try:
                experiment.run(tmp_path / "cut", device="cpu", listeners=lambda stream: [cutting])
                break
            except Cut:
                kills += 1
                epochs.append(0)
                assert kills < 10, f"a run that is cut does not get on: epochs made between two cuts: {epochs}"
        assert (
            kills or curves or not self.kind().trains
        )  # fits whose strategy reads the tests in their middle are run anew
        assert_same_facts(facts(tmp_path / "cut" / "log.h5"), whole, "cut in the middle of an experience and resumed: ")

    def test_seeds_learn_the_same_in_processes_of_their_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Compare them with one thread each either way, so bit for bit."""
        overrides: dict[str, Any] = {
            "net.hidden": [64, 64, 64],  # too large to run as one vmap
            "agenda.curve_epochs": 1,
            "stream.n": 2,
        }

        def traces() -> list[Any]:
            events = walk(self.experiment(**overrides))[2]
            return [line for event in events for line in traced(event)]

        if not hasattr(os, "fork"):
            pytest.skip("this system has no fork")
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            in_turn = traces()
            monkeypatch.setattr(workers, "FORK_FROM", 0)
            monkeypatch.setattr(
                workers, "processes", lambda groups, device: min(groups, 2)
            )  # as if there were two threads
            assert traces() == in_turn, "what is learned depends on the process that seeds learn in"
        finally:
            torch.set_num_threads(threads)

    @pytest.mark.parametrize("net", ["with_batchnorm", "with_dropout"])
    def test_it_runs_with_batchnorm_and_dropout(self, net: str) -> None:
        own: dict[str, Any] = {"net.name": f"{small.__name__}:{net}", "net.hidden": 8, "stream.n": 2}
        for stream, strategy in after_each_task(self.experiment(**own)):
            assert answers(stream, strategy, 0).isfinite().all(), f"answers are not finite with a net {net}"

    def test_it_learns_with_products_in_bfloat16(self) -> None:
        for stream, strategy in after_each_task(self.experiment(**{"train.precision": "bfloat16", "stream.n": 2})):
            found = answers(stream, strategy, 0).dtype
            assert found == torch.float32, f"answers are {found}: only products of training steps are in bfloat16"

    def test_it_learns_from_images_that_are_moved_and_mirrored(self) -> None:
        if not self.kind().trains:
            pytest.skip(f"the strategy '{self.strategy}' takes no steps")

        def learned(**overrides: Any) -> torch.Tensor:
            *_, (stream, strategy) = after_each_task(self.experiment((0, 1), **{"stream.n": 2, **overrides}))
            return answers(stream, strategy, 0)

        moved = learned(**{"train.crop": 1, "train.flip": 0.5})
        assert bool(moved.isfinite().all()), "answers are not finite with train.crop and train.flip"
        assert not torch.allclose(moved, learned()), "train.crop and train.flip change nothing: learn with self.fit"

    def test_every_option_says_what_it_means(self) -> None:
        kind = self.kind()
        silent = [name for name, info in kind.Options.model_fields.items() if not info.description]
        assert not silent, f"say what these options mean, option(default, 'meaning'): {', '.join(silent)}"
        assert len((kind.__doc__ or "").split("\n")[0]) > 20, (
            "the first line of the docstring says what the strategy does"
        )

    def test_a_setting_it_cannot_serve_is_refused_in_a_sentence(self) -> None:
        for setting in set(SETTINGS) - set(self.kind().settings):
            experiment = self.experiment(**{"stream.setting": setting})
            with pytest.raises(UsageError, match="must be told the task"):
                experiment.build_strategy(experiment.stream())
        with pytest.raises(UsageError, match="no option named 'nonsense'"):
            self.kind()(None, nonsense=1)  # type: ignore[arg-type]
