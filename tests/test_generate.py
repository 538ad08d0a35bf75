"""Picking ids and writing meshes: legal ids only, the same for the same seed, whoever is written beside them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from meshgpt.gate_model import GateModel
from meshgpt.generate import Sampling, Verdict, generate, pick
from meshgpt.memory import remember
from meshgpt.mesh import canonical
from meshgpt.steps import Seen, StepModel
from meshgpt.tokenizer import CoordsTokenizer, DracoTokenizer, MeshTokenizer
from meshgpt.tokenizer.face_grammar import FaceGrammar
from meshgpt.tokenizer.interface import Grammar, Steering

# Pick


def shares_in_words(logits: np.ndarray, legal: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probability of each id: softmax of the legal ones, the k likeliest, of them the fewest that reach p."""
    weights = np.where(legal, np.exp((logits - logits[legal].max()) / sampling.temperature), 0)
    order = np.argsort(-weights, kind="stable")
    if sampling.top_k:
        weights[order[sampling.top_k :]] = 0
    weights /= weights.sum()
    reached = 0.0
    for id in order:
        if reached >= sampling.top_p:
            weights[id] = 0
        reached += weights[id]
    return weights / weights.sum()


def random_logits(rows: int = 4, ids: int = 12, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    legal = torch.rand(rows, ids, generator=rng) < 0.6
    legal[:, 3] = True
    return 2 * torch.randn(rows, ids, generator=rng), legal


SAMPLINGS = [
    Sampling(),
    Sampling(temperature=0.5),
    Sampling(temperature=3.0),
    Sampling(top_k=1),
    Sampling(top_k=3),
    Sampling(top_k=99),
    Sampling(top_p=0.5),
    Sampling(top_p=0.9, temperature=1.5),
    Sampling(top_p=1e-6),
    Sampling(top_k=4, top_p=0.8),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_each_id_is_picked_as_often_as_it_should_be(sampling):
    """Uniform numbers at even distances, so that the counts are exact but for one at each border."""
    logits, legal = random_logits()
    count = 1000
    for row in range(len(logits)):
        uniform = (torch.arange(count) + 0.5) / count
        ids = pick(logits, legal, torch.full((count,), row), uniform, sampling)
        found = np.bincount(ids.numpy(), minlength=logits.shape[1])
        wanted = shares_in_words(logits[row].double().numpy(), legal[row].numpy(), sampling) * count
        np.testing.assert_allclose(found, wanted, atol=1.01)
        assert not found[wanted == 0].any()


def test_temperature_0_takes_the_likeliest_legal_id():
    logits, legal = random_logits(50)
    ids = pick(logits, legal, torch.arange(50), torch.rand(50), Sampling(temperature=0.0))
    wanted = [max(np.flatnonzero(ok), key=lambda id, row=row: row[id]) for row, ok in zip(logits.tolist(), legal.numpy(), strict=True)]
    assert ids.tolist() == wanted


@pytest.mark.parametrize(
    "sampling", [*SAMPLINGS, Sampling(temperature=0.0), Sampling(temperature=1e-3), Sampling(temperature=1e3)], ids=str
)
@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_illegal_ids_are_never_picked(sampling, uniform):
    logits, legal = random_logits(200)
    logits[~legal] += 50
    ids = pick(logits, legal, torch.arange(200), torch.full((200,), uniform, dtype=torch.float64), sampling)
    assert legal.gather(1, ids[:, None]).all()


def test_a_row_depends_on_its_own_numbers_alone():
    logits, legal = random_logits(20)
    uniform = torch.rand(20)
    together = pick(logits, legal, torch.arange(20), uniform, Sampling(top_p=0.9))
    for row in range(20):
        one = slice(row, row + 1)
        assert pick(logits[one], legal[one], torch.tensor([0]), uniform[one], Sampling(top_p=0.9)) == together[one]


def test_the_only_legal_id_is_picked_however_unlikely():
    logits, legal = torch.tensor([[9.0, -80, 3]]), torch.tensor([[False, True, False]])
    for sampling in (Sampling(), Sampling(temperature=0.0), Sampling(top_k=1), Sampling(top_p=0.1)):
        assert pick(logits, legal, torch.tensor([0]), torch.tensor([0.7]), sampling) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"temperature": -1.0},
            r"^temperature -1.0, .* do not fit; use temperature, top-k and guidance of at least 0, and top-p in \(0, 1\]$",
        ),
        ({"top_k": -1}, "top-k -1"),
        ({"top_p": 0.0}, "top-p 0.0"),
        ({"top_p": 1.1}, "top-p 1.1"),
        ({"guidance": -0.1}, "guidance -0.1"),
        ({"min_faces": 5, "max_faces": 4}, "^5 to 4 faces do not fit; use 1 <= min-faces <= max-faces$"),
        ({"tries": 0}, "^0 tries for each face do not fit; use at least 1$"),
        ({"min_faces": 0, "max_faces": 400}, "^0 to 400 faces do not fit"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**settings)


