//! Misbehaving scripts: each is stopped or refused within its limits, other plugins work, and so does the plugin's next
//! call.

use std::time::{Duration, Instant};

use hfs_core::Verdict;
use hfs_plugins::{Language, PluginState, Plugins};

use crate::fixture::{Home, assert_log_was_cut, on_user_message, state};

/// Time limit of a hook in these tests.
const HOOK: Duration = Duration::from_secs(2);
/// How long a stopped call may take beyond its limit on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

fn sources(language: Language, body: &str) -> (&'static str, String, &'static str) {
    match language {
        Language::Python => (
            "plugin.py",
            format!(
                "import hfs\ndef bad():\n{}\ndef on_message(m):\n    return bad() if m == 'b' else m + '!'\n",
                indented(body)
            ),
            "def on_message(m):\n    return m + '!'\n",
        ),
        Language::JavaScript => (
            "plugin.js",
            format!(
                "function bad() {{\n{body}\n}}\nfunction onMessage(m) {{ return m === 'b' ? bad() : m + '!'; }}\n"
            ),
            "function onMessage(m) { return m + '!'; }\n",
        ),
    }
}

fn indented(body: &str) -> String {
    body.lines().map(|line| format!("    {line}\n")).collect()
}

/// Result of a message that a bad and a good plugin handled.
struct Outcome {
    /// The text after both plugins.
    text: String,
    notices: String,
    plugins: Plugins,
    _home: Home,
}

async fn run_bad(language: Language, body: &str) -> Option<Outcome> {
    let mut home = Home::with(language)?;
    home.limits.hook = HOOK;
    let (file, bad, good) = sources(language, body);
    home.add_source("bad", "", &[(file, &bad)]);
    home.add_source("good", "", &[(file, good)]);
    let plugins = home.start(&["bad", "good"]).await;
    assert_eq!(state(&plugins, "bad"), (PluginState::Active, String::new()), "{:?}", plugins.log("bad", 20));
    let before = Instant::now();
    let verdict = on_user_message(&plugins, "b").await;
    assert!(before.elapsed() < HOOK + SLACK, "{:?}", before.elapsed());
    let Verdict::Replace(text) = verdict else { panic!("the good plugin did nothing: {verdict:?}") };
    let notices = plugins.take_notices().join("\n");
    Some(Outcome { text, notices, plugins, _home: home })
}

/// Runs `body` in a bad plugin, and checks that both plugins handle the next message. Returns the text and the notices.
async fn survived(language: Language, body: &str) -> Option<(String, String)> {
    let Outcome { text, notices, plugins, .. } = run_bad(language, body).await?;
    let next = on_user_message(&plugins, "a").await;
    assert_eq!(next, Verdict::Replace("a!!".into()), "{notices} {:?}", plugins.take_notices());
    Some((text, notices))
}

/// Runs `body` in a bad plugin, and checks that the message continues without it and that the notices explain why.
async fn assert_contained(language: Language, body: &str, expected: &str) {
    let Some((text, notices)) = survived(language, body).await else { return };
    assert_eq!(text, "b!", "{notices}");
    assert!(notices.contains("bad") && notices.contains(expected), "{notices}");
}

const PYTHON: Language = Language::Python;
const JAVASCRIPT: Language = Language::JavaScript;

#[tokio::test]
async fn an_endless_loop_ends() {
    assert_contained(PYTHON, "while True: pass", "exceeded its time limit").await;
    assert_contained(JAVASCRIPT, "for (;;) {}", "exceeded its time limit").await;
}

#[tokio::test]
async fn code_that_catches_every_exception_still_ends() {
    assert_contained(
        PYTHON,
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "exceeded its time limit",
    )
    .await;
}

#[tokio::test]
async fn a_sleep_ends_at_the_deadline() {
    assert_contained(PYTHON, "import time\ntime.sleep(3600)", "exceeded its time limit").await;
    assert_contained(PYTHON, "import asyncio\nasyncio.run(asyncio.sleep(3600))", "exceeded its time limit")
        .await;
    assert_contained(PYTHON, "import asyncio\nasyncio.run(asyncio.Event().wait())", "nothing will ever come")
        .await;
    assert_contained(
        JAVASCRIPT,
        "const t = Date.now(); while (Date.now() - t < 3600e3);",
        "exceeded its time limit",
    )
    .await;
}

#[tokio::test]
async fn a_script_that_allocates_too_much_is_stopped() {
    let python = "v = []\nwhile True: v.append(bytearray(1 << 20))";
    let Some((text, notices)) = survived(PYTHON, python).await else { return };
    assert!(text == "b!" && (notices.contains("memory") || notices.contains("Memory")), "{notices}");
    let javascript = "const v = []; for (;;) v.push(new Uint8Array(1 << 20).fill(1));";
    let Some((text, notices)) = survived(JAVASCRIPT, javascript).await else { return };
    assert!(text == "b!" && notices.contains("memory"), "{notices}");
}

#[tokio::test]
async fn deep_recursion_ends() {
    assert_contained(PYTHON, "def f(n): return f(n + 1) + 1\nreturn str(f(0))", "RecursionError").await;
    assert_contained(PYTHON, "x = []\nfor _ in range(100000): x = [x]\nreturn repr(x)", "").await;
    assert_contained(JAVASCRIPT, "const f = (n) => f(n + 1) + 1; return String(f(0));", "").await;
}

