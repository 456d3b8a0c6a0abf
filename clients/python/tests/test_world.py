"""The engine from Python: its bytes, its errors, its branches."""

import ast
import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest

import worldline
from worldline import Button, CartridgeError, FrameError, InputsError, Pad, Player, StartError, World, _native
from worldline.world import INPUTS, PAD, STATE

ROOT = Path(__file__).resolve().parents[3]
MICRO = ROOT / "worlds" / "micro.cart"
STAGE, CHARACTERS = 31, (2, 20)
REST = np.zeros(2, PAD)


def recorded(frames):
    """Two people's recorded pads, as the golden trace of the Rust engine has them."""
    files = sorted((ROOT / "worlds" / "ghost").iterdir())[:2]
    pads = [np.frombuffer(zlib.decompress(file.read_bytes()[16:]), PAD) for file in files]
    return np.stack([np.resize(one, frames) for one in pads], axis=1)


def test_a_trace_driven_by_python_has_the_hashes_of_the_rust_engine():
    golden = np.fromfile(ROOT / "programs" / "tests" / "golden" / "micro.trace", "S8")
    world, frames = World.load(MICRO, STAGE, CHARACTERS), 0
    for pads in recorded(len(golden)):
        inputs = np.zeros((), INPUTS)
        inputs["slots"]["pad"], inputs["slots"]["sequence"], inputs["frame"] = pads, frames + 1, frames + 1
        state = world.step(inputs)
        found = [hashlib.sha256(part).digest()[:4] for part in (state.tobytes(), world.hidden.tobytes())]
        assert b"".join(found) == golden[frames : frames + 1].tobytes(), f"frame {frames}"
        frames += 1
        if world.ended:
            break
    assert frames > 300, "the recorded match is too short to say anything"


def test_many_frames_at_once_are_the_same_as_one_after_the_other():
    pads = recorded(200)
    one, other = (World.load(MICRO, STAGE, CHARACTERS) for _ in range(2))
    states = one.play(pads)
    assert [state.tobytes() for state in states] == [other.step(pair).tobytes() for pair in pads]
    assert (one.chain, one.hidden.tobytes()) == (other.chain, other.hidden.tobytes())


def test_a_rollout_is_what_branches_do_and_changes_nothing():
    world = World.load(MICRO, STAGE, CHARACTERS)
    world.play(recorded(50))
    before = world.state.tobytes(), world.hidden.tobytes()
    plans = np.stack([np.roll(recorded(40), shift, axis=0) for shift in (0, 7, 13)])
    ends = world.rollout(plans)
    for plan, end in zip(plans, ends):
        assert world.branch().play(plan)[-1].tobytes() == end.tobytes()
    assert len({end.tobytes() for end in ends}) == 3
    assert (world.state.tobytes(), world.hidden.tobytes()) == before


def test_states_are_numpy_records_that_nothing_changes():
    world = World.load(MICRO, STAGE, CHARACTERS)
    state = world.step([Pad(stick=(1, 0)), Pad(buttons=Button.A | Button.X)])
    assert (state.dtype, STATE.itemsize, PAD.itemsize, INPUTS.itemsize) == (STATE, 256, 12, 32)
    assert (int(state["frame"]), state["players"]["stocks"].tolist()) == (1, [4, 4])
    assert state["players"]["character"].tolist() == list(CHARACTERS)
    with pytest.raises(ValueError):
        world.hidden[0, 0] = 1
    assert world.hidden.dtype == np.uint8 and world.hidden.shape[1] == _native.PAGE_DATA


def test_a_match_that_is_over_has_no_frames():
    world = World.load(MICRO, STAGE, CHARACTERS)
    states = world.play(np.zeros((40_000, 2), PAD))
    assert world.ended and int(states[-1]["status"]) == _native.ENDED
    with pytest.raises(FrameError, match="only an active match"):
        world.step(REST)
    assert world.rollout(np.zeros((2, 5, 2), PAD))[0].tobytes() == world.state.tobytes()