# Generate


@pytest.fixture
def write(tiny_steps, surface) -> Callable[..., list[np.ndarray]]:
    """Untrained meshes: the ids of each row, without the filling."""

    def run(grammar: Grammar, network: StepModel, seeds: list[int], sampling: Sampling, guided: bool = False) -> list[np.ndarray]:
        return rows_of(list(steps(grammar, network, seeds, sampling, guided)), len(seeds), network.config.width)

    def steps(grammar, network, seeds, sampling, guided):
        points = surface(1)
        same = torch.zeros(len(seeds), dtype=torch.long)
        seen = network.see(points).select(same)
        blank = network.see(points, torch.tensor([True])).select(same) if guided else None
        return generate(network, seen, blank, grammar, seeds, sampling)

    run.steps = steps
    return run


def rows_of(steps: list[np.ndarray], rows: int, width: int) -> list[np.ndarray]:
    whole = np.stack(steps, 1) if steps else np.zeros((rows, 0, width), dtype=np.int64)
    for row in whole:
        length = int((row[:, 0] >= 0).sum())
        assert (row[:length] >= 0).all(), "ids between the filling"
        assert (row[length:] == -1).all(), "filling between the ids"
    return [row[row[:, 0] >= 0] for row in whole]


def end_bias(network: StepModel | GateModel, value: float) -> None:
    end = network.decoder.stop if isinstance(network, GateModel) else network.depth.end
    torch.nn.init.constant_(end.bias, value)
    torch.nn.init.zeros_(end.weight)


@pytest.fixture
def coords() -> CoordsTokenizer:
    return CoordsTokenizer(8)


SEEDS = list(range(6))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_untrained_sample_is_a_canonical_mesh(write, tiny_steps, coords, temperature):
    network = tiny_steps(8)
    end_bias(network, -3)
    for ids in write(coords.grammar(), network, SEEDS, Sampling(temperature, max_faces=20)):
        corners = coords.decode(ids)
        np.testing.assert_array_equal(corners, canonical(corners))
        assert len(corners) == len(ids)


def test_every_untrained_sample_of_every_tokenizer_decodes(write, tiny_network, tokenizer: MeshTokenizer):
    if isinstance(tokenizer, DracoTokenizer):
        pytest.skip("it has no grammar; test_codec.py checks that it says so")
    network = tiny_network(tokenizer)
    end_bias(network, -3)
    by_face = tokenizer.width == 3 * tokenizer.spell
    for ids in write(tokenizer.grammar(), network, SEEDS[:4], Sampling(max_faces=10 if by_face else 60, min_faces=2)):
        corners = tokenizer.decode(ids, strict=by_face)
        np.testing.assert_array_equal(corners, canonical(corners))
        steps = ids.reshape(len(ids), 3, -1) if by_face else corners
        faces = [frozenset(map(tuple, face)) for face in steps.tolist()]
        assert len(set(faces)) == len(faces) >= (2 if by_face else 0)
        assert all(len(face) == 3 for face in faces)


def test_a_seed_is_a_sample(write, tiny_steps, coords):
    network = tiny_steps(8)
    end_bias(network, -1)
    one, two = (write(coords.grammar(), network, SEEDS, Sampling(max_faces=12)) for _ in range(2))
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({ids.tobytes() for ids in one}) == len(SEEDS)


@pytest.mark.parametrize("guided", [False, True])
def test_a_row_is_the_same_in_any_batch(write, tiny_steps, coords, guided):
    network, sampling = tiny_steps(8), Sampling(max_faces=12, guidance=1.5)
    end_bias(network, 3)
    together = write(coords.grammar(), network, SEEDS, sampling, guided)
    assert len({len(ids) for ids in together}) > 2, "rows should end at different times"
    for seed, ids in zip(SEEDS, together, strict=True):
        (alone,) = write(coords.grammar(), network, [seed], sampling, guided)
        np.testing.assert_array_equal(alone, ids)
    for seed, ids in zip(SEEDS[::-1], write(coords.grammar(), network, SEEDS[::-1], sampling, guided), strict=True):
        np.testing.assert_array_equal(ids, together[seed])


