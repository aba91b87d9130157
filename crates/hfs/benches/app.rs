//! Latency, memory and CPU time of the terminal app: the built binary on a pseudo-terminal.
//!
//! `cargo xtask bench app`, or `cargo bench -p hfs --bench app`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark fails by panicking")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use hfs_core::{
    BranchId, MessageDraft, MessageStore as _, Part, PassthroughFields, Position, Role, SessionDraft,
    SessionId, SessionStore as _, Timestamp,
};
use hfs_store::{Durability, SqliteOptions, SqliteStore};
use testkit::bench::{Bench, Target, Unit};
use testkit::cli::{Hfs, Key, Screen, Terminal};
use testkit::model_server::{ModelServer, Protocol, Script};

const FIRST_FRAME: &str = "start to first frame";
const OPEN: &str = "open the longest session";
const SCROLL: &str = "scroll up by a page";
const MEMORY: &str = "peak memory after scrolling";
const KEY: &str = "keystroke to screen";
const IDLE: &str = "CPU time of ten idle seconds";
const OPEN_CODE: &str = "slowest keystroke while a code block of 30,000 lines opens";
const RESIZE_CODE: &str = "slowest keystroke while it is resized";
const SHOW_CODE: &str = "resize until it is shown at the new width";
const STREAM_CODE: &str = "slowest keystroke while it streams, and while it is resized";

fn main() -> ExitCode {
    let mut bench = Bench::from_args("app");
    if bench.wants(FIRST_FRAME) {
        first_frame(&mut bench);
    }
    if [OPEN, SCROLL, MEMORY].iter().any(|row| bench.wants(row)) {
        long_session(&mut bench);
    }
    if bench.wants(KEY) {
        keys(&mut bench);
    }
    if [OPEN_CODE, RESIZE_CODE, SHOW_CODE].iter().any(|row| bench.wants(row)) {
        long_code(&mut bench);
    }
    if bench.wants(STREAM_CODE) {
        streamed_code(&mut bench);
    }
    if bench.wants(IDLE) {
        idle(&mut bench);
    }
    bench.finish()
}

fn hfs() -> Hfs {
    Hfs::new(env!("CARGO_BIN_EXE_hfs")).env("HFS_AGENT", "recall")
}

/// Starts the app. Returns its terminal and the seconds until `text` was on the screen.
fn shown_after(hfs: &Hfs, arguments: &[&str], text: &str) -> (Terminal, f64) {
    let start = Instant::now();
    let terminal = hfs.command(arguments).in_terminal(45, 140);
    terminal.wait_for(text);
    (terminal, start.elapsed().as_secs_f64())
}

fn median(mut times: Vec<f64>) -> f64 {
    quantile(&mut times, 50)
}

fn quantile(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

fn first_frame(bench: &mut Bench) {
    let (hfs, shell) = (hfs(), Hfs::new("/bin/sh"));
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    // The first start creates the store.
    shown_after(&hfs, &[], "Type a message").0.kill();
    for _ in 0..bench.size(21, 1) {
        let (terminal, seconds) = shown_after(&hfs, &[], "Type a message");
        terminal.kill();
        ours.push(seconds);
        let start = Instant::now();
        shell.command(&["-c", "true"]).in_terminal(45, 140).wait_for_end();
        peer.push(start.elapsed().as_secs_f64());
    }
    let limit = Target::Under(Duration::from_millis(50));
    bench.amounts(
        &format!("{FIRST_FRAME}, compared with `true`"),
        median(ours),
        median(peer),
        Unit::Seconds,
        limit,
    );
}

/// Creates a session with `count` messages of the usual length of replies.
fn fill(store: &SqliteStore, name: &str, count: usize) {
    let time =
        |n: usize| Timestamp::from_millis(1_750_000_000_000 + i64::try_from(n).unwrap() * 1000).unwrap();
    let draft = SessionDraft {
        id: SessionId::generate(),
        name: name.to_owned(),
        automatic_name: false,
        project: None,
        created_at: time(0),
        origin: None,
        extra: PassthroughFields::new(),
        main_branch: BranchId::generate(),
    };
    store.create_session(&draft).unwrap();
    let mut at = Position { branch: draft.main_branch, head: 0 };
    let body =
        "Some *words* in a list:\n\n- one\n- two with `code`\n\n```rust\nfn main() {}\n```\n\n".repeat(12);
    for begin in (0..count).step_by(1_000) {
        let batch: Vec<MessageDraft> = (begin..count.min(begin + 1_000))
            .map(|n| {
                let role = if n % 2 == 0 { Role::User } else { Role::Assistant };
                let text = format!("{body}This is message {} of {name}.", n + 1);
                MessageDraft::new(role, vec![Part::text(text)], time(n))
            })
            .collect();
        at = store.append(at, &batch).unwrap().position;
    }
}

fn long_session(bench: &mut Bench) {
    let hfs = hfs();
    let _ = hfs.run(&["session", "list"]).ok();
    let count = bench.size(100_000, 500);
    let options = SqliteOptions { durability: Durability::Fast, ..SqliteOptions::default() };
    let store = SqliteStore::open(hfs.hfs_home().join("hfs.db"), options).unwrap();
    fill(&store, "long", count);
    fill(&store, "short", 10);
    drop(store);
    let newest = format!("This is message {count} of long.");
    let (mut long, mut short) = (Vec::new(), Vec::new());
    for _ in 0..bench.size(11, 1) {
        let (terminal, seconds) = shown_after(&hfs, &["resume", "long"], &newest);
        terminal.kill();
        long.push(seconds);
        let (terminal, seconds) = shown_after(&hfs, &["resume", "short"], "This is message 10 of short.");
        terminal.kill();
        short.push(seconds);
    }
    let row = format!("{OPEN}: {count} messages compared with 10");
    bench.amounts(&row, median(long), median(short), Unit::Seconds, Target::AtMost(1.2));

    let (terminal, _) = shown_after(&hfs, &["resume", "long"], &newest);
    let start = Instant::now();
    for _ in 0..60 {
        let before = terminal.screen().contents();
        terminal.press(Key::PageUp);
        terminal.wait_until("another page", |screen| screen.contents() != before);
    }
    let page = start.elapsed().as_secs_f64() / 60.0;
    let limit = Target::Under(Duration::from_millis(50));
    bench.amounts(&format!("{SCROLL}, compared with 50 ms"), page, 0.05, Unit::Seconds, limit);
    bench.amounts(
        &format!("{MEMORY}, compared with 80 MB"),
        peak_memory(&terminal),
        80e6,
        Unit::Bytes,
        Target::AtMost(1.0),
    );
    terminal.kill();
}

/// Peak memory of the process, in bytes.
fn peak_memory(terminal: &Terminal) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", terminal.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: Option<f64> = line.split_whitespace().next().and_then(|number| number.parse().ok());
    kib.map_or(f64::NAN, |kib| kib * 1024.0)
}

