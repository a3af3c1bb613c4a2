//! Ctrl-C handling: it stops the answer that is being generated, or else the program.

use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a program stopped by Ctrl-C, by the convention of shells: 128 + SIGINT.
pub(crate) const EXIT: u8 = 130;

static ANSWERING: AtomicBool = AtomicBool::new(false);
static PRESSED: AtomicBool = AtomicBool::new(false);

/// Installs the Ctrl-C handler. If the operating system refuses, Ctrl-C still ends the program.
pub(crate) fn install() {
    let installed = ctrlc::set_handler(|| {
        // A second press ends the program, in case it hangs.
        let again = PRESSED.swap(true, Ordering::SeqCst);
        if again || !ANSWERING.load(Ordering::SeqCst) {
            std::process::exit(i32::from(EXIT));
        }
    });
    if let Err(error) = installed {
        tracing::warn!(%error, "Ctrl-C could not be handled; it will end the program");
    }
}

/// While this value lives, Ctrl-C sets a flag instead of ending the program.
pub(crate) struct Answering(());

impl Answering {
    /// Begins to catch Ctrl-C.
    pub(crate) fn start() -> Self {
        PRESSED.store(false, Ordering::SeqCst);
        ANSWERING.store(true, Ordering::SeqCst);
        Self(())
    }

    /// Returns true if Ctrl-C was pressed since the start.
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
