#!/bin/sh
# One base world, one moment, three verses: the world runtime's first example on the command line, against
# a running server (`cargo xtask worlds`).
set -eu

# Create base world
base=$(worldline world create)
worldline world exec "$base" -c "import pandas as pd; data = load_universe()"

# Snapshot at decision point
moment=$(worldline world snapshot "$base" --name pre-event)

# Branch into parallel verses, whose trits sum to 0
branch() { worldline world restore "$moment" --metadata "verse=$1" --metadata "trit=$2"; }
nash=$(branch nash -1)
optimal=$(branch optimal 0)
chaos=$(branch chaos 1)

# Execute in parallel
evolve() { echo "$1 $(worldline world exec "$2" -c "strategy = '$3'; evolve()")"; }
evolve nash "$nash" selfish &
evolve optimal "$optimal" cooperative &
evolve chaos "$chaos" random &
wait

# Each verse has a state of its own; the base stands where it stood.
echo "base $(worldline world exec "$base" -c data)"
