//! The loop of the engine's thread: a tick, the commands, then sleep if there is no work.

use crate::engine::Engine;
use crate::error::Error;
use crate::schedule::{LayerStep, Tick};
use crate::world::TickOutcome;
use bevy_ecs::schedule::Schedules;
use core::any::Any;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, TryRecvError};
use weft_platform::Signal;

/// A command of a handle. Returns true when it is done; until then it runs again after every tick.
pub(super) type Command = Box<dyn FnMut(&mut Engine) -> bool + Send>;

/// Time budget of a tick, so that commands do not wait long. A tick costs some microseconds besides its layers, so
/// stopping it this often costs next to nothing.
const TICK_TIME: Duration = Duration::from_millis(20);

/// Runs the engine until the last handle is dropped or a system panics. Returns why it stopped.
pub(super) fn run(
    engine: &mut Engine,
    commands: &Receiver<Command>,
    unfinished: &mut Vec<Command>,
    signal: &Signal,
) -> String {
    loop {
        let outcome = match caught(|| engine.tick_for(TICK_TIME)) {
            Ok(outcome) => outcome,
            Err(message) => return format!("a system panicked: {message}"),
        };
        let before = unfinished.len();
        unfinished.retain_mut(|command| !command(engine));
        // A command that is done may have given the engine work.
        let mut changed = unfinished.len() != before;
        // Commands are received after everything that may clear the signal, so none is left when this thread sleeps.
        loop {
            match commands.try_recv() {
                Ok(mut command) => {
                    changed = true;
                    if !command(engine) {
                        unfinished.push(command);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return "its last handle was dropped".to_owned(),
            }
        }
        let schedules = engine.world().get_resource::<Schedules>();
        if !schedules.is_some_and(|schedules| schedules.contains(Tick) && schedules.contains(LayerStep)) {
            return "a tick of one of its commands panicked".to_owned();
        }
        match outcome {
            TickOutcome::Advanced => {}
            TickOutcome::Waiting | TickOutcome::Idle if changed => {}
            TickOutcome::Waiting => engine.rest(),
            TickOutcome::Idle => signal.wait(),
        }
    }
}

/// Runs a command of a handle. Turns a panic into an error.
pub(super) fn run_command<R>(command: impl FnOnce() -> R) -> Result<R, Error> {
    caught(command).map_err(|message| Error::Panicked { message })
}

/// Runs `f`. Turns a panic into an error, the panic's message.
fn caught<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    // A panic may leave an operation half done, but the world stays usable: components are changed one by one.
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| message_of(&*panic))
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
