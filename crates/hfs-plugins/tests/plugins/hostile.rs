//! Misbehaving components: each is stopped or refused within its limits, other plugins work, and so does the plugin's
//! next call.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use hfs_core::{Hooks, SessionId, Verdict};
use hfs_plugins::PluginState;

use crate::fixture::{
    APPEND, HOOKS, Home, assert_log_was_cut, component, message_component, on_message, on_user_message, state,
};

/// Time limit of a hook in tests that exceed it.
const SHORT: Duration = Duration::from_secs(1);
/// How long a stopped call may take beyond its limit on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

/// A plugin that runs `body` for messages that start with `b`, and appends `!` to all others.
fn bad(imports: &str, body: &str) -> Vec<u8> {
    let body = format!(
        "(if (result i32) (i32.eq (i32.load8_u (local.get $text)) (i32.const 98)) (then {body}) (else {APPEND}))"
    );
    message_component(imports, &body)
}

/// Runs `body` in a bad plugin, and checks that the message continues without it, that another plugin handles the
/// message, and that the next call of the bad plugin works. Returns the notices.
async fn survived(imports: &str, body: &str, manifest: &str, limit: Duration) -> String {
    let mut home = Home::new();
    home.add("bad", &format!("{HOOKS}{manifest}"), &bad(imports, body));
    home.add("good", HOOKS, &message_component("", APPEND));
    home.limits.hook = limit;
    let plugins = home.start(&["bad", "good"]).await;
    assert_eq!(state(&plugins, "bad"), (PluginState::Active, String::new()));
    let before = Instant::now();
    assert_eq!(on_user_message(&plugins, "b").await, Verdict::Replace("b!".into()));
    assert!(before.elapsed() < limit + SLACK, "{:?}", before.elapsed());
    let notices = plugins.take_notices().join("\n");
    assert!(notices.contains("bad"), "{notices}");
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Replace("a!!".into()), "{notices}");
    notices
}

const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_endless_loop_ends() {
    let notices = survived("", "(loop $l (br $l)) (unreachable)", "", SHORT).await;
    assert!(notices.contains("exceeded its time limit"), "{notices}");
}

#[tokio::test]
async fn a_plugin_that_allocates_too_much_is_stopped() {
    let notices =
        survived("", "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (unreachable)", "", LONG).await;
    assert!(notices.contains("more than 64 MiB"), "{notices}");
}

#[tokio::test]
async fn deep_recursion_ends() {
    let imports = "";
    let body = "(call $deep (i32.const 0))";
    let functions =
        "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let mut home = Home::new();
    let text = on_message(body);
    let binary = component(&["on-message"], imports, &format!("{functions} {text}"));
    home.add("bad", HOOKS, &binary);
    home.limits.hook = LONG;
    let plugins = home.start(&["bad"]).await;
    assert_eq!(on_user_message(&plugins, "b").await, Verdict::Pass);
    let notices = plugins.take_notices().join("\n");
    assert!(notices.contains("overflowed its stack"), "{notices}");
}

#[tokio::test]
async fn a_panic_does_not_affect_others() {
    let notices = survived("", "(unreachable)", "", LONG).await;
    assert!(notices.contains("panicked"), "{notices}");
}

#[tokio::test]
async fn a_plugin_whose_start_never_ends_is_invalid() {
    let endless = "(func $begin (loop $l (br $l))) (start $begin)";
    let text = on_message("(call $pass)");
    let binary = component(&["on-message"], "", &format!("{endless} {text}"));
    let mut home = Home::new();
    home.add("bad", HOOKS, &binary);
    home.add("good", HOOKS, &message_component("", APPEND));
    home.limits.start = SHORT;
    let plugins = home.start(&["bad", "good"]).await;
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Replace("a!".into()));
    let (state, reason) = state(&plugins, "bad");
    assert_eq!(state, PluginState::Invalid);
    assert!(reason.contains("does not start") && reason.contains("exceeded its time limit"), "{reason}");
    assert!(plugins.take_notices().iter().any(|notice| notice.contains("bad: does not run")));
}

#[tokio::test]
async fn the_host_does_not_write_outside_the_plugins_memory() {
    // The plugin's allocator returns addresses beyond its memory.
    for address in ["2000000000", "-1", "0x7fffffff"] {
        let module = format!(
            r#"(module (memory (export "memory") 1) (global $heap (mut i32) (i32.const 0))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const {address}))
              {})"#,
            on_message("(unreachable)")
        );
        let home = Home::new();
        home.add("bad", HOOKS, &crate::fixture::component_of_module(&["on-message"], &module));
        home.add("good", HOOKS, &message_component("", APPEND));
        let plugins = home.start(&["bad", "good"]).await;
        assert_eq!(on_user_message(&plugins, "a").await, Verdict::Replace("a!".into()));
        let notices = plugins.take_notices().join("\n");
        assert!(notices.contains("bad: stopped in on_message"), "{notices}");
    }
}

