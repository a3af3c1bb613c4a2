//! Names and their values, in scopes.

use super::ast::Symbol;
use super::fault::{Outcome, fault};
use super::value::{Scope, Value};
use std::collections::HashMap;

/// A scope with at most this many names is searched linearly. One with more has a map.
const MAX_SCANNED: usize = 16;

/// The names of one scope.
#[derive(Debug, Default)]
struct Names {
    entries: Vec<(Symbol, Value)>,
    /// The index of each entry, once there are more than [`MAX_SCANNED`].
    places: HashMap<Symbol, usize>,
}

impl Names {
    fn place(&self, symbol: Symbol) -> Option<usize> {
        if self.entries.len() <= MAX_SCANNED {
            self.entries.iter().position(|(name, _)| *name == symbol)
        } else {
            self.places.get(&symbol).copied()
        }
    }

    fn get(&self, symbol: Symbol) -> Option<&Value> {
        self.place(symbol).and_then(|at| self.entries.get(at)).map(|(_, value)| value)
    }

    fn set(&mut self, symbol: Symbol, value: Value) {
        if let Some((_, old)) = self.place(symbol).and_then(|at| self.entries.get_mut(at)) {
            *old = value;
            return;
        }
        self.entries.push((symbol, value));
        if self.entries.len() > MAX_SCANNED {
            let known = self.places.len();
            let new = self.entries.iter().enumerate().skip(known);
            self.places.extend(new.map(|(at, (name, _))| (*name, at)));
        }
    }
}

#[derive(Debug)]
struct Frame {
    parent: Option<usize>,
    number: u64,
    names: Names,
}

/// The open scopes as a stack of frames. Each frame has the index of its parent scope.
#[derive(Debug)]
pub(super) struct Scopes {
    globals: Vec<Option<Value>>,
    frames: Vec<Frame>,
    current: usize,
    made: u64,
}

impl Scopes {
    /// Makes the outermost scope. `globals` are the values of names that no scope sets, indexed by symbol.
    pub(super) fn new(globals: Vec<Option<Value>>) -> Self {
        let outermost = Frame { parent: None, number: 0, names: Names::default() };
        Self { globals, frames: vec![outermost], current: 0, made: 0 }
    }

    /// Returns the current scope.
    pub(super) fn current(&self) -> Scope {
        Scope { place: self.current, number: self.frames.get(self.current).map_or(0, |frame| frame.number) }
    }

    /// Opens a scope inside `parent`.
    ///
    /// # Errors
    /// The parent has been closed.
    pub(super) fn open(&mut self, parent: Scope) -> Outcome<()> {
        if self.frames.get(parent.place).is_none_or(|frame| frame.number != parent.number) {
            return fault("a macro or loop is called after the end of the block that defines it");
        }
        self.made += 1;
        self.current = self.frames.len();
        let parent = Some(parent.place);
        self.frames.push(Frame { parent, number: self.made, names: Names::default() });
        Ok(())
    }

    /// Closes the scope opened last and returns to `outer`.
    pub(super) fn close(&mut self, outer: Scope) {
        self.frames.truncate(self.current);
        self.current = outer.place;
    }

    pub(super) fn get(&self, symbol: Symbol) -> Option<&Value> {
        let mut place = Some(self.current);
        while let Some(frame) = place.and_then(|place| self.frames.get(place)) {
            if let Some(value) = frame.names.get(symbol) {
                return Some(value);
            }
            place = frame.parent;
        }
        self.globals.get(symbol).and_then(Option::as_ref)
    }

    /// Sets a name in the current scope.
    pub(super) fn set(&mut self, symbol: Symbol, value: Value) {
        if let Some(frame) = self.frames.get_mut(self.current) {
            frame.names.set(symbol, value);
        }
    }
}