def test_the_face_limit_cuts_and_the_least_faces_are_kept(write, tiny_steps):
    network, grammar = tiny_steps(8), FaceGrammar(8, 3)
    end_bias(network, -1e4)
    assert [len(ids) for ids in write(grammar, network, SEEDS, Sampling(max_faces=7))] == [7] * 6
    end_bias(network, 1e4)
    assert [len(ids) for ids in write(grammar, network, SEEDS, Sampling(min_faces=5, max_faces=7))] == [5] * 6
    assert [len(ids) for ids in write(grammar, network, SEEDS, Sampling())] == [1] * 6


def test_guidance_of_1_is_none(write, tiny_steps, coords):
    network = tiny_steps(8)
    end_bias(network, 0)
    without = write(coords.grammar(), network, SEEDS, Sampling(max_faces=9))
    for sampling, guided in ((Sampling(max_faces=9, guidance=1.0), True), (Sampling(max_faces=9, guidance=5.0), False)):
        for one, two in zip(without, write(coords.grammar(), network, SEEDS, sampling, guided), strict=True):
            np.testing.assert_array_equal(one, two)
    strong = write(coords.grammar(), network, SEEDS, Sampling(max_faces=9, guidance=5.0), guided=True)
    assert any(len(one) != len(two) or (one != two).any() for one, two in zip(without, strong, strict=True))


def test_guidance_of_0_is_writing_blindly(write, tiny_steps, coords, surface):
    network = tiny_steps(8, places=True)
    end_bias(network, 0)
    unseeing = write(coords.grammar(), network, SEEDS, Sampling(max_faces=9, guidance=0.0), guided=True)
    blank = network.see(surface(1), torch.tensor([True])).select(torch.zeros(6, dtype=torch.long))
    steps = list(generate(network, blank, None, coords.grammar(), SEEDS, Sampling(max_faces=9)))
    for one, two in zip(unseeing, rows_of(steps, 6, 9), strict=True):
        np.testing.assert_array_equal(one, two)


def test_steps_come_as_they_are_written(write, tiny_steps, coords):
    network = tiny_steps(8)
    end_bias(network, -1e4)
    steps = write.steps(coords.grammar(), network, SEEDS, Sampling(max_faces=800), False)
    first = [next(steps) for _ in range(2)]
    assert first[0].shape == (6, 9)
    two = write(coords.grammar(), network, SEEDS, Sampling(max_faces=2))
    np.testing.assert_array_equal(np.stack(first, 1), two)


def greedy_in_words(network: StepModel, seen: Seen, grammar: Grammar, faces: int) -> np.ndarray:
    """The likeliest legal ids, by reading the whole sequence anew for each of them."""
    state, width = grammar.start(), network.config.width
    ids = torch.zeros(1, faces, width, dtype=torch.long)
    for step in range(faces):
        for slot in range(width):
            memory = remember(ids, network.depth.shifts, network.config.bins)
            hidden = network._read(ids, seen)
            logits = list(network.depth(hidden, network._with_end_row(ids), memory, seen.places, range(width)))[slot][0, step].numpy()
            legal = grammar.legal(state)[: len(logits)]
            if slot == 0:
                legal[-1] = False
            ids[0, step, slot] = int(np.where(legal, logits, -np.inf).argmax())
            state = grammar.advance(state, int(ids[0, step, slot]))
    return ids[0].numpy()


@torch.no_grad()
@pytest.mark.parametrize(("places", "manifold"), [(False, False), (True, False), (True, True)])
def test_what_is_written_is_what_the_network_thinks(write, tiny_steps, surface, places, manifold):
    """What generation keeps between ids (cache, memory, open step) is what training sees of whole sequences."""
    network, grammar = tiny_steps(8, places=places), FaceGrammar(8, 3, manifold)
    (ids,) = write(grammar, network, [0], Sampling(temperature=0.0, max_faces=5, min_faces=5))
    np.testing.assert_array_equal(ids, greedy_in_words(network, network.see(surface(1)), grammar, 5))


@pytest.mark.parametrize("grammar", [CoordsTokenizer(2).grammar(), FaceGrammar(4, 1)], ids=["coords", "faces"])
def test_rows_that_run_out_of_faces_end_and_disturb_nobody(write, tiny_steps, grammar):
    """Few vertices have few faces: a row ends when it has them all, however many are wanted; the others must go on till they have."""
    vocab = len(grammar.legal(grammar.start())) - 1
    network = tiny_steps(vocab, 9, 3) if vocab == 2 else tiny_steps(vocab, 3, 1)
    end_bias(network, 1e4)
    sampling = Sampling(temperature=3.0, max_faces=60, min_faces=60)
    seeds = list(range(12))
    together = write(grammar, network, seeds, sampling)
    for seed, ids in zip(seeds, together, strict=True):
        assert 0 < len(ids) < 60
        (alone,) = write(grammar, network, [seed], sampling)
        np.testing.assert_array_equal(alone, ids)


