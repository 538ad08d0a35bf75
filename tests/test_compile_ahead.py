import pytest

from meshgpt.compile_ahead import compile_ahead, compiling_ahead
from meshgpt.shared_jobs import processors


def compile_something() -> None:
    from numba import njit

    assert njit(lambda number: number + 1)(1) == 2


@pytest.mark.skipif(processors() == 1, reason="there is no core for a second process")
def test_a_process_compiles_beside_the_run_from_its_first_loop_on_until_it_ends():
    said = []
    with compiling_ahead(lambda: said.append("begun"), beside=True) as processes:
        assert not said and not processes
        compile_something()
        compile_something()
        assert said == ["begun"] and len(processes) == 1 and processes[0].poll() is None
    assert processes[0].poll() is not None


def test_where_nothing_is_compiled_nothing_begins():
    said = []
    with compiling_ahead(lambda: said.append("begun"), beside=True) as processes:
        pass
    compile_something()
    assert not said and not processes


def test_without_a_process_beside_it_is_only_said():
    said = []
    with compiling_ahead(lambda: said.append("begun"), beside=False) as processes:
        compile_something()
    assert said == ["begun"] and not processes


def test_what_is_compiled_ahead_is_what_a_mesh_needs():
    import numpy as np

    from meshgpt.cloud import Cloud
    from meshgpt.compiled import before_compiling
    from meshgpt.model import MeshGPT

    compile_ahead()
    said = []
    with before_compiling(lambda: said.append("compiled")):
        MeshGPT.from_pretrained(device="cpu").samples(Cloud(np.random.default_rng(0).normal(size=(600, 3)) * [1, 0.2, 1]))
    assert not said
