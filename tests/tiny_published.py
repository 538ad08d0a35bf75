"""Tiny checkpoints with the names and the layout of both MeshAnything, and what they compute, by transformers' OPT and BERT.

Only what no library has is written down here, from its description: the point encoder, and what is added to what OPT reads.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import BertConfig, OPTConfig, OPTForCausalLM
from transformers.models.bert.modeling_bert import BertEncoder

DIM, WIDE, VECTORS, POSITIONS, CODES, PLACES = 128, 128, 5, 300, 64, 6
Weights = dict[str, torch.Tensor]
SHAPE = "point_encoder.model.shape_model."
LM = "transformer.model.decoder."


def opt(vocab: int) -> OPTForCausalLM:
    sizes = {"hidden_size": DIM, "num_hidden_layers": 2, "ffn_dim": 4 * DIM, "num_attention_heads": DIM // 64, "word_embed_proj_dim": DIM}
    config = OPTConfig(vocab_size=vocab, max_position_embeddings=POSITIONS, do_layer_norm_before=False, tie_word_embeddings=False, **sizes)
    return OPTForCausalLM(config).eval()


def bert() -> BertEncoder:
    config = BertConfig(hidden_size=DIM, num_hidden_layers=2, num_attention_heads=DIM // 64, intermediate_size=4 * DIM, layer_norm_eps=1e-5)
    config._attn_implementation = "eager"
    return BertEncoder(config).eval()


def shaken(module: torch.nn.Module) -> torch.nn.Module:
    """With weights large enough for every part to have a say."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            noise = torch.randn_like(weight)
            norm = "norm" in name.lower() and name.endswith("weight")
            weight.copy_(1 + 0.1 * noise if norm else noise * (0.1 if weight.ndim == 1 else weight.shape[-1] ** -0.5))
    return module


def random_of(shapes: dict[str, tuple[int, ...]]) -> Weights:
    return {name: torch.randn(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1) for name, shape in shapes.items()}


