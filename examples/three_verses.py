"""One base world, one moment, three verses: the world runtime's first example, as its document has it.

Against a running server (`cargo xtask worlds`), with the package (`pip install ./clients/python`):
    python three_verses.py
"""

import asyncio

from worldline import MorphSandbox


async def main():
    # Create base world
    world = await MorphSandbox.create()
    await world.execute_code("import pandas as pd; data = load_universe()")

    # Snapshot at decision point
    snapshot_id = await world.snapshot("pre-event")

    # Branch into parallel verses
    verse_nash = await MorphSandbox.create(snapshot_id=snapshot_id)
    verse_optimal = await MorphSandbox.create(snapshot_id=snapshot_id)
    verse_chaos = await MorphSandbox.create(snapshot_id=snapshot_id)

    # Execute in parallel with GF(3) conservation
    results = await asyncio.gather(
        verse_nash.execute_code("strategy = 'selfish'; evolve()"),  # -1
        verse_optimal.execute_code("strategy = 'cooperative'; evolve()"),  # 0
        verse_chaos.execute_code("strategy = 'random'; evolve()"),  # +1
    )

    # Each verse has a state of its own; the base stands where it stood.
    for verse, result in zip(["nash", "optimal", "chaos"], results):
        print(verse, result["output"])
    print("base", (await world.execute_code("data"))["output"])


asyncio.run(main())
