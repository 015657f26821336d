"""A torch module as a function of its weights, for one seed or for several side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from cl_engine.core import rng
from cl_engine.core.torch_defaults import torch_defaults
from cl_engine.core.tree import leaves_with_path, tree_map
from cl_engine.errors import UsageError
from cl_engine.nn.batching import Maps, batching_pays, maps_of, rows_at_once, runs_batched
from cl_engine.nn.calling import Caller
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT, reads_places
from cl_engine.nn.hooks import Hook, gating
from cl_engine.nn.memory_format import channels_last
from cl_engine.nn.question import Question
from cl_engine.nn.scaling import Inputs
from cl_engine.nn.template import Template
from cl_engine.nn.weights import fitting

Params = dict[str, Tensor]


class Net(Inputs):
    """A network without weights of its own: they are handed to it, ``{name: [S, …]}``, or ``{name: […]}`` for one seed.

    Any ``nn.Module`` serves, unchanged. The ``nn.Linear``, or 1×1 ``nn.Conv2d``, that gives its output is the head (its names
    become ``head.weight [O, width]`` and ``head.bias [O]``), whatever comes before it gives the features. Buffers (BatchNorm
    statistics) travel among the weights under their own names; `is_buffer` tells them apart. A head that is a convolution
    is read at each place: logits and features ``[N, O]`` and ``[N, width]`` are then ``[N, O, h, w]`` and ``[N, width, h, w]``.

    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    >>> net.all(net.init([0, 1]), torch.zeros(5, 1, 2, 2)).shape
    torch.Size([2, 5, 3])

    Attributes:
        layers: names of the module's parts, in its own order.
        shapes, dtypes: shape and type of every weight and buffer of one seed, by name, in order.
        frozen: names of the weights that the module itself has frozen (``requires_grad = False``).
        outputs, width: numbers of logits, and of features that the head reads.
        places: whether the head is read at each place of a map.
        pretrained: what every seed starts from in place of random weights, ``{name: […]}``: the scenario's backbone.
        parameters: number of weights of one seed, buffers not counted.
        stochastic: whether training draws random numbers, as trial runs showed (dropout).
    """

    @torch_defaults()
    def __init__(
        self,
        build: Callable[[], nn.Module],
        input_shape: Sequence[int],
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        pad_value: Sequence[float] = (0.0,),
        device: torch.device | str = "cpu",
        pretrained: Mapping[str, Tensor] | None = None,
        vocabulary: int | None = None,
    ) -> None:
        """Wrap what ``build`` returns; ``mean`` and ``std`` (a channel each, in stored units) scale uint8 inputs.

        ``pad_value`` (a channel each) is what float32 images are padded with where that is asked for.
        ``pretrained`` holds weights and buffers ``{name: […]}``, by the module's names or ours, that every seed starts
        from in place of random ones; the head stays random. ``vocabulary`` says how many int64 tokens the inputs are of.

        Raises:
            UsageError: if the module cannot serve (`cl_engine.nn.trial`), or does not have the pretrained tensors.
        """
        super().__init__(input_shape, mean, std, pad_value, torch.device(device), vocabulary)
        template = Template(build, self.example(2))
        self._build, self._module, self._traits = template.build, template.module, template.traits
        self._whole, self._body = Caller(template, template.module), Caller(template, template.body)
        self._rename = template.head_names
        self._back = {ours: theirs for theirs, ours in self._rename.items()}
        self.outputs, self.width, self.stochastic = self._traits.outputs, template.width, self._traits.stochastic
        self.places, self._kernel = self._traits.places, reads_places(self._module.get_submodule(self.head))
        self._training = False
        self._buffers = frozenset(name for name, _ in self._module.named_buffers())
        self.frozen = frozenset(self._rename.get(name, name) for name in template.frozen)
        tensors = self._named(self._module)
        self.shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        self.dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        self.layers = [name for name, _ in self._module.named_modules()]
        self.pretrained = self._adopted(pretrained or {}, tensors)
        self._convolves = any(isinstance(part, nn.modules.conv._ConvNd) for part in self._module.modules())
        self.parameters = sum(tensor.numel() for tensor in self._module.parameters())

    def side_by_side(self, seeds: int) -> bool:
        """Return whether this many seeds run faster as one vmap than in turn (`batching_pays`).

        Nets with dropout or running statistics never run as one, so that a seed's numbers do not depend on the others; nor
        do nets that `torch.vmap` cannot run, which is tried out.
        """
        alone = seeds == 1 or self.stochastic or self._traits.noisy or self._buffers
        return not alone and batching_pays(self.parameters, seeds, self._convolves, self.device) and self._batched

    @cached_property
    @torch.inference_mode(False)  # whoever asks first, be it to answer
    def _batched(self) -> bool:
        learned = self.shapes.keys() - self._buffers - self.frozen
        return runs_batched(self.one, self.init((0, 1)), learned, self.example(2, 2))

    @cached_property
    def maps(self) -> Maps:
        """How many numbers there are in the maps between the layers of one row, and in the largest of them."""
        params = {name: tensor[0] for name, tensor in self.init((0,)).items()}
        return maps_of(lambda: self.one(params, self.example(1), False))

    def check_outputs(self, outputs: int) -> None:
        """Raise a `UsageError` if the net has fewer outputs than tasks ask for."""
        if self.outputs < outputs:
            why = "build it with as many as its builder is told, as num_classes or outputs"
            raise UsageError(f"net.name: the net has {self.outputs} outputs, and tasks ask for {outputs}: {why}")

    def is_buffer(self, name: str) -> bool:
        """Return whether ``name`` is a buffer of the module (BatchNorm statistics), which no gradient reaches."""
        return name in self._buffers

    def is_held(self, name: str) -> bool:
        """Return whether ``name`` is a buffer, or a weight that the module itself has frozen: neither is trained."""
        return name in self._buffers or name in self.frozen

    @property
    def updated(self) -> frozenset[str]:
        """Names of the buffers, and frozen weights, that a training step changes (BatchNorm statistics)."""
        return frozenset(self._rename.get(name, name) for name in self._traits.updated)

    def owner(self, name: str) -> nn.Module:
        """Return the layer that a weight or buffer of this name belongs to, to be asked for its kind and sizes."""
        return self._module.get_submodule(self._original(name).rpartition(".")[0])

    def attribute(self, name: str) -> Any:
        """Return an attribute of the module, None if it has none of that name."""
        return getattr(self._module, name, None)

    @torch_defaults()
    def init(self, seeds: Sequence[int]) -> Params:
        """Return the weights to start from, ``{name: [S, …]}``: random, of each seed by itself, but for pretrained ones."""
        drawn = []
        for seed in seeds:
            with rng.ambient(seed, "init"):
                module = self._build()
            named = self._named(module)
            drawn.append({name: self.pretrained.get(name, tensor.to(self.device)) for name, tensor in named.items()})
        return {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}

    def without_backbone(self) -> Net:
        """Return the same net with every weight initialised at random."""
        drawn = copy.copy(self)
        drawn.pretrained = {}
        return drawn

    @torch_defaults()
    def module(self, seed: int = 0, params: Params | None = None) -> nn.Module:
        """Return a module of its own with one seed's weights ``{name: […]}``, by default those that this seed starts from."""
        with rng.ambient(seed, "init"):
            module = self._build().to(self.device)
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for name, tensor in (self.pretrained if params is None else params).items():
            if (own := tensors.get(self._original(name))) is not None:
                own.data.copy_(tensor.reshape(own.shape))
        return module

    @property
    def draws(self) -> bool:
        """Whether the module draws random numbers when it answers, as trial runs showed."""
        return self._traits.noisy

    @property
    def changes_inputs(self) -> bool:
        """Whether the module writes over its inputs, as trial runs showed; it is given copies."""
        return self._traits.changes_inputs

    @property
    def head(self) -> str:
        """The name of the head in the module."""
        return next(iter(self._rename)).rsplit(".", 1)[0]

    def laid_out(self, x: Tensor) -> Tensor:
        """Return images or kernels ``[N, C, H, W]`` in the layout in memory that the net is fastest with; others as is."""
        return channels_last(x) if self._convolves and x.ndim == 4 else x

    def chunks(self, x: Tensor, seeds: int = 1) -> Sequence[Tensor]:
        """Return inputs ``[N, …]`` in pieces of as many rows as are answered at once by so many seeds side by side."""
        few = self._convolves and (self.device.type == "cpu" or self.places)
        return list(x.split(rows_at_once(few, self.device, seeds, lambda: self.maps.largest)))

    def one(
        self,
        params: Params,
        x: Tensor,
        training: bool | None = None,
        *,
        statistics: bool | Collection[str] = True,
        gates: Mapping[str, Tensor] | None = None,
        hooks: Mapping[str, Hook] | None = None,
    ) -> Tensor:
        """Return logits ``[N, C]``, or ``[N, C, h, w]`` where the head is read at places, of one seed's weights.

        Args:
            params: ``{name: […]}``.
            x: inputs ``[N, …]``.
            training: decides on dropout and BatchNorm; None: training inside of `fit`, not elsewhere.
            statistics: in training, BatchNorm uses and updates the statistics of the batch; False: it keeps its own;
                names of layers: those alone use the batch's.
            gates: factors ``[units]`` of the outputs of layers, by the layer's name in the module.
            hooks: functions of layer, inputs and output whose result takes the output's place, by the layer's name.
        """
        if isinstance(x, Question):
            answer = self.one(params, x.rows, training, statistics=statistics, gates=gates, hooks=hooks)
            mode = self._training if training is None else training
            return x.note(self, self.one, params, answer, gates=gates, hooks=hooks, training=mode)
        hooks = {**{layer: gating(gate) for layer, gate in (gates or {}).items()}, **(hooks or {})}
        return self._called(self._whole, params, x, training, statistics=statistics, hooks=hooks)

    def features(
        self, params: Params, x: Tensor, training: bool | None = None, *, hooks: Mapping[str, Hook] | None = None
    ) -> Tensor:
        """Return what the head would read, ``[N, width]`` or ``[N, width, h, w]``, of one seed; ``hooks`` as for `one`."""
        return self._called(self._body, params, x, training, hooks=hooks)

    def all(self, params: Params, x: Tensor, gates: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return logits ``[S, N, C, …]`` of every seed, in evaluation mode, a bounded number of rows at a time."""
        if not gates:
            return self.over_seeds(lambda p, part: self.one(p, part, False), params, x)
        both = {"params": params, "gates": dict(gates)}
        return self.over_seeds(lambda p, part: self.one(p["params"], part, False, gates=p["gates"]), both, x)

    def all_features(self, params: Params, x: Tensor) -> Tensor:
        """Return features ``[S, N, width, …]`` of every seed, in evaluation mode."""
        return self.over_seeds(lambda p, part: self.features(p, part, False), params, x)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Make `one` and `features` run in training mode inside the block."""
        self._training = True
        try:
            yield
        finally:
            self._training = False

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Make `one` and `features` run in evaluation mode inside the block, also in the middle of training."""
        before, self._training = self._training, False
        try:
            yield
        finally:
            self._training = before

    @torch.inference_mode()
    def over_seeds(self, function: Callable[[Any, Tensor], Tensor], params: dict[str, Any], x: Tensor) -> Tensor:
        """Return ``function(params, x)`` of every seed, ``[S, N, …]``, without gradients, a bounded number of rows at a time.

        ``params`` is a tree of tensors ``[S, …]``; the function is given one seed's, and inputs as `prepare` leaves them.
        """
        if isinstance(x, Question):
            return x.note(self, function, params, self.over_seeds(function, params, x.rows))
        seeds = len(next(leaf for _, leaf in leaves_with_path(params)))
        together, chunks = self.side_by_side(seeds), []
        each = [] if together else [tree_map(partial(self._own, s), params) for s in range(seeds)]
        for part in self.chunks(x, seeds if together else 1):
            ready = self.laid_out(self.prepare(part))
            if together:
                chunks.append(torch.vmap(lambda p, ready=ready: function(p, ready))(params))
            else:
                chunks.append(torch.stack([function(own, ready) for own in each]))
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=1)

    def _called(self, caller: Caller, params: Params, x: Tensor, training: bool | None, **how: Any) -> Tensor:
        own = {self._original(name): tensor for name, tensor in params.items()}
        if self._kernel and HEAD_WEIGHT in params:
            own[self._original(HEAD_WEIGHT)] = params[HEAD_WEIGHT][..., None, None]
        mode = self._training if training is None else training
        return caller(own, self.prepare(x), mode, drawing=self._training, **how)

    def _adopted(self, pretrained: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Params:
        found = {self._rename.get(name, name): tensor for name, tensor in pretrained.items()}
        return fitting(found, tensors, ignored=(HEAD_WEIGHT, HEAD_BIAS)) if pretrained else {}

    def _named(self, module: nn.Module) -> Params:
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        named = {self._rename.get(name, name): tensor.detach() for name, tensor in tensors.items()}
        return {**named, HEAD_WEIGHT: named[HEAD_WEIGHT].flatten(1)}

    def _own(self, seed: int, leaf: Tensor) -> Tensor:
        return self.laid_out(leaf[seed])

    def _original(self, name: str) -> str:
        return self._back.get(name, name)
