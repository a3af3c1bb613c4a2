// Unnormalized probabilities of keys, and the lane that a draw falls on.
const INFINITE_KEY: u32 = 0xff800000u;
// Stands for no lane.
const NO_LANE: u32 = 0xffffffffu;
// Below this an exponential would be denormal. It is set to 0 instead.
const LOWEST: f32 = -87.0;

fn logit_of(key: u32) -> f32 { return bitcast<f32>(select(~key, key ^ 0x80000000u, key >= 0x80000000u)); }

// exp((logit - top) / temperature): 1 for the top, even if it is infinite; 0 for a token that cannot be chosen.
fn weight(key: u32, top: u32, temperature: f32) -> f32 {
    if (key == 0u) { return 0.0; }
    if (key == top) { return 1.0; }
    if (top == INFINITE_KEY) { return 0.0; }
    let x = (logit_of(key) - logit_of(top)) / temperature;
    return select(0.0, exp(max(x, LOWEST)), x >= LOWEST);
}

// The first lane with a weight whose running sum `mass` exceeds the goal, otherwise the last lane with a weight,
// because rounding may leave the sum below the goal.
fn drawn_lane(lane: u32, weight: f32, mass: f32, goal: f32) -> u32 {
    var rank = 0u;
    if (weight > 0.0) { rank = select(lane + 1u, ~lane, mass > goal); }
    let most = workgroup_most(lane, rank);
    return select(most - 1u, ~most, most > WG);
}
