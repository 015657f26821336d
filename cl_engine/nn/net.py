"""A torch module as a function of its weights, for one seed or for several side by side."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cl_engine.core import rng
from cl_engine.core.tree import leaves_with_path, tree_map
from cl_engine.errors import UsageError
from cl_engine.nn.fast_linear import quick
from cl_engine.nn.head import HEAD_BIAS, HEAD_WEIGHT, head_names, without_head
from cl_engine.nn.hooks import Hook, gating
from cl_engine.nn.memory_format import channels_last
from cl_engine.nn.mode import Mode, explained
from cl_engine.nn.weights import fitting

Params = dict[str, Tensor]
ROWS_AT_ONCE = 2048
IMAGES_AT_ONCE = 128  # of a convolutional net on a CPU, whose intermediate maps then stay in the cache
VMAP_BELOW = 20_000  # weights, for each seed that runs beside the others …
VMAP_IN_ALL = 2_000_000  # … and of all seeds together: more do not stay in the cache


class Net:
    """A network without weights of its own: they are handed to it, ``{name: [S, …]}``, or ``{name: […]}`` for one seed.

    Any ``nn.Module`` serves, unchanged. Its last ``nn.Linear`` is the head (its names become ``head.weight`` and
    ``head.bias``), whatever comes before it gives the features. Buffers (BatchNorm statistics) travel among the
    weights under their own names; `is_buffer` tells them apart.

    >>> net = Net(lambda: nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), (1, 2, 2))
    >>> net.all(net.init([0, 1]), torch.zeros(5, 1, 2, 2)).shape
    torch.Size([2, 5, 3])

    Attributes:
        layers: names of the module's parts, in its own order.
        shapes: shape of every weight and buffer of one seed, by name, in order.
        input_shape: shape of an input, the axis of rows not counted.
        outputs: number of logits.
        width: number of features the head reads.
        parameters: number of weights of one seed, buffers not counted.
        pretrained: whether every seed starts from weights that were trained before (a backbone), but for the head.
        stochastic: whether training draws random numbers (dropout).
    """

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
    ) -> None:
        """Wrap what ``build`` returns; ``mean`` and ``std`` (a channel each, in stored units) scale uint8 inputs.

        ``pad_value`` (a channel each) is what float32 images are padded with where that is asked for.
        ``pretrained`` holds weights and buffers ``{name: […]}``, by the module's names or ours, that every seed starts
        from in place of random ones; the head stays random.

        Raises:
            UsageError: if the module refuses the inputs, has no Linear layer at its end to be the head, or does not have
                the pretrained tensors, in name and shape.
        """
        self.device = torch.device(device)
        self._build = build
        self._mean, self._std, self._black = (self._channels(values, input_shape) for values in (mean, std, pad_value))
        with rng.ambient(0, "template"):
            module = quick(build().to(self.device).eval().requires_grad_(False))
        self._rename = head_names(module)
        self._module, self._body = module, without_head(module, next(iter(self._rename)).rsplit(".", 1)[0])
        self._training = False
        self._modes = {part: Mode(part) for part in (self._module, self._body)}
        self._buffers = frozenset(name for name, _ in module.named_buffers())
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._names = tensors.keys()
        self._tied = len(list(module.parameters())) < len(list(module.named_parameters(remove_duplicate=False)))
        self.shapes = {self._rename.get(name, name): tuple(tensor.shape) for name, tensor in tensors.items()}
        self._body_names = frozenset(name for name, _ in (*self._body.named_parameters(), *self._body.named_buffers()))
        self.layers = [name for name, _ in module.named_modules()]
        self._pretrained = self._adopted(pretrained or {}, tensors)
        self.pretrained = bool(self._pretrained)
        self.input_shape = tuple(input_shape)
        self._probe(input_shape)
        self.stochastic = any(isinstance(part, nn.modules.dropout._DropoutNd) for part in module.modules())
        self._convolves = any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())
        self.parameters = sum(tensor.numel() for tensor in module.parameters())

    def side_by_side(self, seeds: int) -> bool:
        """Return whether this many seeds run faster as one vmap than in turn.

        Measured on two CPU cores: small fully connected nets gain, convolutions and large nets lose. Nets with dropout
        or running statistics never run as one, so that a seed's numbers do not depend on the others.
        """
        if seeds == 1 or self.stochastic or self._buffers:
            return False
        if self.device.type == "cuda":
            return True
        small = self.parameters < VMAP_BELOW * seeds and self.parameters * seeds < VMAP_IN_ALL
        return seeds >= 3 and small and not self._convolves

    def is_buffer(self, name: str) -> bool:
        """Return whether ``name`` is a buffer of the module (BatchNorm statistics), which no gradient reaches."""
        return name in self._buffers

    def owner(self, name: str) -> nn.Module:
        """Return the layer that a weight or buffer of this name belongs to, to be asked for its kind and sizes."""
        return self._module.get_submodule(self._original(name).rpartition(".")[0])

    def attribute(self, name: str) -> Any:
        """Return an attribute of the module, None if it has none of that name."""
        return getattr(self._module, name, None)

    def init(self, seeds: Sequence[int]) -> Params:
        """Return the weights that learning starts from, ``{name: [S, …]}``.

        They are initialised at random, each seed's derived from that seed alone, but for those that are pretrained.
        """
        drawn = []
        for seed in seeds:
            with rng.ambient(seed, "init"):
                module = self._build()
            tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
            named = {self._rename.get(name, name): tensor.detach() for name, tensor in tensors.items()}
            drawn.append({name: self._pretrained.get(name, tensor.to(self.device)) for name, tensor in named.items()})
        return {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}

    def module(self, seed: int) -> nn.Module:
        """Return a module of its own with the weights that this seed starts from, for code that wants a whole one."""
        with rng.ambient(seed, "init"):
            module = self._build().to(self.device)
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        for name, tensor in self._pretrained.items():
            tensors[self._original(name)].data.copy_(tensor)
        return module

    @property
    def head(self) -> str:
        """The name of the head in the module."""
        return next(iter(self._rename)).rsplit(".", 1)[0]

    def prepare(self, x: Tensor) -> Tensor:
        """Return inputs as float32, uint8 ones scaled by mean and standard deviation; float32 ones as they are."""
        return x if x.dtype == torch.float32 else x.to(torch.float32).sub_(self._mean).div_(self._std)

    def laid_out(self, x: Tensor) -> Tensor:
        """Return images or kernels ``[N, C, H, W]`` in the layout in memory that the net is fastest with; others as is."""
        return channels_last(x) if self._convolves and x.ndim == 4 else x

    def chunks(self, x: Tensor) -> Sequence[Tensor]:
        """Return inputs ``[N, …]`` in pieces of as many rows as are answered at once."""
        few = self._convolves and self.device.type == "cpu"
        pieces: Sequence[Tensor] = x.split(IMAGES_AT_ONCE if few else ROWS_AT_ONCE)
        return pieces

    def pad_value(self, dtype: torch.dtype) -> Tensor:
        """Return what a black pixel of images stored in this type is to the net, ``[C, 1, 1]`` or ``[]``."""
        return self._black if dtype == torch.float32 else -self._mean / self._std

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
        """Return logits ``[N, C]`` of one seed's weights.

        Args:
            params: ``{name: […]}``.
            x: inputs ``[N, …]``.
            training: decides on dropout and BatchNorm; None: training inside of `fit`, not elsewhere.
            statistics: in training, BatchNorm uses and updates the statistics of the batch; False: it keeps its own;
                names of layers: those alone use the batch's.
            gates: factors ``[units]`` of the outputs of layers, by the layer's name in the module.
            hooks: functions of layer, inputs and output whose result takes the output's place, by the layer's name.
        """
        hooks = {**{layer: gating(gate) for layer, gate in (gates or {}).items()}, **(hooks or {})}
        return self._call(self._module, params, x, training, statistics, hooks)

    def features(
        self, params: Params, x: Tensor, training: bool | None = None, *, hooks: Mapping[str, Hook] | None = None
    ) -> Tensor:
        """Return what the head would read, ``[N, width]``, for one seed's weights; ``hooks`` as for `one`."""
        return self._call(self._body, params, x, training, hooks=hooks or {})

    def all(self, params: Params, x: Tensor, gates: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return logits ``[S, N, C]`` of every seed, in evaluation mode, a bounded number of rows at a time."""
        if not gates:
            return self.over_seeds(lambda p, part: self.one(p, part, False), params, x)
        both = {"params": params, "gates": dict(gates)}
        return self.over_seeds(lambda p, part: self.one(p["params"], part, False, gates=p["gates"]), both, x)

    def all_features(self, params: Params, x: Tensor) -> Tensor:
        """Return features ``[S, N, width]`` of every seed, in evaluation mode."""
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

        ``params`` is a tree of tensors ``[S, …]``; the function is given that of one seed, and inputs as `prepare` leaves
        them.
        """
        seeds = len(next(leaf for _, leaf in leaves_with_path(params)))
        together, chunks = self.side_by_side(seeds), []
        each = [] if together else [tree_map(partial(self._own, s), params) for s in range(seeds)]
        for part in self.chunks(x):
            ready = self.laid_out(self.prepare(part))
            if together:
                chunks.append(torch.vmap(lambda p, ready=ready: function(p, ready))(params))
            else:
                chunks.append(torch.stack([function(own, ready) for own in each]))
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks, dim=1)

    def _call(
        self,
        module: nn.Module,
        params: Params,
        x: Tensor,
        training: bool | None,
        statistics: bool | Collection[str] = True,
        hooks: Mapping[str, Hook] | None = None,
    ) -> Tensor:
        self._modes[module].put(self._training if training is None else training, statistics)
        own = {self._original(name): tensor for name, tensor in params.items()}
        if module is self._body:
            own = {name: tensor for name, tensor in own.items() if name in self._body_names}
        with ExitStack() as hooked:
            for layer, hook in (hooks or {}).items():
                hooked.callback(module.get_submodule(layer).register_forward_hook(hook).remove)
            names = self._body_names if module is self._body else self._names
            odd = self._tied or own.keys() != names  # then torch looks into it, which takes a walk through the module
            try:
                logits: Tensor = functional_call(module, own, (self.prepare(x),), strict=odd, tie_weights=odd)
            except ValueError as error:
                raise explained(error, len(x)) from None
        return logits

    def _adopted(self, pretrained: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> Params:
        found, wanted = (
            {self._rename.get(name, name): tensor for name, tensor in named.items()} for named in (pretrained, tensors)
        )
        return fitting(found, wanted, ignored=(HEAD_WEIGHT, HEAD_BIAS)) if pretrained else {}

    def _own(self, seed: int, leaf: Tensor) -> Tensor:
        return self.laid_out(leaf[seed])

    def _original(self, name: str) -> str:
        return self._back.get(name, name)

    def _channels(self, values: Sequence[float], shape: Sequence[int]) -> Tensor:
        size = [len(values), *[1] * (len(shape) - 1)] if len(values) > 1 else []
        return torch.tensor(values, dtype=torch.float32, device=self.device).reshape(size)

    def _probe(self, shape: Sequence[int]) -> None:
        """Run two rows of zeros through the module and through body and head: both must agree."""
        self._back = {ours: theirs for theirs, ours in self._rename.items()}
        x = torch.zeros(2, *shape, device=self.device)
        try:
            with torch.no_grad():
                logits, features, _ = self._module(x), self._body(x), self._module(x[:1])
        except (RuntimeError, ValueError) as error:
            raise UsageError(f"the net does not accept inputs of shape {tuple(shape)}: {error}") from None
        head = self._module.get_submodule(self.head)
        whole = features.ndim == 2 and torch.equal(head(features), logits)
        if not whole:
            raise UsageError("the net's last Linear layer does not give its output: end the net with nn.Linear")
        self.outputs, self.width = logits.shape[1], features.shape[1]