# Judges


class Picky:
    """Takes the way with the highest first id, once it has seen eight of them; ends the mesh after so many faces."""

    def __init__(self, faces: int) -> None:
        self.left, self.passed, self.seen = faces, set(), []

    @property
    def steering(self) -> Steering:
        return Steering(self.passed)

    @property
    def whole(self) -> bool:
        return not self.left

    @property
    def unfinished(self) -> bool:
        return False

    def promising(self, ids: np.ndarray, ended: np.ndarray) -> np.ndarray:
        return np.ones(len(ids), dtype=bool)

    def judge(self, ids: np.ndarray, ended: np.ndarray, uniform: float) -> Verdict:
        if len(ids) < 8:
            return Verdict("again")
        self.seen.append(ids)
        self.left -= 1
        return Verdict("take", int(np.where(ended, -1, ids[:, 0]).argmax()))


def judged(
    network: StepModel, points: torch.Tensor, grammar: Grammar, seeds: list[int], sampling: Sampling, judges: list
) -> list[np.ndarray]:
    seen = network.see(points).select(torch.zeros(len(seeds), dtype=torch.long))
    blank = network.see(points, torch.tensor([True])).select(torch.zeros(len(seeds), dtype=torch.long))
    return rows_of(list(generate(network, seen, blank, grammar, seeds, sampling, judges)), len(seeds), network.config.width)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_a_judge_chooses_among_ways_and_ends_the_mesh(tiny_steps, surface, guidance):
    network, judges = tiny_steps(8), [Picky(3), Picky(5)]
    end_bias(network, -2)
    rows = judged(network, surface(1), FaceGrammar(8, 3), [4, 5], Sampling(tries=4, guidance=guidance), judges)
    assert [len(ids) for ids in rows] == [3, 5]
    for ids, judge in zip(rows, judges, strict=True):
        assert len({way.tobytes() for ways in judge.seen for way in ways}) > 12, "ways should differ"
        for step, ways in zip(ids, judge.seen, strict=True):
            assert step[0] == ways[:, 0].max()
            assert (ways == step).all(1).any()


@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_a_judged_row_is_the_same_in_any_batch(tiny_steps, surface, guidance):
    network, sampling = tiny_steps(8, places=True), Sampling(tries=4, guidance=guidance)
    faces = {3: 2, 4: 6, 5: 4}
    together = judged(network, surface(1), FaceGrammar(8, 3), list(faces), sampling, [Picky(count) for count in faces.values()])
    for (seed, count), ids in zip(faces.items(), together, strict=True):
        (alone,) = judged(network, surface(1), FaceGrammar(8, 3), [seed], sampling, [Picky(count)])
        np.testing.assert_array_equal(alone, ids)


def test_what_a_judge_passes_over_begins_no_face_any_more(tiny_steps, surface):
    class Passing(Picky):
        def judge(self, ids: np.ndarray, ended: np.ndarray, uniform: float) -> Verdict:
            firsts = [tuple(first) for first in ids[:, :3].tolist()]
            assert not self.passed & set(firsts)
            self.left -= 1
            if self.left % 2:
                self.passed.add(firsts[0])
                return Verdict("pass")
            return Verdict("take")

    network, judge = tiny_steps(32), Passing(40)
    end_bias(network, -1e4)
    (ids,) = judged(network, surface(1), FaceGrammar(32, 3), [0], Sampling(tries=4), [judge])
    assert len(judge.passed) == len(ids) == 20


def test_a_judge_may_end_a_mesh_without_a_face(tiny_steps, surface):
    class Refusing(Picky):
        def judge(self, ids: np.ndarray, ended: np.ndarray, uniform: float) -> Verdict:
            return Verdict("end")

    rows = judged(tiny_steps(8), surface(1), FaceGrammar(8, 3), [0, 1], Sampling(tries=2), [Refusing(9), Picky(2)])
    assert [len(ids) for ids in rows] == [0, 2]


def test_a_row_goes_on_while_its_judge_misses_much(tiny_steps, surface):
    """END is likeliest by far, and is not proposed until the judge lets it come."""

    class Missing(Picky):
        unfinished = property(lambda self: self.left > 4)

        def judge(self, ids: np.ndarray, ended: np.ndarray, uniform: float) -> Verdict:
            assert not (ended.any() and self.unfinished)
            self.left -= 1
            return Verdict("end") if ended[0] else Verdict("take")

    network = tiny_steps(8)
    end_bias(network, 1e4)
    rows = judged(network, surface(1), FaceGrammar(8, 3), [0, 1], Sampling(tries=2), [Missing(9), Missing(6)])
    assert [len(ids) for ids in rows] == [5, 2]
