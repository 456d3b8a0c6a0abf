"""A learned world in this process: `cartridge::step` under NumPy's names.

A state is a record of the dtype `STATE`, 256 bytes; inputs are two pads a frame. The layouts are those of
the engine, which tells them field by field, so they cannot drift from it.
"""

import re
from enum import IntFlag

import numpy as np

from . import _native
from ._native import CartridgeError, FrameError, InputsError, StartError

__all__ = ["INPUTS", "PAD", "STATE", "Button", "CartridgeError", "FrameError", "InputsError", "Pad", "Player", "StartError", "World"]

_KIND = re.compile(r"\[(?P<item>.+); (?P<length>\d+)\]|(?P<number>[ui](?:8|16|32|64))|(?:\w+::)*(?P<name>\w+)")


def _dtype(name):
    """The dtype of one of the engine's layouts."""
    size, fields = _native.layout(name)
    names, offsets, kinds = zip(*fields)
    formats = [_format(kind) for kind in kinds]
    return np.dtype({"names": names, "offsets": offsets, "formats": formats, "itemsize": size})


def _format(kind):
    """A Rust type as a dtype."""
    found = _KIND.fullmatch(kind)
    if found["item"]:
        return np.dtype((_format(found["item"]), (int(found["length"]),)))
    if found["number"]:
        return np.dtype(f"<{found['number'][0]}{int(found['number'][1:]) // 8}")
    return _dtype(found["name"])


PAD = _dtype("Pad")
"""One controller in one frame."""
INPUTS = _dtype("InputBuffer")
"""Both seats' pads with their running counts, and the frame that they produce."""
STATE = _dtype("SessionState")
"""A match in one frame."""

Button = IntFlag("Button", _native.BUTTONS)
Button.__doc__ = "The buttons of a pad."


def Pad(stick=(0, 0), cstick=(0, 0), triggers=(0, 0), buttons=0):
    """A pad: sticks from -1 to 1, triggers from 0 to 1, buttons of `Button`."""
    pad = np.zeros((), PAD)
    for name, values, unit in [("stick", stick, _native.STICK_UNIT), ("cstick", cstick, _native.STICK_UNIT), ("triggers", triggers, 255)]:
        least = 0 if name == "triggers" else -1
        if len(values) != 2 or not all(least <= value <= 1 for value in values):
            raise InputsError(f"{name} is two numbers from {least} to 1, not {values!r}")
        pad[name] = [round(value * unit) for value in values]
    pad["buttons"] = int(buttons)
    return pad[()]


class World:
    """A match of a learned world: its state, its hidden state, and the step that moves both.

    The same cartridge, start and inputs give the same bytes as the Rust engine, on every machine.
    """

    def __init__(self, cartridge, match):
        self._cartridge, self._match = cartridge, match

    @classmethod
    def load(cls, cartridge, stage=None, characters=None, seed=0):
        """Opens a cartridge, checks all of it, and stands before the first frame of a match.

        `CartridgeError` says what is wrong with a file, `StartError` what is wrong with a start. Without
        a stage it is the first, without characters the first and the last that the stage has.
        """
        opened = _native.Cartridge.open(cartridge)
        starts = dict(opened.starts)
        stage = min(starts, default=0) if stage is None else stage
        if characters is None:
            known = starts.get(stage) or [0]
            characters = [known[0], known[-1]]
        return cls(opened, opened.start(stage, list(characters), seed))

    @property
    def name(self):
        """The name in the cartridge's manifest."""
        return self._cartridge.name

    @property
    def root(self):
        """The cartridge's Merkle root: the world's identity."""
        return self._cartridge.root

    @property
    def schema(self):
        """What the numbers of a state mean in this world, as JSON."""
        return self._cartridge.schema

    @property
    def starts(self):
        """The stages that a match can start on, and the characters of each."""
        return {stage: list(characters) for stage, characters in self._cartridge.starts}

    @property
    def state(self):
        """The state: a record of `STATE`, a copy that nothing changes."""
        return np.frombuffer(self._match.state, STATE)[0]

    @property
    def hidden(self):
        """The hidden state: an array of bytes, a row for each page."""
        return np.frombuffer(self._match.hidden, np.uint8).reshape(-1, _native.PAGE_DATA)

    @property
    def chain(self):
        """The hash of all frames so far, in hexadecimal."""
        return bytes(self.state["chain"]).hex()

    @property
    def ended(self):
        """Whether the match is over."""
        return bool(self.state["status"] == _native.ENDED)

    def step(self, inputs):
        """Runs one frame on two pads, or on one record of `INPUTS`; gives the state."""
        inputs = self._inputs(inputs)
        if inputs.shape != (1,):
            raise InputsError(f"step runs one frame, these are {len(inputs)}: use play")
        return np.frombuffer(self._match.step(inputs.tobytes()), STATE)[0]

    def play(self, inputs):
        """Runs a frame for each row, until the match ends; gives the states, one for each frame run.

        Rows are pairs of pads, or records of `INPUTS`.
        """
        return np.frombuffer(self._match.step(self._inputs(inputs).tobytes()), STATE)

    def rollout(self, plans):
        """The last states of branches, each played on its own plan: pads of the shape (branches, frames, 2).

        This world does not change.
        """
        plans = _array(plans, PAD)
        if plans.ndim != 3 or plans.shape[2] != 2:
            raise InputsError(f"plans are pads of the shape (branches, frames, 2), not {plans.shape}")
        return np.frombuffer(self._match.rollout(plans.tobytes(), len(plans)), STATE)

    def branch(self):
        """A copy that goes its own way."""
        return World(self._cartridge, self._match.branch())

    def _inputs(self, inputs):
        """Pads as input buffers of the next frames."""
        if getattr(inputs, "dtype", None) == INPUTS:
            return np.ascontiguousarray(inputs).reshape(-1)
        pads = _array(inputs, PAD)
        if pads.size == 0 or pads.shape[-1:] != (2,):
            raise InputsError(f"a frame needs two pads, these have the shape {pads.shape}")
        pads = pads.reshape(-1, 2)
        buffers = np.zeros(len(pads), INPUTS)
        buffers["slots"]["pad"] = pads
        buffers["frame"] = int(self.state["frame"]) + 1 + np.arange(len(pads))
        return buffers

    def __repr__(self):
        state = self.state
        return f"<World {self.name!r}, frame {state['frame']}, {self.root[:8]}>"



class Player:
    """A learned player of a seat: it sees what a player sees, and holds a pad."""

    def __init__(self, cartridge, player):
        self._cartridge, self._player = cartridge, player

    @classmethod
    def load(cls, cartridge, seat=1, seed=0):
        """Opens a policy's cartridge and sits down. The same seed and frames give the same pads."""
        opened = _native.Cartridge.open(cartridge)
        return cls(opened, opened.player(seat, seed))

    def pad(self, world):
        """The pad for the world's next frame. Ask once a frame: it remembers what it saw."""
        return np.frombuffer(self._player.pad(world._match), PAD)[0]

    def branch(self):
        """A copy that goes its own way."""
        return Player(self._cartridge, self._player.branch())


def _array(values, dtype):
    """Values as an array of exactly this dtype: NumPy would make pads of numbers, which are none."""
    array = np.asarray(values)
    if array.dtype != dtype:
        raise InputsError(f"these are {array.dtype}, not pads: make them with Pad, or np.zeros(…, PAD)")
    return np.ascontiguousarray(array)
