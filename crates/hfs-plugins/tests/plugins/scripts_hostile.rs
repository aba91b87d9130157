//! What a plugin that is source may try, and what comes of it: nothing, within bounds, and the next call works.

use std::time::{Duration, Instant};

use hfs_core::{Hooks, SessionId, Verdict};
use hfs_plugins::{Language, Plugins, State};

use crate::fixture::{Home, assert_log_was_cut, state};

/// How long a hook may take where it is to run out of time.
const HOOK: Duration = Duration::from_secs(2);
/// A stopped call is over after its own time and this, on a machine that has much else to do.
const SLACK: Duration = Duration::from_secs(20);

async fn said(plugins: &Plugins, text: &str) -> Verdict {
    plugins.on_message(SessionId::generate(), text, true).await
}

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

/// A plugin did its worst beside another one.
struct Tried {
    /// What became of the message.
    text: String,
    /// What the user was told.
    told: String,
    plugins: Plugins,
    _home: Home,
}

async fn done(language: Language, body: &str) -> Option<Tried> {
    let mut home = Home::with(language)?;
    home.limits.hook = HOOK;
    let (file, bad, good) = sources(language, body);
    home.add_source("bad", "", &[(file, &bad)]);
    home.add_source("good", "", &[(file, good)]);
    let plugins = home.begin(&["bad", "good"]).await;
    assert_eq!(state(&plugins, "bad"), (State::Active, String::new()), "{:?}", plugins.log("bad", 20));
    let before = Instant::now();
    let verdict = said(&plugins, "b").await;
    assert!(before.elapsed() < HOOK + SLACK, "{:?}", before.elapsed());
    let Verdict::Replace(text) = verdict else { panic!("the good one did nothing: {verdict:?}") };
    let told = plugins.take_notices().join("\n");
    Some(Tried { text, told, plugins, _home: home })
}

/// Lets a plugin do its worst. Whatever that is, the next message goes through both.
async fn tried(language: Language, body: &str) -> Option<(String, String)> {
    let Tried { text, told, plugins, .. } = done(language, body).await?;
    let next = said(&plugins, "a").await;
    assert_eq!(next, Verdict::Replace("a!!".into()), "{told} {:?}", plugins.take_notices());
    Some((text, told))
}

/// It is stopped or fails, and the message goes on without it.
async fn contained(language: Language, body: &str, expected: &str) {
    let Some((text, told)) = tried(language, body).await else { return };
    assert_eq!(text, "b!", "{told}");
    assert!(told.contains("bad") && told.contains(expected), "{told}");
}

const PYTHON: Language = Language::Python;
const JAVASCRIPT: Language = Language::JavaScript;

#[tokio::test]
async fn an_endless_loop_ends() {
    contained(PYTHON, "while True: pass", "longer than it may").await;
    contained(JAVASCRIPT, "for (;;) {}", "longer than it may").await;
}

#[tokio::test]
async fn whoever_swallows_every_exception_still_ends() {
    contained(
        PYTHON,
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "longer than it may",
    )
    .await;
}

#[tokio::test]
async fn sleep_ends_with_the_time_for_the_call() {
    contained(PYTHON, "import time\ntime.sleep(3600)", "longer than it may").await;
    contained(PYTHON, "import asyncio\nasyncio.run(asyncio.sleep(3600))", "longer than it may").await;
    contained(PYTHON, "import asyncio\nasyncio.run(asyncio.Event().wait())", "nothing will ever come").await;
    contained(JAVASCRIPT, "const t = Date.now(); while (Date.now() - t < 3600e3);", "longer than it may")
        .await;
}

#[tokio::test]
async fn a_memory_hog_gets_no_more_than_its_share() {
    let python = "v = []\nwhile True: v.append(bytearray(1 << 20))";
    let Some((text, told)) = tried(PYTHON, python).await else { return };
    assert!(text == "b!" && (told.contains("memory") || told.contains("Memory")), "{told}");
    let javascript = "const v = []; for (;;) v.push(new Uint8Array(1 << 20).fill(1));";
    let Some((text, told)) = tried(JAVASCRIPT, javascript).await else { return };
    assert!(text == "b!" && told.contains("memory"), "{told}");
}

#[tokio::test]
async fn deep_recursion_ends() {
    contained(PYTHON, "def f(n): return f(n + 1) + 1\nreturn str(f(0))", "RecursionError").await;
    contained(PYTHON, "x = []\nfor _ in range(100000): x = [x]\nreturn repr(x)", "").await;
    contained(JAVASCRIPT, "const f = (n) => f(n + 1) + 1; return String(f(0));", "").await;
}

