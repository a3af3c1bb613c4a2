//! Reclaim: empties waves that have been sampled, and drops old messages.

use bevy_ecs::prelude::*;
use weft_components::{AtLayer, DeviceEvent, LoadFailure, LoadProgress, SessionEvent, Wave};

/// Marks waves whose tokens have been chosen as idle, so that the next tick fills them again.
pub fn reclaim_waves(mut waves: Query<'_, '_, &mut Wave>) {
    for mut wave in &mut waves {
        if wave.at == AtLayer::Sample {
            wave.clear();
        }
    }
}

/// Drops messages that every reader has had one tick to read.
pub fn age_messages(
    mut devices: ResMut<'_, Messages<DeviceEvent>>,
    mut failures: ResMut<'_, Messages<LoadFailure>>,
    mut events: ResMut<'_, Messages<SessionEvent>>,
    mut progress: ResMut<'_, Messages<LoadProgress>>,
) {
    devices.update();
    failures.update();
    events.update();
    progress.update();
}