#[tokio::test]
async fn a_return_value_of_20_mb_is_refused() {
    let body = "(drop (memory.grow (i32.const 320))) (call $return_text (i32.const 1) (i32.const 0) (i32.const 20000000))";
    survived("", body, "", LONG).await;
}

#[tokio::test]
async fn an_invalid_return_value_is_refused() {
    for body in [
        // An address beyond its memory.
        "(call $return_text (i32.const 1) (i32.const 2000000000) (i32.const 10))",
        "(i32.const -4)",
        // A case that does not exist, and invalid UTF-8.
        "(call $return_text (i32.const 77) (i32.const 0) (i32.const 0))",
        "(i32.store8 (i32.const 5000) (i32.const 255)) (call $return_text (i32.const 1) (i32.const 5000) (i32.const 1))",
        // An empty text as a replacement.
        "(call $return_text (i32.const 1) (i32.const 0) (i32.const 0))",
    ] {
        survived("", body, "", LONG).await;
    }
}

#[tokio::test]
async fn a_flood_of_output_is_cut() {
    let import = r#"(import "hfs:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    // 100 MB in lines of 1,000 bytes.
    let body = r#"(loop $l
        (call $log (i32.const 1) (i32.const 3000) (i32.const 1000))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 100000))))
      (call $pass)"#;
    let home = Home::new();
    home.add("bad", HOOKS, &message_component(import, body));
    let plugins = home.start(&["bad"]).await;
    assert_eq!(on_user_message(&plugins, "b").await, Verdict::Pass);
    assert_log_was_cut(&home, &plugins, "bad");
}

/// Import and body of a plugin that fetches an address, and replaces the message with `ok` or the code of the error.
fn fetch(url: &str) -> (String, String) {
    let import = r#"(import "hfs:plugin/http@0.1.0" "fetch"
        (func $fetch (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let body = format!(
        "(call $fetch (i32.const 512) (i32.const 3) (i32.const 520) (i32.const {}) (i32.const 0) (i32.const 0)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
         (call $outcome)",
        url.len()
    );
    let data = format!(r#"(data (i32.const 512) "GET") (data (i32.const 520) "{url}")"#);
    (import.to_owned(), format!("{body}) {data} (func"))
}

/// The outcome of a fetch by a plugin that may talk to these hosts.
async fn fetched(hosts: &str, url: &str) -> String {
    let (import, body) = fetch(url);
    let home = Home::new();
    let manifest = format!("{HOOKS}permissions:\n  network: [{hosts}]\n");
    home.add("p", &manifest, &message_component(&import, &body));
    let plugins = home.start(&["p"]).await;
    match on_user_message(&plugins, "b").await {
        Verdict::Replace(text) => text,
        other => panic!("{other:?} {:?} {:?}", plugins.take_notices(), plugins.list()),
    }
}

/// Starts a server that sends the same response to every request, and returns its port.
fn server(response: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(response.as_bytes());
        }
    });
    port
}

#[tokio::test]
async fn only_granted_hosts_are_reachable() {
    let port = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi".into());
    let here = format!("http://127.0.0.1:{port}/");
    assert_eq!(fetched(&format!("\"127.0.0.1:{port}\""), &here).await, "ok");
    // Another port, another name of the same host, and any public host.
    assert_eq!(fetched("\"127.0.0.1:1\"", &here).await, "denied");
    assert_eq!(
        fetched(&format!("\"127.0.0.1:{port}\""), &format!("http://localhost:{port}/")).await,
        "denied"
    );
    assert_eq!(fetched("\"*\"", "http://127.0.0.1/").await, "denied");
    assert_eq!(fetched("\"*\"", "http://[::1]/").await, "denied");
    assert_eq!(fetched("\"*\"", "file:///etc/passwd").await, "denied");
    assert_eq!(fetched("\"*\"", "http://user:word@example.com/").await, "denied");
    assert_eq!(fetched("\"*\"", "nonsense").await, "invalid");
}

#[tokio::test]
async fn a_redirect_to_a_host_that_is_not_granted_is_refused() {
    let inside = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi".into());
    let redirecting_server = |to: String| {
        server(format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ))
    };
    let redirect = redirecting_server(format!("http://127.0.0.1:{inside}/"));
    let both = format!("\"127.0.0.1:{inside}\", \"127.0.0.1:{redirect}\"");
    assert_eq!(fetched(&both, &format!("http://127.0.0.1:{redirect}/")).await, "ok");
    let only_first = format!("\"127.0.0.1:{redirect}\"");
    assert_eq!(fetched(&only_first, &format!("http://127.0.0.1:{redirect}/")).await, "denied");
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let closed_port = format!("\"127.0.0.1:{port}\"");
    assert_eq!(fetched(&closed_port, &format!("http://127.0.0.1:{port}/")).await, "failed");
}

