"""Worlds you can fork, from Python.

    from worldline import World                      # a learned world, in this process
    world = World.load("melee.cart")
    state = world.step([Pad(stick=(1, 0)), Pad()])   # a NumPy record, the same bytes as everywhere
    other = world.branch()

    from worldline import MorphSandbox               # worlds that run code, on `worldline serve`
    base = await MorphSandbox.create()
    await base.execute_code("data = load_universe()")

Inside a code world `load_universe()`, `evolve()` and their kind (`worldline.universe`) are there without
an import.
"""

import importlib

# Loaded when they are first asked for: the client alone needs neither NumPy nor the engine, and a code
# world needs no client.
_MODULES = {
    "client": ["MorphSandbox", "WorldlineError"],
    "world": ["Button", "CartridgeError", "FrameError", "InputsError", "Pad", "Player", "StartError", "World"],
    "universe": [
        "Universe",
        "coordinate_proposals",
        "evolve",
        "generate_proposals",
        "load_universe",
        "validate_proposals",
    ],
}

__all__ = [name for names in _MODULES.values() for name in names]


def __getattr__(name):
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
