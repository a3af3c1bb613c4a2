//! The limits of a model's waves: the narrowest of those that its places have.

use bevy_ecs::prelude::*;
use std::collections::BTreeMap;
use weft_components::{Place, WaveLimits};

/// The limits of a model's waves on each place that holds a part of the model. A component of the model, whose
/// [`WaveLimits`] are the [`narrowest`](Self::narrowest) of them.
#[derive(Component, Clone, Debug)]
pub struct PlaceLimits {
    /// The limits that no place has changed.
    own: WaveLimits,
    places: BTreeMap<Place, WaveLimits>,
}

impl PlaceLimits {
    /// The limits of a model that no place holds.
    pub fn new(own: WaveLimits) -> Self {
        Self { own, places: BTreeMap::new() }
    }

    /// Sets the limits of a place.
    pub fn set(&mut self, place: Place, limits: WaveLimits) {
        self.places.insert(place, limits);
    }

    /// Sets the largest number of rows on a place.
    pub fn set_rows(&mut self, place: Place, rows: usize) {
        self.places.entry(place).or_insert(self.own).rows = rows;
    }

    /// Forgets the limits of places for which `keep` returns false.
    pub fn retain(&mut self, keep: impl Fn(Place) -> bool) {
        self.places.retain(|place, _| keep(*place));
    }

    /// The limits that hold on every place; of rows at least one.
    pub fn narrowest(&self) -> WaveLimits {
        let all = self.places.values().fold(self.own, |all, place| WaveLimits {
            rows: all.rows.min(place.rows),
            logit_rows: all.logit_rows.min(place.logit_rows),
            pages: all.pages.min(place.pages),
        });
        let rows = all.rows.max(1);
        WaveLimits { rows, logit_rows: all.logit_rows.clamp(1, rows), ..all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_a_place_go_with_it() {
        let own = WaveLimits { rows: 512, logit_rows: 64, pages: usize::MAX };
        let mut limits = PlaceLimits::new(own);
        let (a, b) = (Place::new(1), Place::new(2));
        limits.set(a, WaveLimits { rows: 128, logit_rows: 32, pages: 100 });
        limits.set(b, WaveLimits { rows: 256, logit_rows: 16, pages: 200 });
        assert_eq!(limits.narrowest(), WaveLimits { rows: 128, logit_rows: 16, pages: 100 });
        limits.retain(|place| place != a);
        assert_eq!(limits.narrowest(), WaveLimits { rows: 256, logit_rows: 16, pages: 200 });
        limits.set_rows(b, 8);
        assert_eq!(limits.narrowest(), WaveLimits { rows: 8, logit_rows: 8, pages: 200 });
        limits.set_rows(b, 32);
        assert_eq!(limits.narrowest(), WaveLimits { rows: 32, logit_rows: 16, pages: 200 });
        limits.set(b, WaveLimits { rows: 0, logit_rows: 0, pages: 0 });
        assert_eq!(limits.narrowest(), WaveLimits { rows: 1, logit_rows: 1, pages: 0 });
        limits.retain(|_| false);
        assert_eq!(limits.narrowest(), own);
    }
}
