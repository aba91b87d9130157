//! When the next picture is drawn: at once after a key, soon after anything else, and never without a change.

use std::time::Duration;

use tokio::time::Instant;

use super::FRAME;

/// A picture that takes long to draw leaves at least this many times as long for everything else.
const REST: u32 = 3;

/// When the next picture is due.
#[derive(Debug)]
pub struct Plan {
    last: Instant,
    /// What the last picture cost, and the pause behind it.
    cost: Duration,
    pause: Duration,
    due: Option<Instant>,
}

impl Plan {
    /// The first picture is due at once.
    pub fn new(now: Instant) -> Self {
        Self { last: now, cost: Duration::ZERO, pause: Duration::ZERO, due: Some(now) }
    }

    /// When the next picture is due; `None` while nothing has changed.
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something has changed.
    pub fn changed(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = Some(now.max(self.last + self.pause));
        }
    }

    /// Somebody waits for the next picture.
    pub fn hurry(&mut self, now: Instant) {
        let soon = now.max(self.last + self.cost.max(FRAME / 4));
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// A picture was drawn.
    pub fn drawn(&mut self, begun: Instant, now: Instant) {
        self.last = now;
        self.cost = now - begun;
        self.pause = FRAME.max(self.cost * REST);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_a_change_nothing_is_ever_drawn() {
        let now = Instant::now();
        let mut plan = Plan::new(now);
        plan.drawn(now, now);
        assert_eq!(plan.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_changes_share_one_picture_and_a_key_does_not_wait_for_it() {
        let now = Instant::now();
        let mut plan = Plan::new(now);
        let drawn = now + Duration::from_millis(40);
        plan.drawn(now, drawn);
        plan.changed(drawn);
        let due = plan.due().unwrap();
        plan.changed(drawn + Duration::from_millis(5));
        assert_eq!(plan.due(), Some(due));
        assert_eq!(due - drawn, Duration::from_millis(120));
        plan.hurry(drawn + Duration::from_millis(6));
        assert_eq!(plan.due(), Some(drawn + Duration::from_millis(40)));
    }
}
