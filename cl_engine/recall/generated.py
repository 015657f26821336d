"""Nets that a generator makes from codes, one a task, as parts of a strategy's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from cl_engine.core import rng
from cl_engine.core.bank import Bank
from cl_engine.core.state import State, bytes_by_part
from cl_engine.core.tree import Tree
from cl_engine.data.stream import Data, Experience
from cl_engine.nn.learner import Learner
from cl_engine.nn.net import Params
from cl_engine.recall.events import CodesDrifted, CodeStarted, SkillBytes
from cl_engine.recall.hypernetwork import Generator, drawn_past
from cl_engine.recall.measure import PROBE_ROWS

RECALLED = ("generator", "codes", "beside")
Make = Callable[[Params, Tensor, Tensor], Tensor]


class GeneratedNets:
    """The nets of all tasks as codes ``[S, n, d]``, one generator φ, the start θ₀ they share, and what is kept beside.

    Beside stand, as they are and a row a task, tensors that are not made: statistics, frozen weights, heads if so wished.

    >>> from cl_engine.nn.net import Net
    >>> from types import SimpleNamespace
    >>> from cl_engine.recall.hypernetwork import GeneratorOptions
    >>> from cl_engine.recall.manifest import Manifest
    >>> net = Net(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)), (1, 2, 2))
    >>> learner = SimpleNamespace(net=net, seeds=[0, 1], state={}, target=None)
    >>> drawn = net.init([0, 1])
    >>> generator = Generator(Manifest.of(net, drawn), GeneratorOptions(), torch.device("cpu"))
    >>> make = lambda phi, start, codes: start + generator.change(phi, codes)
    >>> nets = GeneratedNets(learner, drawn, generator, make)
    >>> learner.state = nets.start()
    >>> nets.params(0)["head.weight"].shape
    torch.Size([2, 3, 4])

    Attributes:
        manifest: the tensors that are made, and those beside.
        generator: what makes the change of weights from a code.
        make: ``make(phi, start, codes [n, d]) -> [n, P]`` gives the weights of one seed that answers are given with.
    """

    def __init__(self, learner: Learner, drawn: Params, generator: Generator, make: Make) -> None:
        """Belong to a strategy whose nets start from ``drawn``, ``{name: [S, …]}``."""
        self._learner, self._drawn, self.generator, self.make = learner, drawn, generator, make
        self.manifest = generator.manifest

    def start(self) -> State:
        """Return the state before the first experience."""
        seeds, device = len(self._learner.seeds), self._learner.net.device
        banks = {entry.name: Bank.empty(seeds, entry.shape, entry.dtype, device) for entry in self.manifest.outside}
        return {
            "generator": self.generator.init(self._learner.seeds),
            "codes": Bank.empty(seeds, (self.generator.options.code,), device=device),
            "start": self.manifest.vector(self._drawn),
            **({"beside": banks} if banks else {}),
        }

    def trained(self, task_id: int, code: Tensor) -> Tree:
        """Return what is fitted for a task: φ, its code ``[S, d]``, and what is beside."""
        return {"generator": self.state["generator"], "code": {"code": code}, "beside": self.beside(task_id)}

    def frozen(self) -> Tree:
        """Return what a fit reads: θ₀, φ as it is before the task, and all codes."""
        before = {name: tensor.clone() for name, tensor in self.state["generator"].items()}
        return {"start": self.state["start"], "before": before, "codes": self.state["codes"].rows}

    def keep(self, task_id: int, fitted: Tree) -> None:
        """Keep what was fitted from `trained`."""
        self.state["generator"] = fitted["generator"]
        self.state["codes"].put(task_id, fitted["code"]["code"])
        for name, tensor in fitted.get("beside", {}).items():
            self.state["beside"][name].put(task_id, tensor)

    def params(self, task_id: int, phi: Params | None = None, make: Make | None = None) -> Params:
        """Return the net of a task, ``{name: [S, …]}``; of one not yet met the net that it would start from."""
        return self.made(self.code(task_id), self.beside(task_id), phi, make)

    def made(self, code: Tensor, beside: Params, phi: Params | None = None, make: Make | None = None) -> Params:
        """Return the nets ``{name: [S, …]}`` of codes ``[S, d]``, one of each seed."""
        return self.manifest.params(self.vectors(code.unsqueeze(1), phi, make)[:, 0], beside)

    @torch.no_grad()
    def vectors(self, codes: Tensor, phi: Params | None = None, make: Make | None = None) -> Tensor:
        """Return the weights ``[S, n, P]`` of codes ``[S, n, d]``; of φ and ``make`` as given, or those in force."""
        phi, make, start = phi or self.state["generator"], make or self.make, self.state["start"]
        codes = codes.clone(memory_format=torch.contiguous_format)
        seeds = range(len(codes))
        return torch.stack([make(own_weights(phi, s), start[s], codes[s]) for s in seeds])

    def code(self, task_id: int) -> Tensor:
        """Return the code ``[S, d]`` of a task; of one not yet met the one it starts from."""
        codes: Bank = self.state["codes"]
        met = task_id < len(codes)
        return codes[task_id] if met else self.generator.first_codes(self._learner.seeds, task_id)

    def beside(self, task_id: int) -> Params:
        """Return the tensors of a task that are not made."""
        banks: Mapping[str, Bank] = self.state.get("beside", {})
        return {name: bank[task_id] if task_id < len(bank) else self._drawn[name] for name, bank in banks.items()}

    def of_one(self, vector: Tensor, beside: Params) -> Params:
        """Return the net of one seed, ``{name: […]}``, of a vector ``[P]``."""
        inside = self.manifest.params(vector.unsqueeze(0), {})
        return {**{name: tensor[0] for name, tensor in inside.items()}, **beside}

    def gradient(self, beside: Params, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """Return ∇L of one seed's weights ``[n, P]`` on rows; statistics are left as training leaves them."""
        net, target = self._learner.net, self._learner.target

        def loss(weights: Tensor) -> tuple[Tensor, Params]:
            # what is outside may not be changed in here
            own = {name: tensor.clone() for name, tensor in beside.items()}
            return target.loss(net.one(self.of_one(weights, own), x), y), own

        found = []
        for one in weights:
            gradient, left = torch.func.grad(loss, has_aux=True)(one)
            with torch.no_grad():
                for name in net.updated & beside.keys():
                    beside[name].copy_(left[name])
            found.append(gradient)
        return torch.stack(found)

    def past(self, task_id: int) -> list[int]:
        """Return the other tasks that have a code."""
        return [task for task in range(len(self.state["codes"])) if task != task_id]

    def rehearsed(self, experience: Experience) -> Callable[[int, int, int], Sequence[float]]:
        """Return what draws, for each batch of a fit, the past codes that are held: their rows in the bank."""
        past = self.past(experience.task_id) if self.generator.options.beta else []
        return partial(_places, past, self.generator.options.rehearse, experience.key)

    def first_code(self, experience: Experience, makes: Mapping[float, Make]) -> tuple[Tensor, list[CodeStarted]]:
        """Return the code to start from: the past one that fits the rows best, by any of ``makes``, where that is asked for."""
        task = experience.task_id
        code, past = self.code(task), self.past(task)
        if not self.generator.options.warm or not past or task < len(self.state["codes"]):
            return code, []
        past = list(drawn_past(past, self.generator.options.rehearse, experience.key, "warm"))
        rows = experience.train.spread(PROBE_ROWS)
        tried = [(source, time) for source in past for time in makes]
        losses = torch.stack([self._losses(source, makes[time], rows) for source, time in tried], dim=1)
        least, places = losses.min(dim=1)
        chosen = [tried[place] for place in places.tolist()]
        every: Tensor = self.state["codes"].rows
        event = CodeStarted(
            step=experience.step,
            task_id=task,
            source=tuple(float(source) for source, _ in chosen),
            time=tuple(time for _, time in chosen),
            loss=tuple(least.tolist()),
        )
        return torch.stack([every[seed, source] for seed, (source, _) in enumerate(chosen)]), [event]

    def settle(self, experience: Experience, batch: int) -> None:
        """Find the statistics of a task's net, where it has any, by an epoch in training mode without learning."""
        net, task, seeds = self._learner.net, experience.task_id, self._learner.seeds
        banks: dict[str, Bank] = self.state.get("beside", {})
        names = net.updated & banks.keys()
        if not names:
            return
        params, train = self.params(task), experience.train
        for seed, number in enumerate(seeds):
            own = {name: tensor[seed].clone() for name, tensor in params.items()}
            order = torch.randperm(len(train), generator=rng.tensors(number, "settle", experience.key))
            with torch.no_grad(), rng.ambient(number, "settled", experience.key, device=net.device):
                for rows in order.split(batch):
                    if len(rows) > 1:
                        x = train.x[rows.to(train.x.device)].to(net.device)
                        net.one(own, net.laid_out(net.prepare(x)), True)
            for name in names:
                params[name][seed] = own[name]
        for name in names:
            banks[name].put(task, params[name])

    def drifts(self, before: Params, experience: Experience) -> list[CodesDrifted]:
        """Return how far past nets moved while a task was learned, as a share of their distance from θ₀."""
        past = drawn_past(self.past(experience.task_id), self.generator.options.rehearse, experience.key, "drift")
        found = []
        for task in past:
            code = self.code(task).unsqueeze(1)
            old, new = self.vectors(code, before)[:, 0], self.vectors(code)[:, 0]
            share = (new - old).norm(dim=1) / (old - self.state["start"]).norm(dim=1).clamp_min(1e-12)
            found.append(CodesDrifted(step=experience.step, task_id=task, distance=tuple(share.tolist())))
        return found

    @property
    def read_by_recall(self) -> tuple[str, ...]:
        """Parts of the state that making nets reads: θ₀ where it is a backbone, as it follows from the seed otherwise."""
        return (*RECALLED, "start") if self._learner.net.pretrained else RECALLED

    def bytes(self, experience: Experience) -> SkillBytes:
        """Return what the codes take: θ₀ counts where it is a backbone, and φ twice for who learns on, who needs the old one."""
        sizes, tasks = bytes_by_part(self.state), len(self.state["codes"])
        if not self._learner.net.pretrained:
            sizes.pop("start")
        recall = sum(size for part, size in sizes.items() if part in self.read_by_recall)
        return SkillBytes(
            step=experience.step,
            skills=tasks,
            recall_only=recall,
            in_all=sum(sizes.values()) + sizes["generator"] * (tasks > 1),
            kept_whole=tasks * self.manifest.bytes,
        )

    @property
    def state(self) -> State:
        """The strategy's state."""
        return self._learner.state

    def _losses(self, task: int, make: Make, rows: Data) -> Tensor:
        outputs = self._learner.net.all(self.params(task, make=make), rows.x)
        return torch.stack([self._learner.target.loss(own, rows.y.to(own.device)) for own in outputs])


def own_weights(phi: Params, seed: int) -> Params:
    """Return a copy of one seed's weights: a product with few rows rounds by where in memory weights begin."""
    return {name: tensor[seed].clone() for name, tensor in phi.items()}


def _places(past: Sequence[int], count: int, key: int, epoch: int, batch: int, batches: int) -> Sequence[float]:
    return [float(place) for place in drawn_past(past, count, key, epoch, batch)]