def test_a_learned_player_plays_and_plays_the_same_again():
    def play():
        world, player = World.load(MICRO, STAGE, CHARACTERS), Player.load(ROOT / "worlds" / "rival.cart", seat=1, seed=7)
        for _ in range(60):
            world.step([Pad(), player.pad(world)])
        return world.chain

    rest = World.load(MICRO, STAGE, CHARACTERS)
    rest.play(np.zeros((60, 2), PAD))
    assert play() == play() != rest.chain


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: b"", "bytes where"),
        (lambda file: b"not a cartridge" * 100, "WLCART"),
        (lambda file: file[:-64], "bytes where"),
        (lambda file: file[:100] + b"\xff" + file[101:], "manifest"),
        (lambda file: file[:-100] + bytes([file[-100] ^ 1]) + file[-99:], "Merkle root"),
        (lambda file: file[:8] + b"\x09" + file[9:], "version 9"),
    ],
)
def test_bad_files_are_refused_in_words(tmp_path, damage, words):
    file = tmp_path / "bad.cart"
    file.write_bytes(damage(MICRO.read_bytes()))
    with pytest.raises(CartridgeError, match=words):
        World.load(file)


def test_missing_files_and_wrong_starts_have_their_own_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        World.load(tmp_path / "none.cart")
    with pytest.raises(StartError, match="no start on stage 99"):
        World.load(MICRO, stage=99)
    with pytest.raises(StartError, match="load a world"):
        World.load(ROOT / "worlds" / "rival.cart", STAGE, CHARACTERS)
    with pytest.raises(StartError, match="load a policy"):
        Player.load(MICRO)


@pytest.mark.parametrize(
    "inputs",
    [
        np.zeros((1, 2)),
        [1, 2],
        np.zeros(3, PAD),
        np.zeros((2, 2), PAD),
        np.zeros((0, 2), PAD),
        np.array([((0, 0), (0, 0), (0, 0), 0x8000)] * 2, PAD),
        np.array([((32_001, 0), (0, 0), (0, 0), 0)] * 2, PAD),
    ],
)
def test_bad_inputs_are_refused_and_change_nothing(inputs):
    world = World.load(MICRO, STAGE, CHARACTERS)
    before = world.state.tobytes()
    with pytest.raises(InputsError):
        world.step(inputs)
    assert world.state.tobytes() == before


def test_bad_pads_and_plans_are_refused():
    for wrong in [{"stick": (1.1, 0)}, {"stick": (1,)}, {"triggers": (-1, 0)}, {"cstick": (float("nan"), 0)}]:
        with pytest.raises(InputsError):
            Pad(**wrong)
    world = World.load(MICRO, STAGE, CHARACTERS)
    for shape in [(2, 2), (0, 5, 2), (2, 5, 3), (_native.MAX_BRANCHES + 1, 1, 2)]:
        with pytest.raises(InputsError):
            world.rollout(np.zeros(shape, PAD))
    wrong = np.zeros((), INPUTS)
    wrong["frame"] = 7
    with pytest.raises(FrameError, match="the next frame is 1"):
        world.step(wrong)


def test_the_stubs_name_what_the_module_has():
    stubs = ast.parse((Path(worldline.__file__).parent / "_native.pyi").read_text())
    named = {node.target.id for node in stubs.body if isinstance(node, ast.AnnAssign)}
    for node in stubs.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            named.add(node.name)
        if isinstance(node, ast.ClassDef) and not node.name.endswith("Error"):
            methods = {method.name for method in node.body}
            assert methods == {name for name in dir(getattr(_native, node.name)) if not name.startswith("_")}
    assert named == {name for name in dir(_native) if not name.startswith("_")}


def test_all_that_the_package_offers_is_there():
    assert all(getattr(worldline, name) is not None for name in worldline.__all__)
    with pytest.raises(AttributeError):
        worldline.nonsense
