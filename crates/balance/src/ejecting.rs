//! Ejections of a group: when addresses are ejected, and when they return.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cardinal_base::Tick;
use cardinal_ir::policy::OutlierDetection;

use crate::event::{Event, shortened};
use crate::group::{Group, judge};
use crate::limits::ClusterLimits;
use crate::outlier::{Detector, Side, may_eject, outliers};
use crate::state::{Ejections, State};
use crate::view::Candidate;

impl Group {
    /// Ejects an address whose failures in a row reached a limit, unless too many are ejected. Takes the group's lock only
    /// where there is room for another ejection.
    pub(crate) fn eject(
        &self,
        candidate: &Candidate,
        detector: Detector,
        detail: Option<&dyn fmt::Display>,
        now: Tick,
    ) {
        if self.room().full.load(Ordering::Relaxed) {
            self.room().prevented.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut state = self.lock();
        // The report may have come from a pick made before ejections were switched off, or of an address that is gone.
        let Some(spec) = state.outlier() else { return };
        if !state.addresses().iter().any(|known| known.peer.key == candidate.peer.key) {
            return;
        }
        if state.eject(&spec, candidate, detector, detail, now) {
            judge(&mut state);
        }
    }

    /// Ends the interval of the outlier detection when it is over: rates are compared, and ejections that are over end.
    pub fn evaluate(&self, now: Tick) {
        let mut state = self.lock();
        if state.ejections.next.is_none_or(|next| now < next) {
            return;
        }
        let Some(spec) = state.outlier() else {
            state.ejections.next = None;
            return;
        };
        state.ejections.next = Some(now.plus_millis(spec.interval_ms.max(1)));
        let mut changed = false;
        let addresses = state.addresses();
        for candidate in &addresses {
            if candidate.peer.monitor.settle(now) {
                state.returned(candidate);
                changed = true;
            }
        }
        changed |= state.eject_outliers(&spec, &addresses, now);
        if changed {
            judge(&mut state);
        }
    }
}

impl State {
    fn outlier(&self) -> Option<OutlierDetection> {
        self.settings.outlier().cloned()
    }

    /// Follows settings of policies that may have changed.
    pub(crate) fn follow_policies(&mut self, now: Tick) {
        let interval_ms = self.settings.outlier().map(|outlier| outlier.interval_ms.max(1));
        let next = interval_ms.map(|interval_ms| now.plus_millis(interval_ms));
        // An interval that has begun goes on, unless the new one ends earlier.
        self.ejections.next = next.map(|next| self.ejections.next.map_or(next, |old| old.min(next)));
        self.limits = match (self.limits.take(), self.settings.spec.circuit.as_deref()) {
            (_, None) => None,
            (Some(limits), Some(spec)) => {
                limits.update(spec);
                Some(limits)
            }
            (None, Some(spec)) => Some(Arc::new(ClusterLimits::new(spec))),
        };
    }

    /// Counts addresses and ejections anew: addresses have come or gone.
    pub(crate) fn count_ejections(&mut self) {
        let addresses = self.addresses();
        self.ejections.addresses = addresses.len();
        self.ejections.active = addresses.iter().filter(|c| c.peer.monitor.is_ejected()).count();
        self.look_for_room();
    }

    fn look_for_room(&self) {
        let Ejections { addresses, active, room, .. } = &self.ejections;
        let full = self.settings.outlier().is_some_and(|spec| !may_eject(spec, *active, *addresses));
        room.full.store(full, Ordering::Relaxed);
    }

    /// Ejects addresses whose rates are bad, as far as the limit allows.
    fn eject_outliers(&mut self, spec: &OutlierDetection, addresses: &[Arc<Candidate>], now: Tick) -> bool {
        if spec.detectors.success_rate.is_none() && spec.detectors.failure_percentage.is_none() {
            return false;
        }
        let mut changed = false;
        let sides = if spec.split_local_origin { &[Side::External, Side::Local][..] } else { &[Side::External] };
        for side in sides {
            let mut judged = Vec::new();
            for candidate in addresses {
                let rate = candidate.peer.monitor.take_rate(*side);
                if !candidate.peer.monitor.is_ejected() {
                    judged.push((candidate, rate));
                }
            }
            let rates: Vec<_> = judged.iter().map(|(_, rate)| *rate).collect();
            for (at, detector) in outliers(&rates, &spec.detectors) {
                let Some((candidate, rate)) = judged.get(at) else { continue };
                let detail = format!("{} of {} requests failed", rate.failures, rate.total);
                changed |= self.eject(spec, candidate, detector, Some(&detail), now);
            }
        }
        changed
    }

    /// Ejects an address, unless too many are or it is already.
    fn eject(
        &mut self,
        spec: &OutlierDetection,
        candidate: &Candidate,
        detector: Detector,
        detail: Option<&dyn fmt::Display>,
        now: Tick,
    ) -> bool {
        let monitor = &candidate.peer.monitor;
        if monitor.is_ejected() {
            return false;
        }
        if !may_eject(spec, self.ejections.active, self.ejections.addresses) {
            self.ejections.room.prevented.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        let lasts = monitor.eject(spec, detector, now);
        self.ejections.active += 1;
        self.look_for_room();
        if let Some(made) = self.ejections.made.get_mut(detector as usize) {
            *made += 1;
        }
        self.event(Event::Ejected {
            endpoint: candidate.endpoint,
            host: Arc::clone(&candidate.host),
            address: candidate.address,
            detector,
            lasts,
            detail: detail.map(shortened),
        });
        true
    }

    /// Ends the ejection of an address, if it is ejected.
    pub(crate) fn restore(&mut self, candidate: &Candidate) {
        if candidate.peer.monitor.restore() {
            self.returned(candidate);
            judge(self);
        }
    }

    fn returned(&mut self, candidate: &Candidate) {
        self.ejections.active = self.ejections.active.saturating_sub(1);
        self.look_for_room();
        self.event(Event::Returned {
            endpoint: candidate.endpoint,
            host: Arc::clone(&candidate.host),
            address: candidate.address,
        });
    }
}
