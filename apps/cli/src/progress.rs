//! Progress bars for loading, downloading and writing model files. They appear on stderr, and only if it is a terminal.

use crate::output;
use crate::pull::{Phase, Progress};
use crate::style;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::RefCell;
use std::io::IsTerminal;
use weft::LoadProgress;

/// Progress bar of one load; invisible if stderr is not a terminal.
pub(crate) struct LoadBar {
    bar: Option<ProgressBar>,
    shown: u64,
}

impl LoadBar {
    /// Creates a bar for the file called `name`.
    pub(crate) fn new(name: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| byte_bar(name));
        Self { bar, shown: u64::MAX }
    }

    /// Shows how much is loaded. Removes the bar once the load is complete.
    pub(crate) fn show(&mut self, progress: &LoadProgress) {
        let Some(bar) = &self.bar else { return };
        if progress.is_complete() {
            self.clear();
        } else if self.shown != progress.bytes {
            bar.set_length(progress.total_bytes);
            bar.set_position(progress.bytes);
            bar.set_message(format!("layers {}/{}", progress.layers, progress.total_layers));
            self.shown = progress.bytes;
        }
    }

    /// Removes the bar from the screen for good.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for LoadBar {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Progress bar of a file being written; invisible if stderr is not a terminal.
pub(crate) struct WriteBar(Option<ProgressBar>);

impl WriteBar {
    /// Creates a bar for the file called `name`, whose final size is `bytes`.
    pub(crate) fn new(name: &str, bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| byte_bar(name));
        if let Some(bar) = &bar {
            bar.set_length(bytes);
        }
        Self(bar)
    }

    /// Shows how many bytes have been written.
    pub(crate) fn show(&self, bytes: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(bytes);
        }
    }
}

impl Drop for WriteBar {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// Creates a bar that counts bytes.
fn byte_bar(name: &str) -> ProgressBar {
    let template = if style::allowed() {
        "{prefix} {bar:30.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec} {msg}"
    } else {
        "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}"
    };
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}

/// Reports the progress of a pull: a bar on a terminal, else one line per phase. Silent if nothing is downloaded.
pub(crate) struct PullBar {
    name: String,
    bar: RefCell<Option<ProgressBar>>,
}

impl PullBar {
    /// Creates it for the model called `name`.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), bar: RefCell::new(None) }
    }

    fn say(&self, line: &str) {
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(|| output::note(line)),
            None => output::note(line),
        }
    }
}

impl Progress for PullBar {
    fn phase(&self, phase: Phase<'_>) {
        match phase {
            Phase::Waiting => self.say("another process is downloading this model; waiting for it"),
            Phase::Asking(source) => self.say(&format!("downloading {} from {source}", self.name)),
            Phase::Downloading { from: 0 } => {}
            Phase::Downloading { from } => self.say(&format!("resuming at byte {from}")),
            Phase::Unpacking => self.say("unpacking"),
            Phase::Verifying => self.say("checking"),
            Phase::Failed(why) => self.say(why),
        }
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| byte_bar(&self.name));
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    }
}

impl Drop for PullBar {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get_mut().take() {
            bar.finish_and_clear();
        }
    }
}