#[tokio::test]
async fn to_end_oneself_is_ones_own_affair() {
    contained(PYTHON, "import os\nos._exit(3)", "ended itself").await;
    contained(PYTHON, "import sys\nsys.exit(3)", "SystemExit").await;
    contained(PYTHON, "raise RuntimeError('on purpose')", "on purpose").await;
    contained(JAVASCRIPT, "throw new Error('on purpose');", "on purpose").await;
}

#[tokio::test]
async fn there_are_no_files() {
    contained(PYTHON, "return open('/etc/passwd').read()", "plugin.py:3").await;
    contained(PYTHON, "open('/tmp/x', 'w').write('x')", "plugin.py:3").await;
    contained(PYTHON, "import os\nreturn str(os.listdir('/'))", "plugin.py:4").await;
    let javascript = "return [typeof std, typeof os, typeof fetch, typeof process, typeof Deno].join();";
    let Some((text, _)) = tried(JAVASCRIPT, javascript).await else { return };
    assert_eq!(text, "undefined,undefined,undefined,undefined,undefined!");
}

#[tokio::test]
async fn there_is_no_network_and_no_name_is_looked_up() {
    contained(PYTHON, "import socket\nsocket.socket().connect(('127.0.0.1', 22))\nreturn 'in'", "plugin.py")
        .await;
    contained(PYTHON, "import socket\nreturn str(socket.getaddrinfo('example.com', 80))", "plugin.py").await;
    contained(
        PYTHON,
        "import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1/').read()",
        "plugin.py",
    )
    .await;
}

#[tokio::test]
async fn there_is_no_environment_and_there_are_no_processes() {
    let Some((text, _)) = tried(PYTHON, "import os\nreturn str(dict(os.environ))").await else { return };
    assert_eq!(text, "{}!");
    contained(PYTHON, "import subprocess\nsubprocess.run(['sh', '-c', 'id'])", "plugin.py").await;
    contained(PYTHON, "import os\nos.fork()", "plugin.py").await;
    contained(PYTHON, "import threading\nthreading.Thread(target=print).start()", "plugin.py").await;
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
        let plugins = home.begin(&["bad"]).await;
        assert_eq!(said(&plugins, "b").await, Verdict::Pass);
        assert_log_was_cut(&home, &plugins, "bad");
    }
}

#[tokio::test]
async fn a_return_value_of_20_mb_is_not_taken() {
    contained(PYTHON, "return 'x' * 20_000_000", "").await;
    contained(JAVASCRIPT, "return 'x'.repeat(20000000);", "").await;
}

#[tokio::test]
async fn what_is_of_the_wrong_type_is_told() {
    contained(PYTHON, "return 3", "on_message returned int").await;
    contained(JAVASCRIPT, "return 3;", "onMessage returned number").await;
    contained(JAVASCRIPT, "return Promise.resolve('x');", "onMessage returned a promise").await;
    contained(JAVASCRIPT, "return { tag: 'reject', val: 'x' };", "onMessage returned object").await;
    contained(PYTHON, "hfs.ui.invalidate(hfs)\nhfs.kv.set('k', b'v')", "TypeError").await;
}

#[tokio::test]
async fn calls_back_that_were_not_granted_are_refused() {
    contained(PYTHON, "hfs.session.recent()", "permissions.session").await;
    contained(PYTHON, "hfs.http.fetch('http://127.0.0.1/')", "permissions.network").await;
    contained(PYTHON, "hfs.files.read('/etc/passwd')", "permissions.filesystem").await;
    contained(JAVASCRIPT, "hfs.session.recent();", "permissions.session").await;
    contained(JAVASCRIPT, "hfs.http.fetch('http://127.0.0.1/');", "permissions.network").await;
    contained(JAVASCRIPT, "hfs.files.read('/etc/passwd');", "permissions.filesystem").await;
}

#[tokio::test]
async fn one_who_meddles_with_the_interpreter_meddles_with_their_own() {
    let python = "import sys, builtins, hfs, loader\nbuiltins.open = None\nsys.modules.clear()\nloader.plugin = None\nraise ValueError('x')";
    let javascript =
        "globalThis.JSON = null; Array.prototype.map = null; Object.freeze = null; throw new Error('x');";
    for (language, body) in [(PYTHON, python), (JAVASCRIPT, javascript)] {
        let Some(Tried { text, told, plugins, .. }) = done(language, body).await else { return };
        assert!(text == "b!" && told.contains("bad"), "{told}");
        // What becomes of its own next call is its own affair.
        let Verdict::Replace(next) = said(&plugins, "a").await else { panic!("the good one is gone") };
        assert!(next.ends_with('!'), "{next}");
    }
}