/// CPU time of the process up to now, in seconds.
fn cpu_time(terminal: &Terminal) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", terminal.pid())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = fields.split_whitespace().skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

fn has_typed(screen: &Screen, letter: char) -> bool {
    screen.contents().contains(&format!("❯ {letter}"))
}

/// Types and deletes `count` letters. Returns the seconds from each keystroke until the screen shows its effect.
fn latencies(terminal: &Terminal, count: usize) -> Vec<f64> {
    let mut times = Vec::new();
    for letter in "αβγδεζηθικλμνξοπρστυφχψω".chars().cycle().take(count) {
        for (key, wanted) in [(Key::Char(letter), true), (Key::Backspace, false)] {
            let start = Instant::now();
            terminal.press(key);
            terminal.wait_until("the letter", |screen| has_typed(screen, letter) == wanted);
            times.push(start.elapsed().as_secs_f64());
            // Vary the pause, so that keys do not arrive in step with frames.
            std::thread::sleep(Duration::from_millis(13 + u64::from(u32::from(letter) % 29)));
        }
    }
    times
}

/// A server whose model answers with this script, and the binary that uses it.
fn with_model(script: Script) -> (ModelServer, Hfs) {
    let server = ModelServer::start();
    server.then(script);
    let hfs = Hfs::new(env!("CARGO_BIN_EXE_hfs"))
        .env("HFS_BASE_URL", server.url(Protocol::OpenAi))
        .env("HFS_PROVIDER", "openai")
        .env("HFS_MODEL", "test-model")
        .env("OPENAI_API_KEY", "test-key-0123456789");
    (server, hfs)
}

/// Lines of code with their numbers. A line fits into a terminal of 140 columns, but not into one of 80.
fn code(lines: std::ops::Range<usize>) -> String {
    let line = |n| {
        format!(
            "    let answer_{n} = compute(\"line\", {n}); // a comment, up to the margin of the text, end_{n}\n"
        )
    };
    lines.map(line).collect()
}

/// Whether line `n` is shown, and the layout is that of the terminal's width.
fn shows_code(screen: &Screen, n: usize) -> bool {
    let columns = screen.size().1.get();
    let end = format!("end_{n}");
    let row = screen.rows(0, columns).find(|row| row.contains(&end));
    row.is_some_and(|row| row.contains(&format!("answer_{n}")) == (columns > 100))
}

/// A key must be shown within this time.
const KEY_LIMIT: Duration = Duration::from_millis(50);

fn record_slowest(bench: &mut Bench, row: &str, mut times: Vec<f64>) {
    let row = format!("{row}, compared with 50 ms");
    let slowest = quantile(&mut times, 99);
    bench.amounts(&row, slowest, KEY_LIMIT.as_secs_f64(), Unit::Seconds, Target::Under(KEY_LIMIT));
}

