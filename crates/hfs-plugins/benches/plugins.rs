//! A message through a plugin, beside what other ways to hook in cost; and what plugins cost at the start.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

#[path = "../tests/plugins/fixture.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod fixture;
#[path = "plugins/scripts.rs"]
mod scripts;

use std::hint::black_box;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{APPEND, HOOKS, Home, message_component};
use hfs_core::{Hooks, SessionId, Verdict};
use hfs_plugins::Plugins;
use testkit::bench::{Bench, Target, Unit};
use tokio::runtime::Runtime;

/// How many messages one measured call sends through a plugin.
const MESSAGES: usize = 200;
const MANY: usize = 20;

fn main() -> std::process::ExitCode {
    let mut bench = Bench::from_args("plugins");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text: String = "a word and another, ".chars().cycle().take(1_024).collect();
    messages(&mut bench, &runtime, &text);
    scripts::run(&mut bench, &runtime, &text);
    start(&mut bench, &runtime);
    bench.finish()
}

fn through(plugins: &Plugins, runtime: &Runtime, session: SessionId, text: &str) {
    let verdict = runtime.block_on(plugins.on_message(session, text, true));
    assert!(matches!(verdict, Verdict::Replace(_)), "{verdict:?} {:?}", plugins.take_notices());
}

/// What a hook that is a program of its own costs: it reads the message and writes it back.
fn spawned(program: &str, arguments: &[&str], text: &str) -> String {
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[inline(never)]
fn direct(text: &str) -> String {
    let mut changed = String::with_capacity(text.len() + 1);
    changed.push_str(text);
    changed.push('!');
    changed
}

fn messages(bench: &mut Bench, runtime: &Runtime, text: &str) {
    let home = Home::new();
    home.add("p", HOOKS, &message_component("", APPEND));
    let plugins = runtime.block_on(home.begin(&["p"]));
    let session = SessionId::generate();
    let work = bench.size(MESSAGES, 2);
    let ours = || (0..work).for_each(|_| through(&plugins, runtime, session, text));
    bench
        .pair("on_message of 1 KB beside a direct call")
        .work(work, work)
        .median(Target::Under(Duration::from_micros(20)))
        .run(ours, || (0..work).map(|_| black_box(direct(black_box(text))).len()).sum::<usize>());
    bench
        .pair("on_message of 1 KB beside a spawned sh")
        .work(work, 1)
        .rounds(bench_rounds())
        .median(Target::SpeedAtLeast(50.0))
        .run(ours, || spawned("sh", &["-c", "read -r line; printf '%s!' \"$line\""], text));
    let python = Command::new("python3").arg("--version").output().is_ok();
    if python {
        bench
            .pair("on_message of 1 KB beside a spawned python3")
            .work(work, 1)
            .rounds(bench_rounds())
            .median(Target::SpeedAtLeast(500.0))
            .run(ours, || {
                let program = "import sys; sys.stdout.write(sys.stdin.read() + '!')";
                spawned("python3", &["-c", program], text)
            });
    }
}

const fn bench_rounds() -> usize {
    25
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// Twenty plugins whose machine code is in the cache: until all of them run, and what the caller waits for.
fn start(bench: &mut Bench, runtime: &Runtime) {
    let home = Home::new();
    let names: Vec<String> = (0..MANY).map(|number| format!("p{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        // Each is another component: no two share their machine code.
        let body = format!("(drop (i32.const {number})) {APPEND}");
        home.add(name, HOOKS, &message_component("", &body));
    }
    let approved: Vec<&str> = names.iter().map(String::as_str).collect();
    drop(runtime.block_on(home.begin(&approved)));
    let empty = Home::new();
    let rounds = bench.size(15, 1);
    let (mut until_running, mut until_back, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        let plugins = Plugins::begin(home.parts());
        until_back.push(begin.elapsed());
        runtime.block_on(plugins.started());
        until_running.push(begin.elapsed());
        assert_eq!(plugins.list().iter().filter(|one| one.state.as_str() == "active").count(), MANY);
        let begin = Instant::now();
        drop(Plugins::begin(empty.parts()));
        without.push(begin.elapsed());
    }
    let limit = |ms| Target::Under(Duration::from_millis(ms));
    let (running, back, without) =
        (median(&mut until_running), median(&mut until_back), median(&mut without));
    bench.amounts(
        "20 plugins run, from cache, beside none to start",
        running,
        without,
        Unit::Seconds,
        limit(50),
    );
    bench.amounts("the start does not wait for 20 plugins", back, without, Unit::Seconds, limit(10));
}
