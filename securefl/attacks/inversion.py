"""Gradient inversion: from one record's gradient back to the record. What a stranger who sees an update can try.

Each attack is the published one, for one record and cross entropy, on any torch classifier:

``ratio``   the first layer is linear with a bias: its gradient for output i is (dL/db_i) x, so x is a quotient, and
            nothing is searched for. Phong, Aono, Hayashi, Wang and Moriai 2018, section III.
``dlg``     image and label that give the gradient, in squared distance, by L-BFGS. Zhu, Liu and Han 2019, algorithm 1.
``idlg``    as ``dlg``, but the label is read off the last layer's gradient. Zhao, Mopuri and Bilen 2020, algorithm 1.
``cosine``  image whose gradient has the same direction, with total variation, by Adam on the signs of the search's own
            gradient; label as in ``idlg``. Geiping, Bauermeister, Dröge and Moeller 2020, section 4.

The attacker knows the model, the record's shape, the range of intensities and how an update was clipped, and may begin
at an image of its own choice. The seed is of the attack's own search, so that results repeat on one thread; it hides
nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from securefl.errors import ModelError

Vector = NDArray[np.float64]
METHODS = ("ratio", "dlg", "idlg", "cosine")
VARIATION = 1e-2
"""Weight of the mean absolute difference of neighbouring pixels, intensities scaled to 0..1, in ``cosine``."""
_EXPLAINED = 1e-6
"""Loss of ``dlg`` and ``idlg`` at which no further start is tried."""
_RATE, _FALLS, _FALL = 0.1, (3 / 8, 5 / 8, 7 / 8), 0.1
"""Adam's step on the scale 0..1, and when it falls to a tenth; the schedule of Geiping et al."""


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What an attack came up with.

    Attributes:
        image: float32, the record's shape, within the range of intensities.
        label: the class that the record was taken for.
        loss: what was minimised, at the end: the squared distance of the gradients relative to the squared length of
            the given one (``dlg``, ``idlg``), or one minus their cosine plus total variation (``cosine``). Infinite if
            no search stayed finite; the image is then where the search began. 0 for ``ratio``, which minimises nothing.
    """

    image: NDArray[np.float32]
    label: int
    loss: float


def gradient_of(model: nn.Module, images: NDArray[np.float32], labels: NDArray[np.int64]) -> Vector:
    """The gradient of the mean cross entropy: (n, *shape), (n,) to (D,), parameters in the module's order.

    Taken in evaluation mode, without dropout: the easiest case for an attacker. The model is left as it was.
    """
    training = model.training
    model.eval()
    loss = cross_entropy(model(torch.from_numpy(images)), torch.from_numpy(labels))
    gradient = _flat_gradient(loss, list(model.parameters()), again=False)
    model.train(training)
    return gradient.numpy().astype(np.float64)


def invert(
    model: nn.Module,
    gradient: Vector,
    shape: tuple[int, ...],
    classes: int,
    method: str,
    *,
    iterations: int = 400,
    seed: int = 0,
    restarts: int = 1,
    low: float = 0.0,
    high: float = 1.0,
    clip: float | None = None,
    start: NDArray[Any] | None = None,
) -> Reconstruction:
    """Look for the record that a gradient is of.

    Args:
        model: float32, scores for (n, *shape); it is copied.
        gradient: (D,) of the model's parameters in the module's order; it may as well be no gradient at all.
        shape, classes: of one record, and of the task.
        method: one of ``METHODS``.
        iterations: steps of one search; at least 1, unused by ``ratio``.
        seed: of the random starts.
        restarts: searches, at least 1; the one with the smallest loss counts.
        low, high: range of the intensities, low < high; images are kept within.
        clip: L2 norm to which a longer gradient was scaled down before it was sent; None if it was not.
        start: image at which the first search begins, of ``shape``; the others, or all, begin at random numbers.

    Raises:
        ModelError: no such method, a gradient of another length, or a model without the layer that the method reads.
    """
    if method not in METHODS:
        raise ModelError(f"There is no attack called {method!r}; take one of {', '.join(METHODS)}.")
    if iterations < 1 or restarts < 1 or not low < high:
        raise ModelError("An attack needs at least one step, one search, and a range of intensities.")
    target = _Target.of(model, gradient, torch.float32 if method == "cosine" else torch.float64)
    if method == "ratio":
        quotient = np.clip(_ratio(target, shape), low, high).astype(np.float32)
        return Reconstruction(quotient, target.label(classes), 0.0)
    label = None if method == "dlg" else target.label(classes)
    search = _Search(target, label, classes, low, high, clip)
    draw = torch.Generator().manual_seed(seed)
    best: Reconstruction | None = None
    for attempt in range(restarts):
        unit = torch.rand((1, *shape), generator=draw, dtype=target.dtype)
        guess = torch.randn((1, classes), generator=draw, dtype=target.dtype)
        if attempt == 0 and start is not None:
            scaled = (torch.from_numpy(np.asarray(start, dtype=np.float64)) - low) / (high - low)
            unit = scaled.reshape(1, *shape).clamp(0, 1).to(target.dtype)
        found = (
            search.descend(unit, iterations) if method == "cosine" else search.lbfgs(unit, guess, iterations)
        )
        if best is None or found.loss < best.loss:
            best = found
        if method != "cosine" and best.loss < _EXPLAINED:
            break
    assert best is not None  # restarts >= 1
    return best


def recovered_label(model: nn.Module, gradient: Vector, classes: int) -> int:
    """The label of a single record, from its gradient alone: the only score whose bias's gradient is negative.

    Zhao, Mopuri and Bilen 2020, section 3. The derivative by score c is p_c - [c = label]. Without a bias, the rows of
    the weights' gradient tell it for features that are not negative.

    Raises:
        ModelError: the model does not end with a linear layer of one score a class.
    """
    return _Target.of(model, gradient, torch.float32).label(classes)


@dataclass(frozen=True, eq=False)
class _Target:
    """A model's copy and the gradient to explain, in pieces and in one."""

    model: nn.Module
    parameters: Sequence[Tensor]
    pieces: dict[str, Tensor]
    flat: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, model: nn.Module, gradient: Vector, dtype: torch.dtype) -> _Target:
        copied = copy.deepcopy(model).eval().to(dtype=dtype)
        named = dict(copied.named_parameters())
        size = sum(p.numel() for p in named.values())
        if gradient.shape != (size,):
            raise ModelError(
                f"The model has {size} parameters, but the gradient has shape {gradient.shape}; give the model's own."
            )
        # What is not a gradient may be many orders of magnitude too long for float32's squares.
        flat = torch.from_numpy(np.array(gradient)).to(dtype)
        pieces = flat.split([p.numel() for p in named.values()])
        shaped = {name: g.view(p.shape) for (name, p), g in zip(named.items(), pieces, strict=True)}
        return cls(copied, list(named.values()), shaped, flat, dtype)

    def label(self, classes: int) -> int:
        name, layer = [
            (n, m) for n, m in self.model.named_modules() if any(True for _ in m.parameters(False))
        ][-1]
        if not isinstance(layer, nn.Linear) or layer.out_features != classes:
            raise ModelError(
                "A label is read off a last linear layer with one score a class, which this model lacks; use dlg."
            )
        prefix = f"{name}." if name else ""
        bias = self.pieces.get(f"{prefix}bias")
        rows = bias if bias is not None else self.pieces[f"{prefix}weight"].sum(1)
        return int(rows.argmin())


