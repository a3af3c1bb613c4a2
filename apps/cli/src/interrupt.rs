//! Ctrl-C: stops an answer where there is one, and the program where there is none.

use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a program stopped by Ctrl-C, as shells have it: 128 + SIGINT.
pub(crate) const EXIT: u8 = 130;

static ANSWERING: AtomicBool = AtomicBool::new(false);
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Takes over Ctrl-C. Where the system refuses, Ctrl-C goes on ending the program.
pub(crate) fn install() {
    let installed = ctrlc::set_handler(|| {
        // The second press means it: something hangs.
        let again = PRESSED.swap(true, Ordering::SeqCst);
        if again || !ANSWERING.load(Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT));
        }
    });
    if let Err(error) = installed {
        tracing::warn!(%error, "Ctrl-C cannot be caught; it will end the program");
    }
}

/// While this lives, Ctrl-C is noted instead of ending the program.
pub(crate) struct Answering(());

impl Answering {
    /// Starts to note Ctrl-C.
    pub(crate) fn start() -> Self {
        PRESSED.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Self(())
    }

    /// Whether Ctrl-C was pressed since the start.
    pub(crate) fn pressed(&self) -> bool {
        PRESSED.load(Ordering::SeqCst)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        ANSWERING.store(false, Ordering::SeqCst);
        PRESSED.store(false, Ordering::SeqCst);
    }
}
