use std::collections::BTreeMap;

use worldline_abi::PlayerState;
use worldline_cartridge::Start;

use super::{Match, PlayerCore};

/// How a match begins on each stage, whoever plays: the most common first frame with both players
/// at rest (the first match by order wins a tie), ordered by stage. Stages on which nobody ever
/// stood still are left out.
pub fn start_states(matches: &[&Match]) -> Vec<Start> {
    let mut stages: BTreeMap<u8, Vec<(u32, Start)>> = BTreeMap::new();
    for one in matches {
        let Some(first) = one.frames.first() else {
            continue;
        };
        let [left, right] = first.map(|seat| seat.core);
        if !at_rest(&left) || !at_rest(&right) || left.x >= right.x {
            continue;
        }
        let starts = stages.entry(one.stage).or_default();
        let start = Start {
            stage: one.stage,
            characters: [Start::ANY; 2],
            room: 0,
            players: first.map(|seat| seat.state()),
        };
        match starts.iter_mut().find(|(_, other)| same(other, &start)) {
            Some((count, _)) => *count += 1,
            None => starts.push((1, start)),
        }
    }
    let most_common = |starts: Vec<(u32, Start)>| {
        starts
            .into_iter()
            .rev()
            .max_by_key(|(count, _)| *count)
            .map(|(_, start)| start)
    };
    stages.into_values().filter_map(most_common).collect()
}

/// Equal but for who plays.
fn same(a: &Start, b: &Start) -> bool {
    let place = |state: &PlayerState| (state.x, state.y, state.action_state, state.facing);
    a.players.each_ref().map(place) == b.players.each_ref().map(place)
}

fn at_rest(core: &PlayerCore) -> bool {
    let speeds = [
        core.speed_air_x,
        core.speed_y,
        core.speed_ground_x,
        core.speed_attack_x,
    ];
    core.on_ground == 1 && speeds == [0; 4]
}
