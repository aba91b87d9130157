//! What watches over messages: it is waited for, and where it saw nothing, that is said.

use std::time::Duration;

use hfs_core::{Hooks, SessionId, Verdict};
use hfs_plugins::State;

use crate::fixture::{HOOKS, Home, component, message_component, on_message, state};

/// A command `spin` that never ends, and a hook that rejects everything.
fn spinning_guard() -> Vec<u8> {
    let reject = "(call $say (i32.const 2) (i32.const 540) (i32.const 7))";
    let functions = format!(
        r#"(func (export "hfs:plugin/commands@0.1.0#list") (result i32)
             (i32.store (i32.const 700) (i32.const 512)) (i32.store (i32.const 704) (i32.const 4))
             (i32.store (i32.const 708) (i32.const 520)) (i32.store (i32.const 712) (i32.const 5))
             (i32.store (i32.const 716) (i32.const 0)) (i32.store (i32.const 720) (i32.const 0))
             (i32.store (i32.const 1024) (i32.const 700)) (i32.store (i32.const 1028) (i32.const 1))
             (i32.const 1024))
           (func (export "hfs:plugin/commands@0.1.0#run")
             (param i32 i32 i32 i32 i32 i32 i32) (result i32)
             (loop $l (br $l)) (unreachable))
           (data (i32.const 512) "spin") (data (i32.const 520) "about") (data (i32.const 540) "because")
           {}"#,
        on_message(reject)
    );
    component(&["commands", "on-message"], "", &functions)
}

#[tokio::test]
async fn a_message_waits_for_a_guard_that_is_busy() {
    let mut home = Home::new();
    home.add("guard", "capabilities: [commands, hooks]\n", &spinning_guard());
    home.limits.hook = Duration::from_secs(1);
    home.limits.command = Duration::from_secs(4);
    let plugins = home.begin(&["guard"]).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        plugins.on_message(SessionId::generate(), "x", true).await
    };
    let (ran, verdict) = tokio::join!(plugins.run("spin", "", None), later);
    assert!(ran.unwrap_err().to_string().contains("longer than it may"));
    let rejected = Verdict::Reject { plugin: "guard".into(), reason: "because".into() };
    assert_eq!(verdict, rejected, "{:?}", plugins.take_notices());
}

#[tokio::test]
async fn of_a_message_that_a_guard_did_not_see_the_user_is_told() {
    let home = Home::new();
    home.add("guard", HOOKS, &message_component("", "(unreachable)"));
    let plugins = home.begin(&["guard"]).await;
    for strike in ["1 of 3", "2 of 3", "3 times"] {
        assert_eq!(plugins.on_message(SessionId::generate(), "x", true).await, Verdict::Pass);
        let told = plugins.take_notices().join("\n");
        assert!(told.contains(strike) && told.contains("a message went on without it"), "{told}");
    }
    assert_eq!(state(&plugins, "guard").0, State::Quarantined);
}
