//! Random sequences of operations have the same effect on the PostgreSQL store and on the memory store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

#[path = "../../hfs-store/tests/model/steps.rs"]
mod steps;
#[path = "../../hfs-store/tests/model/store_pair.rs"]
mod store_pair;
#[path = "support/test_server.rs"]
mod test_server;

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, proptest};
use testkit::clock::TestClock;
use testkit::postgres::PostgresServer;

use steps::step;
use store_pair::{OpenStore, StorePair};

/// A new schema. The returned function opens it again and again.
fn postgres(server: &'static PostgresServer) -> OpenStore {
    let schema = PostgresServer::new_schema();
    Box::new(move || Box::new(test_server::open(&server.url(), &schema, Arc::new(TestClock::fixed()))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_behave_the_same(steps in vec(step(), 1..80)) {
        if let Some(server) = test_server::server() {
            let mut pair = StorePair::new(postgres(server));
            for (number, step) in steps.iter().enumerate() {
                pair.apply(step);
                if number % 16 == 15 {
                    pair.compare();
                }
            }
            pair.compare();
            pair.restart(0);
            pair.restart(1);
            pair.compare();
        }
    }
}
