//! What a plugin may try, and what comes of it: nothing, within bounds, and the next call works.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use hfs_core::{Hooks, SessionId, Verdict};
use hfs_plugins::{Plugins, State};

use crate::fixture::{APPEND, HOOKS, Home, assert_log_was_cut, message_component, state};

/// How long a hook may take where it is to run out of time.
const HOOK: Duration = Duration::from_secs(1);
/// A stopped call is over after its own time and this, on a machine that has much else to do.
const SLACK: Duration = Duration::from_secs(5);

async fn said(plugins: &Plugins, text: &str) -> Verdict {
    plugins.on_message(SessionId::generate(), text, true).await
}

/// A plugin that does this with messages that begin with `b`, and adds a word to all others.
fn bad(imports: &str, body: &str) -> Vec<u8> {
    let body = format!(
        "(if (result i32) (i32.eq (i32.load8_u (local.get $text)) (i32.const 98)) (then {body}) (else {APPEND}))"
    );
    message_component(imports, &body)
}

/// Lets a plugin do its worst: the message goes on unchanged, another plugin's work is done, and the next call of the
/// same plugin works. Returns what the user is told.
async fn survived(imports: &str, body: &str, manifest: &str, limit: Duration) -> String {
    let mut home = Home::new();
    home.add("bad", &format!("{HOOKS}{manifest}"), &bad(imports, body));
    home.add("good", HOOKS, &message_component("", APPEND));
    home.limits.hook = limit;
    let plugins = home.begin(&["bad", "good"]).await;
    assert_eq!(state(&plugins, "bad"), (State::Active, String::new()));
    let before = Instant::now();
    assert_eq!(said(&plugins, "b").await, Verdict::Replace("b!".into()));
    assert!(before.elapsed() < limit + SLACK, "{:?}", before.elapsed());
    let told = plugins.take_notices().join("\n");
    assert!(told.contains("bad"), "{told}");
    assert_eq!(said(&plugins, "a").await, Verdict::Replace("a!!".into()), "{told}");
    told
}

const PATIENT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_endless_loop_ends() {
    let told = survived("", "(loop $l (br $l)) (unreachable)", "", HOOK).await;
    assert!(told.contains("longer than it may"), "{told}");
}

#[tokio::test]
async fn a_memory_hog_gets_no_more_than_its_share() {
    let told =
        survived("", "(loop $l (drop (memory.grow (i32.const 16))) (br $l)) (unreachable)", "", PATIENT)
            .await;
    assert!(told.contains("more than 64 MiB"), "{told}");
}

#[tokio::test]
async fn deep_recursion_ends() {
    let imports = "";
    let body = "(call $deep (i32.const 0))";
    let functions =
        "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (local.get 0))))";
    let mut home = Home::new();
    let text = crate::fixture::on_message(body);
    let binary = crate::fixture::component(&["on-message"], imports, &format!("{functions} {text}"));
    home.add("bad", HOOKS, &binary);
    home.limits.hook = PATIENT;
    let plugins = home.begin(&["bad"]).await;
    assert_eq!(said(&plugins, "b").await, Verdict::Pass);
    let told = plugins.take_notices().join("\n");
    assert!(told.contains("too deeply"), "{told}");
}

#[tokio::test]
async fn a_panic_is_the_plugins_own_affair() {
    let told = survived("", "(unreachable)", "", PATIENT).await;
    assert!(told.contains("panicked"), "{told}");
}

#[tokio::test]
async fn what_never_ends_to_begin_does_not_run_and_keeps_nobody_waiting() {
    let endless = "(func $begin (loop $l (br $l))) (start $begin)";
    let text = crate::fixture::on_message("(call $pass)");
    let binary = crate::fixture::component(&["on-message"], "", &format!("{endless} {text}"));
    let mut home = Home::new();
    home.add("bad", HOOKS, &binary);
    home.add("good", HOOKS, &message_component("", APPEND));
    home.limits.begin = HOOK;
    let plugins = home.begin(&["bad", "good"]).await;
    assert_eq!(said(&plugins, "a").await, Verdict::Replace("a!".into()));
    let (state, reason) = state(&plugins, "bad");
    assert_eq!(state, State::Invalid);
    assert!(reason.contains("does not begin") && reason.contains("longer than it may"), "{reason}");
    assert!(plugins.take_notices().iter().any(|told| told.contains("bad: does not run")));
}