def both(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norms(*names: str) -> Weights:
    return {f"{name}.{part}": torch.randn(WIDE) * 0.1 + (part == "weight") for name in names for part in ("weight", "bias")}


def block(name: str) -> Weights:
    shapes = {f"{name}.attn.c_qkv.weight": (3 * WIDE, WIDE), **both(f"{name}.attn.c_proj", WIDE, WIDE)}
    shapes |= both(f"{name}.mlp.c_fc", 4 * WIDE, WIDE) | both(f"{name}.mlp.c_proj", WIDE, 4 * WIDE)
    return random_of(shapes) | norms(f"{name}.ln_1", f"{name}.ln_2")


def encoder() -> Weights:
    look, blind = f"{SHAPE}encoder.cross_attn", f"{SHAPE}geo_decoder.cross_attn_decoder"
    shapes = {f"{SHAPE}encoder.query": (VECTORS, WIDE), "point_encoder.model.shape_projection": (WIDE, WIDE)}
    shapes |= both(f"{SHAPE}encoder.input_proj", WIDE, 54) | both(f"{SHAPE}pre_kl", 8, WIDE) | both(f"{SHAPE}post_kl", WIDE, 4)
    shapes |= {
        f"{look}.attn.c_q.weight": (WIDE, WIDE),
        f"{look}.attn.c_kv.weight": (2 * WIDE, WIDE),
        **both(f"{look}.attn.c_proj", WIDE, WIDE),
    }
    shapes |= both(f"{look}.mlp.c_fc", 4 * WIDE, WIDE) | both(f"{look}.mlp.c_proj", WIDE, 4 * WIDE)
    shapes |= {f"{blind}.attn.c_q.weight": (WIDE, WIDE), f"{SHAPE}geo_decoder.output_proj.bias": (1,)}
    shapes |= both("cond_head_proj", DIM, WIDE) | both("cond_proj", DIM, 2 * WIDE)
    weights = random_of(shapes) | norms(f"{look}.ln_1", f"{look}.ln_2", f"{look}.ln_3", f"{SHAPE}encoder.ln_post")
    weights |= block(f"{SHAPE}encoder.self_attn.resblocks.0")
    return weights | block(f"{SHAPE}transformer.resblocks.0") | block(f"{SHAPE}transformer.resblocks.1")


def language(model: OPTForCausalLM, vocab: int, roles: int) -> Weights:
    """What both have, by its published names."""
    state = {
        f"{LM}{name.removeprefix('model.decoder.')}": value.clone() for name, value in model.state_dict().items() if "lm_head" not in name
    }
    state.pop(f"{LM}embed_tokens.weight")
    return state | {
        "transformer.lm_head.weight": torch.randn(vocab, DIM) * 0.3,
        f"{LM}cond_embed.weight": torch.randn(2, DIM),
        f"{LM}token_embed_positions.weight": torch.randn(roles, DIM),
    }


def codes(decoder: BertEncoder) -> Weights:
    """MeshAnything's own: its codebook and its decoder."""
    shapes = both("tokenizer.project_down_codebook", DIM, 3 * DIM) | both("tokenizer.to_coor_logits.0", 9 * 8, DIM)
    shapes |= both("tokenizer.cond_head_proj", DIM, WIDE) | both("tokenizer.cond_proj", DIM, WIDE) | both(f"{LM}input_layer", DIM, DIM)
    shapes |= {"tokenizer.pos_embedding.weight": (PLACES, DIM), "tokenizer.point_pe.weight": (VECTORS, DIM)}
    shapes |= {
        f"{LM}extra_embeds.weight": (3, DIM),
        f"{LM}quantize_codebooks": (1, CODES, DIM),
        f"{LM}embed_tokens.weight": (3 + CODES, DIM),
    }
    weights = random_of(shapes)
    for name in ("tokenizer.layernorm", "tokenizer.point_layernorm"):
        weights |= {f"{name}.weight": 1 + 0.1 * torch.randn(DIM), f"{name}.bias": 0.1 * torch.randn(DIM)}
    names = {"attention.output.dense": "out_proj", "attention.output.LayerNorm": "norm1", "intermediate.dense": "linear1"}
    names |= {"output.dense": "linear2", "output.LayerNorm": "norm2"}
    for number, layer in enumerate(decoder.layer):
        for part in ("weight", "bias"):
            start = f"tokenizer.decoder.layer.{number}"
            mix = [getattr(getattr(layer.attention.self, name), part).detach() for name in ("query", "key", "value")]
            weights[f"{start}.in_proj_{part}"] = torch.cat(mix)
            for ours, theirs in names.items():
                weights[f"{start}.{theirs}_{part}"] = layer.get_parameter(f"{ours}.{part}").detach().clone()
    return weights


class TinyV2:
    """The published names, and the published numbers."""

    vocab, roles, bins = 132, 10, 128

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.opt = shaken(opt(self.vocab))
        self.weights = encoder() | language(self.opt, self.vocab, self.roles)
        self.table = self.weights["transformer.lm_head.weight"]

    def write(self, folder: Path) -> Path:
        """As on the hub: without the tensor that the head is tied to."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "shape_opt", "vocab_size": self.vocab, "n_discrete_size": 128}))
        save_file(self.weights, folder / "model.safetensors")
        return folder

    def content(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table[ids]

    def roles_of(self, ids: list[int]) -> list[int]:
        found, since = [], 0
        for id in ids:
            if id < 3 or id == 131:
                found, since = [*found, 3 if id == 131 else id], 0
            else:
                found, since = [*found, (4 if since < 9 else 7) + since % 3], since + 1
        return found

    @torch.no_grad()
    def logits(self, prefix: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """After the prefix, and after each id; by their numbers."""
        extra, roles = self.weights[f"{LM}cond_embed.weight"], self.weights[f"{LM}token_embed_positions.weight"]
        written = self.content(torch.tensor(ids, dtype=torch.long)) + extra[1] + roles[self.roles_of(ids)]
        hidden = self.opt.model.decoder(inputs_embeds=torch.cat([prefix + extra[0], written])[None]).last_hidden_state[0]
        return hidden[len(prefix) - 1 :] @ self.weights["transformer.lm_head.weight"].T

    def greedy(self, prefix: torch.Tensor, count: int) -> list[int]:
        ids: list[int] = []
        for _ in range(count):
            ids.append(int(self.logits(prefix, ids)[-1].argmax()) if ids else int(self._first(prefix)))
        return ids

    @torch.no_grad()
    def _first(self, prefix: torch.Tensor) -> torch.Tensor:
        start = prefix + self.weights[f"{LM}cond_embed.weight"][0]
        return (
            self.opt.model.decoder(inputs_embeds=start[None]).last_hidden_state[0, -1] @ self.weights["transformer.lm_head.weight"].T
        ).argmax()

    # Michelangelo, from its description

    @torch.no_grad()
    def latents(self, points: torch.Tensor) -> torch.Tensor:
        """Of points from -1 to 1 and their normals, p x 6."""
        weights, look = self.weights, f"{SHAPE}encoder.cross_attn"
        angles = (points[:, :3, None] * 2.0 ** torch.arange(8)).flatten(1)
        features = torch.cat([points[:, :3], angles.sin(), angles.cos(), points[:, 3:]], 1)
        data = self._norm(f"{look}.ln_2", self._linear(f"{SHAPE}encoder.input_proj", features)) @ weights[f"{look}.attn.c_kv.weight"].T
        queries = weights[f"{SHAPE}encoder.query"]
        asked = self._norm(f"{look}.ln_1", queries) @ weights[f"{look}.attn.c_q.weight"].T
        x = queries + self._linear(f"{look}.attn.c_proj", attended(asked, *parts_of_heads(data, 2)))
        x = x + self._mlp(look, self._norm(f"{look}.ln_3", x))
        return self._norm(f"{SHAPE}encoder.ln_post", self._block(f"{SHAPE}encoder.self_attn.resblocks.0", x))

    @torch.no_grad()
    def prefix(self, latents: torch.Tensor) -> torch.Tensor:
        x = self._linear(f"{SHAPE}post_kl", self._linear(f"{SHAPE}pre_kl", latents[1:])[:, :4])
        for number in range(2):
            x = self._block(f"{SHAPE}transformer.resblocks.{number}", x)
        rest = self._linear("cond_proj", torch.cat([latents[1:], x], 1))
        return torch.cat([self._linear("cond_head_proj", latents[:1]), rest])

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, (x.shape[-1],), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _mlp(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return self._linear(f"{name}.mlp.c_proj", functional.gelu(self._linear(f"{name}.mlp.c_fc", x)))

    def _block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        mixed = self._norm(f"{name}.ln_1", x) @ self.weights[f"{name}.attn.c_qkv.weight"].T
        x = x + self._linear(f"{name}.attn.c_proj", attended(*parts_of_heads(mixed, 3)))
        return x + self._mlp(name, self._norm(f"{name}.ln_2", x))


def parts_of_heads(x: torch.Tensor, parts: int) -> list[torch.Tensor]:
    """Each head has its own query, key and value side by side."""
    heads = x.split(64 * parts, 1)
    return [torch.cat([head[:, 64 * part : 64 * (part + 1)] for head in heads], 1) for part in range(parts)]


def attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """In heads of 64."""
    heads = zip(query.split(64, 1), key.split(64, 1), value.split(64, 1), strict=True)
    return torch.cat([(q @ k.T / 8).softmax(1) @ v for q, k, v in heads], 1)


class TinyV1(TinyV2):
    vocab, roles, bins = 3 + CODES, 12, 8

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.bert = shaken(bert())
        self.weights |= codes(self.bert)

    def write(self, folder: Path) -> Path:
        """As on the hub: one file, whose name says that it is a pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.weights, folder / "MeshAnything_350m.pth")
        return folder

    def content(self, ids: torch.Tensor) -> torch.Tensor:
        book = self._linear(f"{LM}input_layer", self.weights[f"{LM}quantize_codebooks"][0])
        return torch.cat([self.weights[f"{LM}extra_embeds.weight"], book])[ids]

    def roles_of(self, ids: list[int]) -> list[int]:
        return [id if id < 3 else 3 + (place - 1) % 9 for place, id in enumerate(ids)]

    @torch.no_grad()
    def corners(self, codes: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Of PLACES faces of nine codes, -1 for none: bins, which of empty faces mean nothing."""
        book = self.weights[f"{LM}quantize_codebooks"][0]
        vectors = torch.where((codes >= 0)[..., None], book[codes.clamp(min=0)], 0).view(PLACES, 3, 3, DIM).sum(2).flatten(1)
        keep = (codes >= 0).all(1, keepdim=True)
        faces = self._linear("tokenizer.project_down_codebook", vectors) * keep + self.weights["tokenizer.pos_embedding.weight"]
        shape = [self._linear("tokenizer.cond_head_proj", latents[:1]), self._linear("tokenizer.cond_proj", latents[1:])]
        shape = self._norm("tokenizer.point_layernorm", torch.cat(shape) + self.weights["tokenizer.point_pe.weight"])
        hidden = self.bert(torch.cat([shape, self._norm("tokenizer.layernorm", faces)])[None]).last_hidden_state[0, VECTORS:]
        return self._linear("tokenizer.to_coor_logits.0", hidden * keep).view(PLACES, 3, 3, 8).argmax(-1)
