"""The names of a code world: a universe, its strategies, and the three roles of a search."""

import copy
import random
from pathlib import Path

import pytest

from worldline import coordinate_proposals, evolve, generate_proposals, load_universe, validate_proposals
from worldline.universe import STRATEGIES


@pytest.fixture(autouse=True)
def shelf(monkeypatch):
    monkeypatch.setenv("WORLDLINE_WORLDS", str(Path(__file__).resolve().parents[3] / "worlds"))
    random.seed(1)


def test_a_universe_is_played_under_the_callers_strategy():
    cell = {"load_universe": load_universe, "evolve": evolve}
    exec("data = load_universe('micro'); strategy = 'random'; told = evolve(frames=45)", cell)
    assert (cell["told"]["strategy"], cell["told"]["frame"]) == ("random", 45)
    assert cell["told"]["payoffs"] == cell["data"].payoffs()
    assert cell["told"]["welfare"] == pytest.approx(sum(cell["told"]["payoffs"]))
    with pytest.raises(ValueError, match="take one of selfish, cooperative, random"):
        exec("strategy = 'kind'; evolve()", cell)


def test_to_strike_pays_for_one_and_costs_both():
    told = {}
    for strategy in STRATEGIES:
        load_universe("melee")
        told[strategy] = evolve(strategy, frames=200)
    assert told["cooperative"]["welfare"] == 800
    assert told["selfish"]["welfare"] < told["cooperative"]["welfare"]
    assert len({one["chain"] for one in told.values()}) == 3


def test_the_same_universe_and_strategy_lead_to_the_same_bytes():
    load_universe("micro")
    first = evolve("selfish", frames=60)
    load_universe("micro")
    assert evolve("selfish", frames=60) == first


def test_a_branch_of_a_universe_leaves_it_as_it_was():
    universe = load_universe("micro")
    branch = universe.branch()
    evolve("random", frames=30, universe=branch)
    assert (int(universe.world.state["frame"]), int(branch.world.state["frame"])) == (0, 30)


def test_proposals_are_made_merged_and_checked():
    load_universe("micro")
    made = generate_proposals(4)
    merged = coordinate_proposals(made, generate_proposals(3), made)
    assert len(merged) == 7
    assert [sum(one["payoffs"]) for one in merged] == sorted((sum(one["payoffs"]) for one in merged), reverse=True)
    assert validate_proposals(merged) == merged


def test_a_proposal_that_does_not_lead_where_it_claims_is_dropped():
    load_universe("micro")
    true, false = generate_proposals(2)
    false = copy.deepcopy(false)
    false["payoffs"][0] += 1
    nonsense = [{}, {"moves": [["fly", "rest"]]}, {"moves": []}, {"moves": 7}, None, "x"]
    assert validate_proposals([true, false, *nonsense]) == [true]


def test_each_role_works_alone_as_the_examples_call_it():
    for role in (generate_proposals, coordinate_proposals, validate_proposals):
        load_universe("micro")
        assert len(role()) == 3


def test_what_is_out_of_bounds_is_refused():
    load_universe("micro")
    for call in (lambda: evolve("random", frames=0), lambda: evolve("random", frames=10**9), lambda: generate_proposals(0), lambda: generate_proposals(10**6)):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(FileNotFoundError):
        load_universe("no such world")
