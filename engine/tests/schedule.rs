//! The schedules have no ambiguous order.

use bevy_ecs::schedule::{LogLevel, ScheduleBuildSettings, ScheduleLabel, Schedules};
use weft::{Engine, EngineOptions, GpuPlugin, LayerStep, Tick};

#[test]
fn no_two_systems_are_ambiguous() {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    // Its systems are added where there is a GPU.
    engine.add_plugin(&GpuPlugin::new(Vec::new()));
    let world = engine.world_mut();
    for label in [Tick.intern(), LayerStep.intern()] {
        let mut schedules = world.resource_mut::<Schedules>();
        let mut schedule = schedules.remove(label).expect("the schedule is there");
        schedule.set_build_settings(ScheduleBuildSettings {
            ambiguity_detection: LogLevel::Error,
            ..Default::default()
        });
        schedule.initialize(world).expect("no ambiguity");
    }
}
