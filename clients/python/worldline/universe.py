"""What a code world offers without an import: a learned world, and who plays it.

    data = load_universe()                 # opens a cartridge
    strategy = "selfish"; evolve()         # plays it under `strategy`: what each seat has in the end
    generate_proposals()                   # the three roles of a best-of-n search
    coordinate_proposals()
    validate_proposals()

Every call takes what it needs as an argument, and otherwise the universe that was loaded last, which it
loads if there is none. Worlds that branch after `load_universe()` each go on with a copy of their own.

**Payoff.** A seat has 100 for each stock that it kept, less its damage (100 a stock at most), and half of
what the other lost. So to strike pays for the one who strikes and costs both together: what all seats
have (`welfare`) is largest when nobody fights.

**Strategies.** Both seats choose a move, hold it for `HOLD` frames, and choose again. `selfish`: the one
after which the seat itself has most, as far as it sees; `cooperative`: after which both together have
most; `random`: any. To see, they branch the world and play each move for `SIGHT` frames, the other
holding on to its last one.
"""

import os
import random
import sys
from pathlib import Path

import numpy as np

from . import _native
from .world import PAD, Button, Pad, World

__all__ = [
    "Universe",
    "coordinate_proposals",
    "evolve",
    "generate_proposals",
    "load_universe",
    "validate_proposals",
]

DEFAULT = "melee"
"""The cartridge that is loaded when none is named."""
HOLD = 10
"""Frames for which a move is held."""
SIGHT = 20
"""Frames that a strategy looks ahead."""
FRAMES = 300
"""Frames that `evolve` plays unless more are asked for: five seconds."""
MAX_FRAMES = 36_000
"""Frames of one call, at most: ten minutes."""
MAX_PROPOSALS = 256
"""Proposals of one call, at most."""

STOCKS = 4
"""Stocks that a seat begins a match with."""
STEPS = 6
"""Moves of a proposal, one after the other, for each seat."""

MOVES = {
    "rest": Pad(),
    "left": Pad(stick=(-1, 0)),
    "right": Pad(stick=(1, 0)),
    "jump": Pad(buttons=Button.X),
    "strike": Pad(buttons=Button.A),
    "special": Pad(buttons=Button.B),
    "guard": Pad(triggers=(1, 0), buttons=Button.L),
}
"""What a seat can do."""
_NAMES = list(MOVES)
_PADS = np.array(list(MOVES.values()), PAD)


class Universe:
    """A learned world that is being played: `world` is where it stands."""

    def __init__(self, world):
        self.world = world
        self.moves = [0, 0]
        self.proposals = []

    def payoffs(self):
        """What each seat has."""
        return _payoffs(self.world.state)

    def branch(self):
        """A copy that goes its own way."""
        other = Universe(self.world.branch())
        other.moves, other.proposals = list(self.moves), list(self.proposals)
        return other

    def play(self, moves, frames=HOLD):
        """Both seats hold a move."""
        self.moves = list(moves)
        if not self.world.ended:
            self.world.play(np.tile(_PADS[self.moves], (frames, 1)))

    def __repr__(self):
        return f"<Universe {self.world.name!r}, frame {self.world.state['frame']}, payoffs {self.payoffs()}>"


def _payoffs(state):
    """What each seat of a state has."""
    players = state["players"]
    damage = np.minimum(players["percent"] / _native.PERCENT_ONE, 100)
    kept = 100.0 * players["stocks"] - damage
    most = 100.0 * STOCKS
    return [round(float(kept[seat] + (most - kept[1 - seat]) / 2), 3) for seat in (0, 1)]


def _ahead(universe, seat, moves):
    """The states after each move of a seat, the other seat holding on to its own."""
    plans = np.zeros((len(_PADS), SIGHT, 2), PAD)
    plans[:, :, 1 - seat] = _PADS[moves[1 - seat]]
    plans[:, :HOLD, seat] = _PADS[:, None]
    return universe.world.rollout(plans)


def _apart(state):
    """How far the seats are from each other."""
    players = state["players"]
    return float(np.hypot(*(np.diff(players[axis].astype(float))[0] for axis in "xy"))) / _native.UNIT_ONE


def selfish(universe):
    """Each seat takes what leaves it most; what leaves it as much, nearer to the other."""
    best = lambda seat: max(enumerate(_ahead(universe, seat, universe.moves)), key=lambda one: (_payoffs(one[1])[seat], -_apart(one[1])))[0]
    return [best(0), best(1)]


