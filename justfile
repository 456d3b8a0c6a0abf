# The world runtime by the names its users know. The server is `cargo xtask worlds`.

worldline := "worldline"

# Create new world
world-runtime-create *ARGUMENTS:
    {{worldline}} world create {{ARGUMENTS}}

# Snapshot current state
world-runtime-snapshot WORLD NAME="pre-split":
    {{worldline}} world snapshot {{WORLD}} --name {{NAME}}

# Branch into 3 verses
world-runtime-branch WORLD:
    {{worldline}} world branch {{WORLD}} -n 3

# Performance metrics
world-runtime-metrics:
    {{worldline}} world metrics

# List all entities
world-runtime-entities:
    {{worldline}} world sql "SELECT entity_id, entity_type, parent_id, trit, state, created_at FROM world_runtime_entities ORDER BY created_at"

# Branch history
world-runtime-branches:
    {{worldline}} world sql "SELECT branch_id, parent_entity_id, child_entity_ids, branch_type, gf3_sum, branched_at FROM world_branches ORDER BY branched_at"