fn long_code(bench: &mut Bench) {
    let count = bench.size(30_000, 3_000);
    let hfs = hfs();
    let transcript = hfs.project().join("code.json");
    let messages = serde_json::json!([
        {"role": "user", "content": "Write it."},
        {"role": "assistant", "content": format!("```rust\n{}```\n", code(0..count))},
    ]);
    std::fs::write(&transcript, messages.to_string()).unwrap();
    let _ = hfs.run(&["import", &transcript.display().to_string()]).ok();

    let is_shown = |screen: &Screen| shows_code(screen, count - 1);
    let (mut opening, mut resizing, mut showing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.size(5, 1) {
        let (terminal, _) = shown_after(&hfs, &["resume", "@"], "Type a message");
        // The layout and the highlighting of the block take longer than these keys.
        opening.extend(latencies(&terminal, bench.size(12, 1)));
        terminal.wait_until("the code", is_shown);
        for columns in [80, 140] {
            let start = Instant::now();
            terminal.resize(45, columns);
            resizing.extend(latencies(&terminal, 2));
            terminal.wait_until("the code at the new width", is_shown);
            showing.push(start.elapsed().as_secs_f64());
        }
        terminal.kill();
    }
    record_slowest(bench, OPEN_CODE, opening);
    record_slowest(bench, RESIZE_CODE, resizing);
    let limit = Target::Under(Duration::from_secs(1));
    bench.amounts(
        &format!("{SHOW_CODE}, compared with one second"),
        median(showing),
        1.0,
        Unit::Seconds,
        limit,
    );
}

fn streamed_code(bench: &mut Bench) {
    const BATCH: usize = 50;
    let count = bench.size(30_000, 1_000);
    let mut script = Script::text("```rust\n");
    for first in (0..count).step_by(BATCH) {
        script = script.then_text(code(first..first + BATCH)).then_wait(Duration::from_millis(4));
    }
    let (_server, hfs) = with_model(script.then_hang());
    let (terminal, _) = shown_after(&hfs, &[], "Type a message");
    terminal.type_text("go");
    terminal.press(Key::Enter);
    terminal.wait_for("answer_");
    let mut times = latencies(&terminal, bench.size(60, 2));
    terminal.wait_until("all lines", |screen| shows_code(screen, count - 1));
    for columns in [80, 140, 80, 140] {
        terminal.resize(45, columns);
        times.extend(latencies(&terminal, bench.size(10, 1)));
    }
    assert!(terminal.screen().contents().contains("stops it"), "the reply ended before the measurement");
    record_slowest(bench, STREAM_CODE, times);
    terminal.kill();
}

fn keys(bench: &mut Bench) {
    /// Five tokens every four milliseconds are a little more than a thousand per second.
    const BATCH: usize = 5;
    const PAUSE: Duration = Duration::from_millis(4);
    let count = bench.size(120, 2);
    let tokens =
        ["Here", " is", " a", " *list*", ":\n\n", "- one", "\n- two", " with `code`", "\n\n", "And so on. "];
    let mut script = Script::text("It begins. ");
    let mut words = tokens.iter().cycle();
    for _ in 0..bench.size(6_000, 200) {
        for word in words.by_ref().take(BATCH) {
            script = script.then_text(*word);
        }
        script = script.then_wait(PAUSE);
    }
    let (_server, hfs) = with_model(script.then_hang());
    let (terminal, _) = shown_after(&hfs, &[], "Type a message");
    let mut quiet = latencies(&terminal, count / 4 + 1);
    terminal.type_text("go");
    terminal.press(Key::Enter);
    terminal.wait_for("It begins.");
    let mut busy = latencies(&terminal, count);
    assert!(terminal.screen().contents().contains("stops it"), "the reply ended before the measurement");
    let limit = Target::Under(Duration::from_millis(50));
    for percent in [50, 95, 99] {
        let row = format!("{KEY}, p{percent}: while 1,000 tokens a second arrive, compared with idle");
        let (busy, quiet) = (quantile(&mut busy, percent), quantile(&mut quiet, percent));
        bench.amounts(&row, busy, quiet, Unit::Seconds, limit);
    }
    terminal.kill();
}

fn idle(bench: &mut Bench) {
    let hfs = hfs();
    let _ = hfs.run(&["chat", "hello"]).ok();
    let (terminal, _) = shown_after(&hfs, &["resume", "@"], "✓ saved");
    // Wait until the background work of the start is done.
    std::thread::sleep(Duration::from_millis(1_500));
    let before = cpu_time(&terminal);
    let seconds = bench.size(10, 1);
    std::thread::sleep(Duration::from_secs(seconds.try_into().unwrap()));
    let used = cpu_time(&terminal) - before;
    // The kernel counts CPU time in ticks of 10 ms, so the limit allows at most one tick.
    let limit = Target::Under(Duration::from_millis(15));
    bench.amounts(IDLE, used, 10.0, Unit::Seconds, limit);
    terminal.kill();
}