#[tokio::test]
async fn a_response_that_is_too_large_is_refused() {
    let body = "x".repeat(6 << 20);
    let port = server(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(
        fetched(&format!("\"127.0.0.1:{port}\""), &format!("http://127.0.0.1:{port}/")).await,
        "quota"
    );
}

#[tokio::test]
async fn a_blocking_host_function_ends_at_the_deadline_of_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (import, body) = fetch(&format!("http://127.0.0.1:{port}/"));
    let mut home = Home::new();
    let manifest = format!("{HOOKS}permissions:\n  network: [\"127.0.0.1:{port}\"]\n");
    home.add("bad", &manifest, &message_component(&import, &body));
    home.add("good", HOOKS, &message_component("", APPEND));
    home.limits.hook = SHORT;
    let plugins = home.start(&["bad", "good"]).await;
    let before = Instant::now();
    let verdict = on_user_message(&plugins, "b").await;
    assert!(before.elapsed() < SHORT + SLACK, "{:?}", before.elapsed());
    // Either it was stopped, or it got the timeout and returned within the grace period.
    assert!(
        [Verdict::Replace("b!".into()), Verdict::Replace("timeout!".into())].contains(&verdict),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn files_outside_the_granted_folders_are_denied() {
    let import = r#"(import "hfs:plugin/files@0.1.0" "read" (func $read (param i32 i32 i32)))"#;
    for (path, expected) in [
        ("~/notes/a", "ok"),
        ("~/notes/b", "not-found"),
        ("~/notes/../.hfs/plugin_permissions.yaml", "denied"),
        ("~/notes/link", "denied"),
        ("/etc/passwd", "denied"),
        ("/proc/self/environ", "denied"),
    ] {
        let home = Home::new();
        std::fs::create_dir_all(home.user_home().join("notes")).unwrap();
        std::fs::write(home.user_home().join("notes/a"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", home.user_home().join("notes/link")).unwrap();
        let body = format!(
            "(call $read (i32.const 512) (i32.const {}) (i32.const 2048)) (call $outcome)",
            path.len()
        );
        let body = format!("{body}) (data (i32.const 512) \"{path}\") (func");
        let manifest = format!("{HOOKS}permissions:\n  filesystem: {{ read: [\"~/notes\"] }}\n");
        home.add("p", &manifest, &message_component(import, &body));
        let plugins = home.start(&["p"]).await;
        assert_eq!(on_user_message(&plugins, "b").await, Verdict::Replace(expected.into()), "{path}");
    }
}

#[tokio::test]
async fn the_third_strike_quarantines_a_plugin_until_it_is_enabled() {
    let home = Home::new();
    home.add("bad", HOOKS, &bad("", "(unreachable)"));
    let plugins = home.start(&["bad"]).await;
    on_user_message(&plugins, "b").await;
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Replace("a!".into()));
    drop(plugins);
    // Strikes are stored, so they count across processes.
    let plugins = home.start(&[]).await;
    on_user_message(&plugins, "b").await;
    on_user_message(&plugins, "b").await;
    let (state_now, reason) = state(&plugins, "bad");
    assert_eq!(state_now, PluginState::Quarantined);
    assert!(
        reason.contains("3 times") && reason.contains("on_message") && reason.contains("panicked"),
        "{reason}"
    );
    assert!(plugins.take_notices().last().unwrap().contains("quarantined"));
    assert_eq!(on_user_message(&plugins, "a").await, Verdict::Pass);
    let later = home.start(&[]).await;
    assert_eq!(state(&later, "bad"), (PluginState::Quarantined, reason));
    assert_eq!(on_user_message(&later, "a").await, Verdict::Pass);
    later.enable("bad").unwrap();
    assert_eq!(on_user_message(&later, "a").await, Verdict::Replace("a!".into()));
}

/// A plugin with a command `spin` that never ends, and a hook that rejects every message.
fn spinning_guard() -> Vec<u8> {
    let reject = "(call $return_text (i32.const 2) (i32.const 540) (i32.const 7))";
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
    let plugins = home.start(&["guard"]).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        plugins.on_message(SessionId::generate(), "x", true).await
    };
    let (ran, verdict) = tokio::join!(plugins.run("spin", "", None), later);
    assert!(ran.unwrap_err().to_string().contains("exceeded its time limit"));
    let rejected = Verdict::Reject { plugin: "guard".into(), reason: "because".into() };
    assert_eq!(verdict, rejected, "{:?}", plugins.take_notices());
}

#[tokio::test]
async fn the_user_is_notified_of_messages_that_a_guard_did_not_see() {
    let home = Home::new();
    home.add("guard", HOOKS, &message_component("", "(unreachable)"));
    let plugins = home.start(&["guard"]).await;
    for strike in ["1 of 3", "2 of 3", "3 times"] {
        assert_eq!(plugins.on_message(SessionId::generate(), "x", true).await, Verdict::Pass);
        let notices = plugins.take_notices().join("\n");
        assert!(notices.contains(strike) && notices.contains("a message continued without it"), "{notices}");
    }
    assert_eq!(state(&plugins, "guard").0, PluginState::Quarantined);
}
