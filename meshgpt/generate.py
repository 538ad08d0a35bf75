"""Writing steps, one id after another: legal ids only, each row with its own random numbers, streamed step by step.

It knows a network of steps and a grammar. It does not know meshes, files or conditions.

b  rows      w  ids of a step
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from meshgpt.memory import RunningMemory
from meshgpt.steps import Seen, StepModel
from meshgpt.tokenizer.interface import Grammar


@dataclass(frozen=True)
class Sampling:
    """How ids are drawn.

    `temperature` 0 takes the likeliest; `guidance` above 1 exaggerates what the condition says. With `edges` manifold no edge gets
    more than two faces; with closed, moreover, none is left with one before the mesh goes on elsewhere. With `bounds` cloud
    vertices stay in the cloud's box and faces come bottom up. With `until` covered a mesh ends as soon as the cloud lies on it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0
    max_faces: int = 256
    min_faces: int = 1
    edges: Literal["closed", "manifold", "any"] = "closed"
    bounds: Literal["cloud", "none"] = "cloud"
    until: Literal["covered", "end"] = "covered"

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1 or self.guidance < 0:
            raise ValueError(
                f"temperature {self.temperature}, top-k {self.top_k}, top-p {self.top_p} and guidance {self.guidance} do not fit; "
                "use temperature, top-k and guidance of at least 0, and top-p in (0, 1]"
            )
        if self.edges not in ("closed", "manifold", "any"):
            raise ValueError(f"edges {self.edges!r} do not fit; use 'closed', 'manifold' or 'any'")
        if self.bounds not in ("cloud", "none") or (self.bounds == "none" and self.edges == "closed"):
            raise ValueError(
                f"bounds {self.bounds!r} do not fit edges {self.edges!r}; use 'cloud', or 'none' with edges 'manifold' or 'any'"
            )
        if self.until not in ("covered", "end"):
            raise ValueError(f"until {self.until!r} does not fit; use 'covered' or 'end'")
        if not 1 <= self.min_faces <= self.max_faces:
            raise ValueError(f"{self.min_faces} to {self.max_faces} faces do not fit; use 1 <= min-faces <= max-faces")


def pick(logits: Float[Tensor, "b ids"], legal: Bool[Tensor, "b ids"], uniform: Float[Tensor, "b"], sampling: Sampling) -> Int[Tensor, "b"]:
    """One legal id a row; `uniform` numbers in [0, 1) decide, so that a row's choice depends on nothing but its own numbers."""
    logits = logits.masked_fill(~legal, -torch.inf)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    ordered, ids = (logits / sampling.temperature).sort(dim=-1, descending=True, stable=True)
    share = ordered.double().softmax(-1)
    if sampling.top_k:
        share[:, sampling.top_k :] = 0
    if sampling.top_p < 1:
        share[share.cumsum(-1) - share >= sampling.top_p * share.sum(-1, keepdim=True)] = 0
    reached = share.cumsum(-1)
    at = torch.searchsorted(reached, uniform.double()[:, None] * reached[:, -1:], right=True)
    last = (share > 0).sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(at, last))[:, 0]


def generate(
    network: StepModel,
    seen: Seen,
    blank: Seen | None,
    grammar: Grammar,
    seeds: Sequence[int],
    sampling: Sampling,
) -> Iterator[Int[np.ndarray, "b w"]]:
    """Yield one step for all rows until every row has ended or the limit is reached; a row that has ended is filled with -1.

    `blank` is the same rows without their condition, for guidance; None leaves guidance out.
    """
    writer = _Writer(network, seen, blank, sampling)
    states = [grammar.start() for _ in seeds]
    draws = [np.random.default_rng(seed) for seed in seeds]
    running = np.ones(len(seeds), dtype=bool)
    for step in range(sampling.max_faces):
        writer.open_step()
        for slot in range(network.config.width):
            legal = np.stack([grammar.legal(state) for state in states])
            # Ended rows go on as fillers: any id will do, nobody reads them.
            legal[~running, :-1] = True
            if slot == 0 and step < sampling.min_faces:
                legal[legal[:, :-1].any(1), -1] = False
            uniform = torch.tensor([draw.random() for draw in draws])
            ids = writer.pick(torch.from_numpy(legal), uniform)
            if slot == 0:
                running &= ids != network.config.vocab
                if not running.any():
                    return
            ids = np.where(running, ids, 0)
            states = [grammar.advance(state, int(id)) if run else state for state, id, run in zip(states, ids, running, strict=True)]
            writer.push(torch.from_numpy(ids))
        yield np.where(running[:, None], writer.close_step(), -1)


class _Writer:
    """The network with everything that it keeps between ids: cache, memory and the open step; rows twice with guidance."""

    @torch.inference_mode()
    def __init__(self, network: StepModel, seen: Seen, blank: Seen | None, sampling: Sampling) -> None:
        self.network, self.sampling = network, sampling
        self.guided = blank is not None and sampling.guidance != 1
        self.seen = seen.joined(blank) if self.guided else seen
        self.cache, self.hidden = network.begin(self.seen, sampling.max_faces)
        rows = len(self.seen.prefix.vectors)
        self.memory = RunningMemory(rows, network.config.width, network.depth.shifts, network.config.bins, self.hidden.device)
        self.opened = torch.zeros(rows, 0, dtype=torch.long, device=self.hidden.device)

    @torch.inference_mode()
    def open_step(self) -> None:
        self.opened = self.opened[:, :0]

    @torch.inference_mode()
    def pick(self, legal: Bool[Tensor, "b ids"], uniform: Float[Tensor, "b"]) -> Int[np.ndarray, "b"]:
        logits = self.network.slot_logits(self.hidden, self.opened, self.memory.within_step(self.opened), self.seen).cpu()
        if self.guided:
            wanted, blank = logits.log_softmax(-1).chunk(2)
            logits = blank + self.sampling.guidance * (wanted - blank)
        return pick(logits, legal[:, : logits.shape[1]], uniform, self.sampling).numpy()

    @torch.inference_mode()
    def push(self, ids: Int[Tensor, "b"]) -> None:
        ids = ids.to(self.opened.device)
        self.opened = torch.cat([self.opened, (ids.repeat(2) if self.guided else ids)[:, None]], 1)

    @torch.inference_mode()
    def close_step(self) -> Int[np.ndarray, "b w"]:
        self.memory.advance(self.opened)
        if self.cache.length < self.cache.capacity:
            self.hidden = self.network.read_step(self.opened, self.seen, self.cache)
        whole = self.opened.chunk(2)[0] if self.guided else self.opened
        return whole.cpu().numpy()