#[tokio::test]
async fn memory_that_it_has_not_is_not_written_to() {
    // Whatever the host hands over is to go beyond its memory, or to where no number leads.
    for place in ["2000000000", "-1", "0x7fffffff"] {
        let lying = format!(
            r#"(module (memory (export "memory") 1) (global $heap (mut i32) (i32.const 0))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const {place}))
              {})"#,
            crate::fixture::on_message("(unreachable)")
        );
        let home = Home::new();
        home.add("bad", HOOKS, &crate::fixture::component_of_module(&["on-message"], &lying));
        home.add("good", HOOKS, &message_component("", APPEND));
        let plugins = home.begin(&["bad", "good"]).await;
        assert_eq!(said(&plugins, "a").await, Verdict::Replace("a!".into()));
        let told = plugins.take_notices().join("\n");
        assert!(told.contains("bad: stopped in on_message"), "{told}");
    }
}

#[tokio::test]
async fn a_return_value_of_20_mb_is_not_taken() {
    let body =
        "(drop (memory.grow (i32.const 320))) (call $say (i32.const 1) (i32.const 0) (i32.const 20000000))";
    survived("", body, "", PATIENT).await;
}

#[tokio::test]
async fn a_return_value_that_lies_about_itself_is_not_taken() {
    for body in [
        // Beyond its memory.
        "(call $say (i32.const 1) (i32.const 2000000000) (i32.const 10))",
        "(i32.const -4)",
        // No such case, and no text.
        "(call $say (i32.const 77) (i32.const 0) (i32.const 0))",
        "(i32.store8 (i32.const 5000) (i32.const 255)) (call $say (i32.const 1) (i32.const 5000) (i32.const 1))",
        // Nothing in place of something.
        "(call $say (i32.const 1) (i32.const 0) (i32.const 0))",
    ] {
        survived("", body, "", PATIENT).await;
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
    let plugins = home.begin(&["bad"]).await;
    assert_eq!(said(&plugins, "b").await, Verdict::Pass);
    assert_log_was_cut(&home, &plugins, "bad");
}

/// A call to the http interface for an address, which answers with `ok` or the error's code.
fn fetch(url: &str) -> (String, String) {
    let import = r#"(import "hfs:plugin/http@0.1.0" "fetch"
        (func $fetch (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let body = format!(
        "(call $fetch (i32.const 512) (i32.const 3) (i32.const 520) (i32.const {}) (i32.const 0) (i32.const 0)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2048))
         (call $told)",
        url.len()
    );
    let data = format!(r#"(data (i32.const 512) "GET") (data (i32.const 520) "{url}")"#);
    (import.to_owned(), format!("{body}) {data} (func"))
}

/// What a fetch comes to, for a plugin that may talk to these hosts.
async fn fetched(hosts: &str, url: &str) -> String {
    let (import, body) = fetch(url);
    let home = Home::new();
    let manifest = format!("{HOOKS}permissions:\n  network: [{hosts}]\n");
    home.add("p", &manifest, &message_component(&import, &body));
    let plugins = home.begin(&["p"]).await;
    match said(&plugins, "b").await {
        Verdict::Replace(text) => text,
        other => panic!("{other:?} {:?} {:?}", plugins.take_notices(), plugins.list()),
    }
}

/// A server that answers everything with this, on a port of its own.
fn server(answer: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[tokio::test]
async fn http_reaches_what_was_granted_and_nothing_else() {
    let port = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi".into());
    let here = format!("http://127.0.0.1:{port}/");
    assert_eq!(fetched(&format!("\"127.0.0.1:{port}\""), &here).await, "ok");
    // Another port, another name for the same place, and anywhere at all, which is not here.
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
async fn a_redirect_does_not_lead_out_of_the_list() {
    let inside = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi".into());
    let moved = |to: String| {
        server(format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        ))
    };
    let to_inside = moved(format!("http://127.0.0.1:{inside}/"));
    let both = format!("\"127.0.0.1:{inside}\", \"127.0.0.1:{to_inside}\"");
    assert_eq!(fetched(&both, &format!("http://127.0.0.1:{to_inside}/")).await, "ok");
    let only_first = format!("\"127.0.0.1:{to_inside}\"");
    assert_eq!(fetched(&only_first, &format!("http://127.0.0.1:{to_inside}/")).await, "denied");
    let endless = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = endless.local_addr().unwrap().port();
    drop(endless);
    let gone = format!("\"127.0.0.1:{port}\"");
    assert_eq!(fetched(&gone, &format!("http://127.0.0.1:{port}/")).await, "failed");
}

#[tokio::test]
async fn a_flood_from_the_network_is_cut() {
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
async fn sleeping_in_a_call_back_ends_with_the_call() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (import, body) = fetch(&format!("http://127.0.0.1:{port}/"));
    let mut home = Home::new();
    let manifest = format!("{HOOKS}permissions:\n  network: [\"127.0.0.1:{port}\"]\n");
    home.add("bad", &manifest, &message_component(&import, &body));
    home.add("good", HOOKS, &message_component("", APPEND));
    home.limits.hook = HOOK;
    let plugins = home.begin(&["bad", "good"]).await;
    let before = Instant::now();
    let verdict = said(&plugins, "b").await;
    assert!(before.elapsed() < HOOK + SLACK, "{:?}", before.elapsed());
    // It was either stopped, or told that the time was over and said so just in time.
    assert!(
        [Verdict::Replace("b!".into()), Verdict::Replace("timeout!".into())].contains(&verdict),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn files_outside_the_granted_folders_are_not_there() {
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
        let body =
            format!("(call $read (i32.const 512) (i32.const {}) (i32.const 2048)) (call $told)", path.len());
        let body = format!("{body}) (data (i32.const 512) \"{path}\") (func");
        let manifest = format!("{HOOKS}permissions:\n  filesystem: {{ read: [\"~/notes\"] }}\n");
        home.add("p", &manifest, &message_component(import, &body));
        let plugins = home.begin(&["p"]).await;
        assert_eq!(said(&plugins, "b").await, Verdict::Replace(expected.into()), "{path}");
    }
}

#[tokio::test]
async fn the_third_strike_is_the_last_until_the_user_says_otherwise() {
    let home = Home::new();
    home.add("bad", HOOKS, &bad("", "(unreachable)"));
    let plugins = home.begin(&["bad"]).await;
    said(&plugins, "b").await;
    assert_eq!(said(&plugins, "a").await, Verdict::Replace("a!".into()));
    drop(plugins);
    // Strikes are remembered, whatever process they fell in.
    let plugins = home.begin(&[]).await;
    said(&plugins, "b").await;
    said(&plugins, "b").await;
    let (state_now, reason) = state(&plugins, "bad");
    assert_eq!(state_now, State::Quarantined);
    assert!(
        reason.contains("3 times") && reason.contains("on_message") && reason.contains("panicked"),
        "{reason}"
    );
    assert!(plugins.take_notices().last().unwrap().contains("quarantined"));
    assert_eq!(said(&plugins, "a").await, Verdict::Pass);
    let later = home.begin(&[]).await;
    assert_eq!(state(&later, "bad"), (State::Quarantined, reason));
    assert_eq!(said(&later, "a").await, Verdict::Pass);
    later.enable("bad").unwrap();
    assert_eq!(said(&later, "a").await, Verdict::Replace("a!".into()));
}
