"""The contract of streams: what the engine relies on, whatever arrives and in whatever order."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from cl_engine.data.seeded_stream import SeededStream
from cl_engine.data.source import Arrays
from cl_engine.data.source_stream import SourceStream
from cl_engine.data.stream import Data, Stream
from cl_engine.data.stream_of_seeds import for_seeds
from cl_engine.errors import UsageError
from cl_engine.runs import plugins
from cl_engine.testing import small
from cl_engine.testing.on_gpu import OnGpu

SETTINGS = ("task", "domain", "class")
TASKS = 3


@dataclass(frozen=True)
class Given:
    """Sources that are all the same arrays, whatever they are called.

    >>> Given(small.images()).load("whatever").classes
    6
    """

    arrays: Arrays
    root: Path = Path(os.devnull) / "nowhere"  # where nothing can be kept

    def load(self, name: str) -> Arrays:
        """Return the arrays."""
        return self.arrays

    def plugin(self, kind: Literal["targets", "labels"], name: str) -> type[Any]:
        """Return the class of a target or label function."""
        return plugins.load(kind, name)


def _distinct(data: Data) -> set[tuple[float, ...]]:
    """Return the inputs there are, each once."""
    return set(map(tuple, data.x.flatten(1).tolist()))


def same(one: Data, other: Data) -> bool:
    """Return whether two sets of rows are equal."""
    return torch.equal(one.x, other.x) and torch.equal(one.y, other.y)


class StreamContract(OnGpu):
    """Holds a stream to all that the engine's own are held to; each failure says what is broken and how to mend it.

    >>> class TestPairs(StreamContract):
    ...     stream = "my_module:Pairs"
    ...     options = {"gap": 2}

    Attributes:
        stream: the stream's name, or ``module:Class``.
        options: its options; ``source`` and ``sources`` need not be given.
        arrays: what its sources hold, whatever they are called.
    """

    stream: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    arrays: ClassVar[Arrays] = small.images()

    @classmethod
    def kind(cls) -> type[Stream]:
        """Return the class under test."""
        found: type[Stream] = plugins.load("streams", cls.stream)
        return found

    @classmethod
    def make(cls, *, on: str = "cpu", **changes: Any) -> Stream:
        """Return the stream under test, with changes of its options, its rows ``on`` a device."""
        known = cls.kind().Options.model_fields
        defaults: dict[str, Any] = {"n": TASKS, "source": "given", "sources": ["given", "more", "most"]}
        options = {**{key: value for key, value in defaults.items() if key in known}, **cls.options, **changes}
        return cls.kind().build(options, Given(cls.arrays), on)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run what depends on the setting in each setting that the stream has."""
        if "setting" in metafunc.fixturenames:
            metafunc.parametrize("setting", [setting for setting in SETTINGS if self._has(setting)])

    def _has(self, setting: str) -> bool:
        try:
            self.make(setting=setting)
        except UsageError as error:
            if "stream.setting" in str(error):
                return False
            raise
        return True

    def needs(self, *options: str) -> None:
        """Skip a test of options that the stream does not have."""
        missing = set(options) - self.kind().Options.model_fields.keys()
        if missing or not issubclass(self.kind(), SeededStream):
            pytest.skip(f"the stream '{self.stream}' has no {', '.join(sorted(missing)) or 'one source'}")

    def test_on_a_gpu_its_rows_are_there_and_are_those_of_the_cpu(self, on_gpu: str) -> None:
        there, here = self.make(on=on_gpu), self.make()
        for step in range(2):
            pairs = [(there[step].train, here[step].train), (there[step].validation, here[step].validation)]
            for found, wanted in (*pairs, (there.test(there.task_id(step)), here.test(here.task_id(step)))):
                assert {found.x.device.type, found.y.device.type} == {on_gpu}, "rows are on the device of the stream"
                torch.testing.assert_close((found.x.cpu(), found.y.cpu()), (wanted.x, wanted.y))

    def test_a_step_gives_the_same_tensors_whenever_and_in_whatever_order_it_is_asked_for(self, setting: str) -> None:
        stream, other = self.make(setting=setting), self.make(setting=setting)
        forwards = [stream[step] for step in range(TASKS)]
        for step in (2, 0, 1):
            again = other[step]
            pure = same(forwards[step].train, again.train) and same(forwards[step].validation, again.validation)
            assert pure, (
                f"stream[{step}] depends on what was asked for before: derive what is drawn from the step or the task, "
                "with cl_engine.core.rng.arrays(seed, purpose, task)"
            )
            assert same(stream.test(again.task_id), other.test(again.task_id)), (
                f"test({again.task_id}) depends on what was asked for before"
            )

    def test_labels_lie_within_the_outputs_and_every_class_of_a_task_is_there(self, setting: str) -> None:
        stream = self.make(setting=setting)
        if not stream.only_accuracy:
            pytest.skip(f"the tasks of '{self.stream}' ask for something else than classes")
        seen: set[int] = set()
        for step in range(TASKS):
            experience = stream[step]
            labels, classes = set(experience.train.y.tolist()), experience.classes
            assert len(labels) == classes, (
                f"task {step} says it has {classes} classes, and its rows are of {len(labels)}"
            )
            tested = set(stream.test(experience.task_id).y.tolist())
            assert labels == tested, f"test rows of task {step} have labels {tested}, training rows {labels}"
            assert max(labels) < stream.outputs, (
                f"a label of task {step} is {max(labels)}, and outputs is {stream.outputs}"
            )
            if setting == "class":
                assert not labels & seen, (
                    f"labels {labels & seen} are of two tasks: in the class setting they are global"
                )
            else:
                assert labels == set(range(classes)), f"labels of task {step} are {labels}: local ones count from 0"
            seen |= labels
        assert setting != "class" or len(seen) == stream.outputs, f"outputs is {stream.outputs} for {len(seen)} labels"

    def test_tasks_are_numbered_in_the_order_in_which_they_first_arrive(self) -> None:
        stream = self.make()
        assert [stream.task_id(step) for step in range(TASKS)] == list(range(TASKS)), (
            "ids are given in order of arrival"
        )
        self.needs("revisit")
        stream = self.make(revisit=[1, 0, 1])
        ids = [stream.task_id(step) for step in range(6)]
        assert ids == [0, 1, 2, 1, 0, 1], f"stream.revisit = [1, 0, 1] gave the tasks {ids}"
        assert same(stream[1].train, stream[3].train), "a task that comes back has other rows"
        assert self.make(n=2, revisit=2).n_steps == 6

    def test_beyond_its_end_there_is_an_index_error_and_no_task(self) -> None:
        stream = self.make(n=2)
        for step in (2, -1):
            with pytest.raises(IndexError, match="outside a stream of 2"):
                stream[step]

    def test_validation_rows_are_set_aside_from_the_training_rows(self) -> None:
        self.needs("validation", "samples_per_class")
        whole = self.make(n=2, samples_per_class=8)
        parted = self.make(n=2, samples_per_class=8, validation=0.25)
        for step in range(2):
            one, other = whole[step], parted[step]
            assert len(other.validation) == 2 * one.classes
            assert len(other.train) + len(other.validation) == len(one.train)
            rows = torch.cat([other.train.x, other.validation.x]).flatten(1)
            assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, one.train.x.flatten(1).tolist()))

    def test_validation_rows_of_a_task_are_those_of_its_first_experience(self) -> None:
        stream = self.make(validation=0.25) if "validation" in self.kind().Options.model_fields else self.make()
        for step in range(2):
            task, own = stream.task_id(step), stream.validation_rows(stream.task_id(step))
            if task not in map(stream.task_id, range(step)):
                assert same(own, stream[step].validation)

    def test_how_many_rows_there_are_to_learn_from_is_told_truly_or_not_at_all(self) -> None:
        stream = self.make()
        for step in range(TASKS):
            told, found = stream.train_rows(step), len(stream[step].train)
            assert told in (None, found), f"train_rows({step}) is {told}, and the experience has {found} rows"

    def test_rows_that_are_learned_are_not_tested(self, setting: str) -> None:
        stream = self.make(setting=setting)
        if not stream.held_out:
            pytest.skip(f"the stream '{self.stream}' says that it tests rows that are learned")
        for step in range(TASKS):
            experience = stream[step]
            tested = _distinct(stream.test(experience.task_id))
            both = tested & (_distinct(experience.train) | _distinct(experience.validation))
            assert not both, (
                f"{len(both)} rows of task {step} are learned and tested: a test row is one that nothing was learned or chosen by"
            )

    def test_an_experience_given_out_is_not_kept_alive(self) -> None:
        stream = self.make(n=2)
        experience = stream[0]
        kept = weakref.ref(experience.train.x)
        del experience
        gc.collect()
        assert kept() is None, "the stream keeps the rows it has given out: a long one would fill the memory"

    def test_inputs_are_of_one_shape_and_of_a_type_that_nets_take(self) -> None:
        stream = self.make()
        stored = torch.from_numpy(self.arrays.train_x).dtype
        for step in range(TASKS):
            for data in (stream[step].train, stream.test(stream.task_id(step))):
                kinds = (stored,) if isinstance(stream, SourceStream) else (torch.uint8, torch.float32)
                assert data.x.dtype in kinds, f"inputs are {data.x.dtype}: {' or '.join(map(str, kinds))} is wanted"
                assert tuple(data.x.shape[1:]) == stream.input_shape, (
                    f"inputs of task {step} have shape {tuple(data.x.shape[1:])}, input_shape is {stream.input_shape}"
                )
                wanted = torch.int64 if stream.only_accuracy else torch.float32
                assert data.y.dtype == wanted, f"labels are {data.y.dtype}: {wanted} is wanted"

    def test_sample_limits_hold_for_each_class(self) -> None:
        self.needs("samples_per_class", "test_samples_per_class")
        stream = self.make(n=2, samples_per_class=3, test_samples_per_class=2)
        assert set(stream[0].train.y.bincount().tolist()) == {3}
        assert set(stream.test(0).y.bincount().tolist()) == {2}

    def test_tasks_in_another_order_are_the_same_tasks(self) -> None:
        self.needs("task_order")
        plain, shuffled = self.make(), self.make(task_order=[2, 0, 1])
        for place, kind in enumerate((2, 0, 1)):
            assert same(shuffled[place].train, plain[kind].train), "stream.task_order changes what is in a task"
            assert same(shuffled.test(place), plain.test(kind))
            assert shuffled.name_of(place) == plain.name_of(kind)
            assert (shuffled[place].task_id, shuffled[place].rng_key) == (place, kind)
        assert self.make(task_order=[1, 0, 2], revisit=1)[4].rng_key == 4

    def test_a_learner_with_tasks_of_its_own_has_the_same_ones_whoever_else_learns(self) -> None:
        self.needs("per_seed")
        known = self.kind().Options.model_fields.keys()
        limits = {"samples_per_class": 4, "test_samples_per_class": 2}
        options: dict[str, Any] = {"per_seed": True, **{name: limits[name] for name in limits.keys() & known}}
        alone, beside = for_seeds(self.make(**options), [7]), for_seeds(self.make(**options), [3, 7])
        for step in (2, 0, 1):
            for one, several in (
                (alone[step].train, beside[step].train),
                (alone.test(step).shuffled(), beside.test(step).shuffled()),
            ):
                for mine, theirs in zip(one.of(0), several.of(1), strict=True):
                    assert torch.equal(mine, theirs), "what a seed learns depends on the seeds beside it"
                assert one.of_seeds is not None and torch.equal(one.x, one.of(0)[0])

    def test_every_option_says_what_it_means_and_unknown_ones_are_refused(self) -> None:
        kind = self.kind()
        silent = [name for name, info in kind.Options.model_fields.items() if not info.description]
        assert not silent, f"say what these options mean, option(default, 'meaning'): {', '.join(silent)}"
        with pytest.raises(UsageError, match=r"no option named 'stream\.nonsense'"):
            self.make(nonsense=1)
