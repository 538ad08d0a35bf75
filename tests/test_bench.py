"""The bench: it measures what it says it does, at tiny sizes, and its times add up."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from meshgpt.bench import Plan, measure, tables
from meshgpt.bench_loops import Loop, Weights, Written, area, large, opt, torus
from meshgpt.cli import main
from meshgpt.gate_model import GateModel, GateModelConfig
from meshgpt.loading import InBfloat16, Int8Linear, in_precision
from meshgpt.mesh import corners_of
from meshgpt.model import MeshGPT
from meshgpt.precision import best_for, laid_for_rows
from meshgpt.tokenizer import GatesTokenizer
from meshgpt.topology import boundary_edge_ratio, non_manifold_edge_ratio
from meshgpt.transformer import TransformerConfig

TINY = TransformerConfig(32, 2, 2)


@pytest.fixture(scope="module")
def measured(tiny_gates, tiny_steps) -> dict:
    model = partial(lambda: MeshGPT(GatesTokenizer(16), tiny_gates(16)))
    networks = {"gates": (partial(tiny_gates, 16), (1, 3)), "coords": (partial(tiny_steps, 11), (1,))}
    return measure(Plan(networks, ("fp32", "bf16", "int8"), (10, 40), model, 4, lambda: opt(TINY, 20, 400), (5, 50), 2), "cpu")


def test_the_numbers_are_there_and_fit_together(measured):
    assert {(loop["network"], loop["precision"], loop["batch"]) for loop in measured["ours"]} == {
        *(("gates", precision, batch) for precision in ("fp32", "bf16", "int8") for batch in (1, 3)),
        *(("coords", precision, 1) for precision in ("fp32", "bf16", "int8")),
    }
    theirs = measured["theirs"]["mesh_seconds"]
    for loop in measured["ours"]:
        assert [at["faces"] for at in loop["written"]] == [10, 40]
        assert all(at["step"] > 0 and at["floors"] == pytest.approx(at["step"] / at["floor"]) for at in loop["written"])
        assert loop["times_faster"] == pytest.approx(loop["batch"] * theirs / loop["mesh_seconds"])
        assert loop["written"][-1]["faces_a_second"] == pytest.approx(loop["batch"] * 40 / loop["mesh_seconds"])
    assert [one["tries"] for one in measured["whole"]] == [1, 32]
    assert measured["machine"]["bandwidth_gb_a_second"] > 0.1
    assert json.loads(json.dumps(measured)) == json.loads(json.dumps(measured, default=str))
    assert sum(table.row_count for table in tables(measured)) == 9 * 2 + 2 + 2


def test_a_cache_of_bfloat16_takes_half_the_memory(measured):
    bytes_of = {loop["precision"]: loop["cache"] for loop in measured["ours"] if loop["network"] == "coords"}
    assert bytes_of == {"fp32": (5 + 40) * 2 * 2 * 32 * 4, "bf16": (5 + 40) * 2 * 2 * 32 * 2, "int8": (5 + 40) * 2 * 2 * 32 * 4}


def test_a_mesh_takes_the_time_under_the_line_of_its_steps():
    loop = Loop("gates", "fp32", 2, 0, 1.5, 0, (Written(100, 0.1, 0.1), Written(300, 0.3, 0.1)))
    assert loop.mesh_seconds(100) == pytest.approx(1.5 * 100 * 0.1)
    assert loop.mesh_seconds(300) == pytest.approx(1.5 * (100 * 0.1 + 200 * 0.2))
    assert loop.faces_a_second(100) == pytest.approx(2 / 0.15)
    assert area([(1, 2.0)], 5) == pytest.approx(10)


def test_rows_read_the_weights_once_and_precisions_read_fewer_bytes(tiny_gates):
    weights = Weights.of(tiny_gates(16))
    assert weights.matrices == 2 * (32 * 96 + 32 * 32 + 3 * 32 * 96)
    assert weights.bytes("fp32") - weights.bytes("int8") == 3 * weights.matrices


@pytest.mark.parametrize("faces", [100, 400, 800])
def test_the_walk_that_is_written_goes_over_a_closed_mesh(faces):
    mesh = torus(faces)
    assert abs(len(mesh.faces) - faces) < faces / 10
    assert boundary_edge_ratio(mesh) == non_manifold_edge_ratio(mesh) == 0


@pytest.mark.parametrize("words", [["--repeats", "0"], ["--json", "nowhere/speed.json"]])
def test_options_that_do_not_fit_are_refused_in_a_sentence(words, capsys):
    assert main(["bench", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# A rougher precision, and its speed, count only where it writes about the same.


@pytest.fixture
def walks(tiny_gates, val) -> torch.Tensor:
    """Of two meshes, as many steps of each."""
    encode = tiny_gates(16).tokenizer.encode
    return torch.stack([torch.from_numpy(encode(corners_of(val.mesh(index), 16)[:20])[:12]) for index in (3, 8)])


@torch.no_grad()
def logits_along(network: GateModel, surface: torch.Tensor, walks: torch.Tensor) -> torch.Tensor:
    writing, rows, said = network.writing(network.see(surface), 40), torch.arange(len(walks)), []
    for step in walks.unbind(1):
        said += [writing.logits(rows, step[:, :slot]) for slot in range(3)]
        writing.take(step)
    return torch.cat(said, 1)


@pytest.mark.parametrize(("precision", "close", "part"), [("bf16", 0.03, InBfloat16), ("int8", 0.05, Int8Linear)])
def test_rougher_precisions_write_about_the_same(tiny_gates, surface, walks, precision, close, part):
    exact, rough = tiny_gates(16), in_precision(tiny_gates(16), precision)
    assert any(isinstance(module, part) for module in rough.modules())
    apart = logits_along(exact, surface(), walks) - logits_along(rough, surface(), walks)
    assert 0 < apart.std() / logits_along(exact, surface(), walks).std() < close


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-4), ("bf16", 0.02), ("int8", 0.05)])
def test_several_rows_are_written_like_each_alone(tiny_gates, surface, walks, precision, close):
    network = in_precision(tiny_gates(16), precision)
    together = logits_along(network, surface(), walks)
    for row in range(2):
        alone = logits_along(network, surface()[row : row + 1], walks[row : row + 1])[0]
        assert (alone - together[row]).std() < close * alone.std()


@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-4), ("bf16", 0.02), ("int8", 0.02)])
@torch.no_grad()
def test_with_the_cache_the_transformer_says_what_it_says_without(tiny_gates, precision, close):
    body = in_precision(tiny_gates(16), precision).body
    x, cache = torch.randn(2, 9, 32), body.cache(2, 9)
    steps = torch.cat([body(x[:, at : at + 1], cache) for at in range(9)], 1)
    assert (steps - body(x)).std() < close * steps.std()


def test_large_sums_in_int8_are_not_cut_off():
    """Weights and inputs that are all large: where pairs of products are added up in 16 bits, they do not fit."""
    linear, x = torch.nn.Linear(256, 512, bias=False), torch.rand(4, 256) + 0.9
    linear.weight.data.sign_()
    assert (Int8Linear(linear)(x) - linear(x)).abs().max() < 0.02 * linear(x).abs().max()


def test_a_single_row_takes_the_other_path_and_gives_the_switch_back():
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    for rows, inside in ((1, "none"), (2, "bf16")):
        with best_for(rows):
            assert matmul.fp32_precision == inside
        assert matmul.fp32_precision == "bf16"
    matmul.fp32_precision = before


def test_weights_laid_for_rows_are_the_same_weights():
    linear, x = torch.nn.Linear(24, 40), torch.randn(3, 24)
    before, said = linear.weight.detach().clone(), linear(x)
    laid_for_rows(linear)
    assert torch.equal(linear.weight, before) and linear.weight.stride() == (1, 40)
    torch.testing.assert_close(linear(x), said)


def test_a_large_network_is_made_of_random_weights():
    body = TransformerConfig(dim=64, layers=2, heads=2)
    network = large(GateModelConfig(bins=32), body)
    assert network.config.body == body
    assert all(weight.device.type == "cpu" and weight.std() > 0 for weight in network.parameters())
    assert torch.equal(network.places, GatesTokenizer(32).middles)