def cooperative(universe):
    """Seat after seat takes what leaves both together most."""
    moves = list(universe.moves)
    for seat in (0, 1):
        states = _ahead(universe, seat, moves)
        moves[seat] = max(range(len(states)), key=lambda at: sum(_payoffs(states[at])))
    return moves


def any_move(universe):
    """Any move."""
    return [random.randrange(len(_PADS)) for _ in (0, 1)]


STRATEGIES = {"selfish": selfish, "cooperative": cooperative, "random": any_move}


_loaded = None


def _folders():
    """Where cartridges are looked for by name."""
    named = os.environ.get("WORLDLINE_WORLDS")
    return [Path(named)] if named else [Path(__file__).parent / "worlds"]


def load_universe(cartridge=DEFAULT, stage=None, characters=None, seed=0):
    """Opens a cartridge, by name or path, and stands before the first frame of a match.

    Names are looked for in WORLDLINE_WORLDS, or beside this package.
    """
    global _loaded
    found = [folder / f"{cartridge}.cart" for folder in _folders()]
    path = next((path for path in found if path.is_file()), cartridge)
    _loaded = Universe(World.load(path, stage, characters, seed))
    return _loaded


def _current(universe):
    if universe is not None:
        return universe
    return _loaded or load_universe()


def evolve(strategy=None, frames=FRAMES, universe=None):
    """Plays the universe on under a strategy; gives what each seat has then, and both together.

    Without one it is the caller's variable `strategy`.
    """
    if strategy is None:
        strategy = sys._getframe(1).f_globals.get("strategy", "cooperative")
    if strategy not in STRATEGIES:
        raise ValueError(f"there is no strategy {strategy!r}: take one of {', '.join(STRATEGIES)}")
    if not 1 <= frames <= MAX_FRAMES:
        raise ValueError(f"{frames} frames: from 1 to {MAX_FRAMES} are played at once")
    universe = _current(universe)
    for done in range(0, frames, HOLD):
        universe.play(STRATEGIES[strategy](universe), min(HOLD, frames - done))
    payoffs = universe.payoffs()
    return {
        "strategy": strategy,
        "frame": int(universe.world.state["frame"]),
        "payoffs": payoffs,
        "welfare": round(sum(payoffs), 3),
        "chain": universe.world.chain,
    }


def generate_proposals(count=3, universe=None):
    """The generator (+1): plans drawn at random, each with what it claims to lead to."""
    if not 1 <= count <= MAX_PROPOSALS:
        raise ValueError(f"{count} proposals: from 1 to {MAX_PROPOSALS} are made at once")
    universe = _current(universe)
    plans = [[[random.choice(_NAMES) for _ in (0, 1)] for _ in range(STEPS)] for _ in range(count)]
    states = universe.world.rollout(np.array([_pads(plan) for plan in plans], PAD))
    universe.proposals = [_proposal(plan, state) for plan, state in zip(plans, states)]
    return universe.proposals


def coordinate_proposals(*proposals, universe=None):
    """The coordinator (0): merges lists of proposals into one, each plan once, the most welfare first."""
    universe = _current(universe)
    merged = {}
    for one in [one for some in proposals or [_proposals(universe)] for one in some]:
        merged.setdefault(str(one["moves"]), one)
    universe.proposals = sorted(merged.values(), key=lambda one: -sum(one["payoffs"]))
    return universe.proposals


def validate_proposals(proposals=None, universe=None):
    """The validator (-1): plays each plan again, frame by frame, and lets those pass that lead where they claim."""
    universe = _current(universe)
    asked = _proposals(universe) if proposals is None else proposals
    universe.proposals = [one for one in asked if _holds(universe, one)]
    return universe.proposals


def _proposals(universe):
    return universe.proposals or generate_proposals(universe=universe)


def _proposal(plan, state):
    return {"moves": plan, "payoffs": _payoffs(state), "chain": bytes(state["chain"]).hex()}


def _pads(plan):
    """A plan of moves as pads, frame by frame."""
    moves = [[_NAMES.index(name) for name in step] for step in plan]
    return np.repeat(_PADS[moves], HOLD, axis=0)


def _holds(universe, proposal):
    """Whether a proposal is what it says. Whatever it is, this raises nothing."""
    try:
        end = universe.world.branch().play(_pads(proposal["moves"]))[-1]
        return _proposal(proposal["moves"], end) == proposal
    except (IndexError, KeyError, TypeError, ValueError):
        return False
