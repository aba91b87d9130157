//! Random sequences of operations do the same to the store on SQLite as to the one in memory, and neither ever
//! breaks what both promise whatever happens: a checkpoint gives back what was stored, what lies behind a fork
//! does not change, nothing that was acknowledged is lost, and redo after undo changes nothing.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a test's own way of speaking"
)]

mod actions;
mod large;
mod ledger;
mod picture;
mod step;
mod world;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, proptest};

use step::step;
use world::World;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 600, ..ProptestConfig::default() })]

    #[test]
    fn sqlite_does_what_memory_does(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        for (number, step) in steps.iter().enumerate() {
            world.take(step);
            if number % 16 == 15 {
                world.compare();
            }
        }
        world.compare();
        world.restart(0);
        world.restart(1);
        world.compare();
    }
}
