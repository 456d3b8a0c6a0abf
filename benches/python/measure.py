"""What the Python package costs: to build, with nothing built before and after a change, and to use.

    python measure.py ROOT     in an environment that has the package and maturin; prints JSON
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from worldline import World, evolve, load_universe
from worldline.universe import STRATEGIES
from worldline.world import PAD

ROOT = Path(sys.argv[1])
PACKAGE = ROOT / "clients" / "python"
REPEATS = 15
FRAMES = 200
BRANCHES = 16
SIGHT = 20


def seconds(work):
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median_us(work, per=1):
    return round(statistics.median(seconds(work) for _ in range(REPEATS)) / per * 1e6, 2)


def build():
    """Wall-clock seconds of two builds in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).with_name("maturin"), "build", "--release", "--locked", "--quiet"]
        command += ["--interpreter", sys.executable, "--out", f"{folder}/wheels"]
        environment = {**os.environ, "CARGO_TARGET_DIR": folder}
        once = lambda: subprocess.run(command, cwd=PACKAGE, env=environment, check=True, stderr=subprocess.DEVNULL)
        cold = seconds(once)
        (PACKAGE / "src" / "lib.rs").touch()
        again = seconds(once)
        size = sum(wheel.stat().st_size for wheel in Path(folder, "wheels").iterdir())
    return {"cold_s": round(cold, 1), "after_a_change_s": round(again, 1), "wheel_bytes": size}


def engine(name):
    path = ROOT / "worlds" / f"{name}.cart"
    world, pads = World.load(path), np.zeros((FRAMES, 2), PAD)

    def steps():
        branch = world.branch()
        for pair in pads:
            branch.step(pair)

    return {
        "load_us": median_us(lambda: World.load(path)),
        "branch_us": median_us(world.branch),
        "step_us": median_us(steps, FRAMES),
        "play_us_a_frame": median_us(lambda: world.branch().play(pads), FRAMES),
        "rollout_us_a_frame": median_us(lambda: world.rollout(np.zeros((BRANCHES, SIGHT, 2), PAD)), BRANCHES * SIGHT),
    }


def strategy(name):
    load_universe()
    return round(seconds(lambda: evolve(name)), 2)


os.environ["WORLDLINE_WORLDS"] = str(ROOT / "worlds")
told = {
    "build": build(),
    "worlds": {name: engine(name) for name in ("micro", "melee")},
    "evolve_300_frames_s": {name: strategy(name) for name in STRATEGIES},
}
print(json.dumps(told, indent=1))