#[tokio::test]
async fn exits_and_exceptions_do_not_affect_others() {
    assert_contained(PYTHON, "import os\nos._exit(3)", "called exit").await;
    assert_contained(PYTHON, "import sys\nsys.exit(3)", "SystemExit").await;
    assert_contained(PYTHON, "raise RuntimeError('on purpose')", "on purpose").await;
    assert_contained(JAVASCRIPT, "throw new Error('on purpose');", "on purpose").await;
}

#[tokio::test]
async fn files_are_not_accessible() {
    assert_contained(PYTHON, "return open('/etc/passwd').read()", "plugin.py:3").await;
    assert_contained(PYTHON, "open('/tmp/x', 'w').write('x')", "plugin.py:3").await;
    assert_contained(PYTHON, "import os\nreturn str(os.listdir('/'))", "plugin.py:4").await;
    let javascript = "return [typeof std, typeof os, typeof fetch, typeof process, typeof Deno].join();";
    let Some((text, _)) = survived(JAVASCRIPT, javascript).await else { return };
    assert_eq!(text, "undefined,undefined,undefined,undefined,undefined!");
}

#[tokio::test]
async fn the_network_is_not_accessible() {
    assert_contained(
        PYTHON,
        "import socket\nsocket.socket().connect(('127.0.0.1', 22))\nreturn 'in'",
        "plugin.py",
    )
    .await;
    assert_contained(PYTHON, "import socket\nreturn str(socket.getaddrinfo('example.com', 80))", "plugin.py")
        .await;
    assert_contained(
        PYTHON,
        "import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1/').read()",
        "plugin.py",
    )
    .await;
}

#[tokio::test]
async fn environment_processes_and_threads_are_not_accessible() {
    let Some((text, _)) = survived(PYTHON, "import os\nreturn str(dict(os.environ))").await else { return };
    assert_eq!(text, "{}!");
    assert_contained(PYTHON, "import subprocess\nsubprocess.run(['sh', '-c', 'id'])", "plugin.py").await;
    assert_contained(PYTHON, "import os\nos.fork()", "plugin.py").await;
    assert_contained(PYTHON, "import threading\nthreading.Thread(target=print).start()", "plugin.py").await;
}

#[tokio::test]
async fn a_flood_of_output_is_cut() {
    // 100 MB of it.
    let python = "for _ in range(20000): print('x' * 5000)";
    let javascript = "for (let i = 0; i < 20000; i++) console.log('x'.repeat(5000));";
    for (language, body) in [(PYTHON, python), (JAVASCRIPT, javascript)] {
        let Some(mut home) = Home::with(language) else { return };
        home.limits.hook = Duration::from_secs(60);
        let (file, bad, _) = sources(language, body);
        home.add_source("bad", "", &[(file, &bad)]);
        let plugins = home.start(&["bad"]).await;
        assert_eq!(on_user_message(&plugins, "b").await, Verdict::Pass);
        assert_log_was_cut(&home, &plugins, "bad");
    }
}

#[tokio::test]
async fn a_return_value_of_20_mb_is_refused() {
    assert_contained(PYTHON, "return 'x' * 20_000_000", "").await;
    assert_contained(JAVASCRIPT, "return 'x'.repeat(20000000);", "").await;
}

#[tokio::test]
async fn values_of_the_wrong_type_are_errors_with_the_type() {
    assert_contained(PYTHON, "return 3", "on_message returned int").await;
    assert_contained(JAVASCRIPT, "return 3;", "onMessage returned number").await;
    assert_contained(JAVASCRIPT, "return Promise.resolve('x');", "onMessage returned a promise").await;
    assert_contained(JAVASCRIPT, "return { tag: 'reject', val: 'x' };", "onMessage returned object").await;
    assert_contained(PYTHON, "hfs.ui.invalidate(hfs)\nhfs.kv.set('k', b'v')", "TypeError").await;
}

#[tokio::test]
async fn host_functions_without_permission_are_refused() {
    assert_contained(PYTHON, "hfs.session.recent()", "permissions.session").await;
    assert_contained(PYTHON, "hfs.http.fetch('http://127.0.0.1/')", "permissions.network").await;
    assert_contained(PYTHON, "hfs.files.read('/etc/passwd')", "permissions.filesystem").await;
    assert_contained(JAVASCRIPT, "hfs.session.recent();", "permissions.session").await;
    assert_contained(JAVASCRIPT, "hfs.http.fetch('http://127.0.0.1/');", "permissions.network").await;
    assert_contained(JAVASCRIPT, "hfs.files.read('/etc/passwd');", "permissions.filesystem").await;
}

#[tokio::test]
async fn changes_to_the_interpreter_affect_only_the_plugin_itself() {
    let python = "import sys, builtins, hfs, loader\nbuiltins.open = None\nsys.modules.clear()\nloader.plugin = None\nraise ValueError('x')";
    let javascript =
        "globalThis.JSON = null; Array.prototype.map = null; Object.freeze = null; throw new Error('x');";
    for (language, body) in [(PYTHON, python), (JAVASCRIPT, javascript)] {
        let Some(Outcome { text, notices, plugins, .. }) = run_bad(language, body).await else { return };
        assert!(text == "b!" && notices.contains("bad"), "{notices}");
        // The next call of the bad plugin may fail.
        let Verdict::Replace(next) = on_user_message(&plugins, "a").await else {
            panic!("the good plugin does not run")
        };
        assert!(next.ends_with('!'), "{next}");
    }
}