def _ratio(target: _Target, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The quotient, by least squares over all outputs of the first layer."""
    name, layer = next(
        (n, m) for n, m in target.model.named_modules() if any(True for _ in m.parameters(False))
    )
    seen: list[Tensor] = []
    probe = torch.linspace(-1, 1, math.prod(shape), dtype=target.dtype).reshape(1, *shape)
    if isinstance(layer, nn.Linear) and layer.bias is not None:
        handle = layer.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].detach()))
        with torch.no_grad():
            target.model(probe)
        handle.remove()
    if len(seen) != 1 or not torch.equal(seen[0].reshape(-1), probe.reshape(-1)):
        raise ModelError(
            "The attack ratio reads a first linear layer with a bias that takes the record itself, which this model "
            "lacks; use cosine."
        )
    prefix = f"{name}." if name else ""
    weight, bias = target.pieces[f"{prefix}weight"], target.pieces[f"{prefix}bias"]
    length = float(bias @ bias)
    quotient = (bias @ weight) / length if length > 0 else torch.zeros_like(weight[0])
    return np.nan_to_num(quotient.numpy().astype(np.float64).reshape(shape))


@dataclass(frozen=True, eq=False)
class _Search:
    """Searches over an image on the scale 0..1; ``label`` None: over a distribution of labels as well."""

    target: _Target
    label: int | None
    classes: int
    low: float
    high: float
    clip: float | None

    def descend(self, unit: Tensor, steps: int) -> Reconstruction:
        """Geiping et al.: cosine distance and total variation, Adam on signs, within the range throughout."""
        direction = self._direction()
        image = unit.clone().requires_grad_()
        optimizer = torch.optim.Adam([image], lr=_RATE)
        falls = [max(1, round(steps * fall)) for fall in _FALLS]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, _FALL)
        y = torch.tensor([self.label])

        def loss() -> Tensor:
            explained = self._gradient(image, y)
            cosine = (explained * direction).sum() / explained.norm().clamp_min(1e-12)
            return 1 - cosine + VARIATION * total_variation(image)

        for _ in range(steps):
            image.grad = torch.autograd.grad(loss(), image)[0].sign()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                image.clamp_(0, 1).nan_to_num_(0.5)
        return self._found(image, unit, float(loss().detach()), self.label)

    def lbfgs(self, unit: Tensor, guess: Tensor, steps: int) -> Reconstruction:
        """Zhu et al.: squared distance, L-BFGS; clipped to the range at the end only."""
        length = self.target.flat.norm() if bool(self.target.flat.any()) else torch.ones((), dtype=unit.dtype)
        image = unit.clone().requires_grad_()
        logits = guess.clone().requires_grad_()
        sought = [image] if self.label is not None else [image, logits]
        optimizer = torch.optim.LBFGS(
            sought, max_iter=steps, max_eval=2 * steps, history_size=50, tolerance_grad=1e-9,
            tolerance_change=1e-14, line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss() -> Tensor:
            y = logits.softmax(1) if self.label is None else torch.tensor([self.label])
            return (((self._gradient(image, y) - self.target.flat) / length) ** 2).sum()

        def closure() -> Tensor:
            value = loss()
            for variable, slope in zip(sought, torch.autograd.grad(value, sought), strict=True):
                variable.grad = slope
            return value.detach()

        optimizer.step(closure)
        label = self.label if self.label is not None else int(logits.argmax())
        return self._found(image, unit, float(loss().detach()), label)

    def _gradient(self, unit: Tensor, y: Tensor) -> Tensor:
        """The gradient that a record would have been sent as, (D,), with its own derivative kept."""
        loss = cross_entropy(self.target.model(self.low + (self.high - self.low) * unit), y)
        flat = _flat_gradient(loss, self.target.parameters, again=True)
        if self.clip is None:
            return flat
        return flat * (self.clip / flat.norm().clamp_min(1e-12)).clamp(max=1)

    def _direction(self) -> Tensor:
        return self.target.flat / self.target.flat.norm().clamp_min(1e-30)

    def _found(self, image: Tensor, unit: Tensor, loss: float, label: int | None) -> Reconstruction:
        if not (math.isfinite(loss) and bool(torch.isfinite(image).all())):
            image, loss = unit, math.inf
        values = (self.low + (self.high - self.low) * image.detach().clamp(0, 1))[0]
        return Reconstruction(values.numpy().astype(np.float32), int(label or 0), loss)


def _flat_gradient(loss: Tensor, parameters: Sequence[Tensor], again: bool) -> Tensor:
    """(D,), zero where a parameter is frozen or unused; ``again``: it can be differentiated once more."""
    trained = [p for p in parameters if p.requires_grad]
    parts = torch.autograd.grad(loss, trained, create_graph=again, allow_unused=True)
    found = {id(p): part for p, part in zip(trained, parts, strict=True) if part is not None}
    return torch.cat([found.get(id(p), torch.zeros_like(p)).reshape(-1) for p in parameters])


def total_variation(image: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring values along the last two axes; one axis alone for rows of features."""
    sums: list[Tensor] = [
        (image.narrow(axis, 1, image.shape[axis] - 1) - image.narrow(axis, 0, image.shape[axis] - 1))
        .abs()
        .mean()
        for axis in range(max(1, image.ndim - 2), image.ndim)
        if image.shape[axis] > 1
    ]
    return torch.stack(sums).sum() if sums else image.sum() * 0
