//! Runs the command on a pseudo-terminal, whose screen and keys the test controls.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use super::{Files, command};
use nix::pty::{Winsize, openpty};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Maximum time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running command.
pub(crate) struct Terminal {
    child: Child,
    keys: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Bytes shown when keys were last pressed.
    pressed: usize,
    /// The command's cache folder: chats leave a history there.
    _files: Files,
}

/// How the command is started.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    pub(crate) columns: u16,
    /// Where answers go instead of the terminal.
    pub(crate) stdout: Option<File>,
    pub(crate) environment: &'a [(&'a str, &'a str)],
}

impl Terminal {
    pub(crate) fn open(line: &str, setup: Setup<'_>) -> Self {
        let files = Files::new();
        let size = Winsize { ws_row: 24, ws_col: setup.columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a pseudo-terminal");
        let inner = File::from(pair.slave);
        let stdin = || Stdio::from(inner.try_clone().expect("a terminal"));
        let plain = command(line);
        // A new session makes this the controlling terminal, so that Ctrl-C reaches the command.
        let child = Command::new("setsid")
            .arg("--ctty")
            .arg(plain.get_program())
            .args(plain.get_args())
            .env("WEFT_CACHE", files.path("cache"))
            .env("TERM", "xterm")
            .env_remove("WEFT_ISA")
            .env_remove("WEFT_LOG")
            .env_remove("NO_COLOR")
            .envs(setup.environment.iter().copied())
            .stdin(stdin())
            .stdout(setup.stdout.map_or_else(stdin, Stdio::from))
            .stderr(stdin())
            .spawn()
            .expect("the command starts");
        let keys = File::from(pair.master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, shown) = (keys.try_clone().expect("the terminal"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once no process has the terminal open any more.
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                shown.lock().expect("the screen").extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, keys, screen, pressed: 0, _files: files }
    }

    /// Writes all keys at once, as a terminal passes on pasted text.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.pressed = self.screen.lock().expect("the screen").len();
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Everything shown so far, without escape sequences and carriage returns.
    pub(crate) fn shown(&self) -> String {
        let bytes = self.screen.lock().expect("the screen").clone();
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        let mut plain = String::new();
        for (part, piece) in text.split('\x1b').enumerate() {
            let escape = piece.find(|c: char| c.is_ascii_alphabetic()).map_or(piece.len(), |end| end + 1);
            plain.push_str(if part == 0 { piece } else { &piece[escape..] });
        }
        plain
    }

    /// The colour escape sequences among everything shown.
    pub(crate) fn colours(&self) -> String {
        let bytes = self.screen.lock().expect("the screen").clone();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let colour = |piece: &&str| {
            let end = piece.find(|c: char| c.is_ascii_alphabetic());
            end.is_some_and(|end| piece.starts_with('[') && piece[end..].starts_with('m'))
        };
        text.split('\x1b').skip(1).filter(colour).map(|piece| format!("\x1b{piece}")).collect()
    }

    /// Waits until the command shows the prompt again.
    pub(crate) fn ready(&self, prompt: &str) {
        let start = Instant::now();
        let more = || self.screen.lock().expect("the screen").len() > self.pressed;
        while !(more() && self.shown().ends_with(prompt)) {
            assert!(start.elapsed() < PATIENCE, "{prompt:?} is not shown: {}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until a text has been shown `times` times.
    pub(crate) fn wait_for(&self, text: &str, times: usize) {
        let start = Instant::now();
        while self.shown().matches(text).count() < times {
            assert!(start.elapsed() < PATIENCE, "{text:?} was not shown {times} times: {}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the command ends and returns its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the command") {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "the command goes on: {}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
