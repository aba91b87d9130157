//! Time of a message through a plugin compared with other kinds of hooks, and time of starting plugins.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot continue ends"
)]

#[path = "../tests/plugins/fixture.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod fixture;

use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fixture::{APPEND, HOOKS, Home, message_component};
use hfs_core::{Hooks, SessionId, Verdict};
use hfs_plugins::{Language, PluginState, Plugins};
use testkit::bench::{Bench, Target, Unit};
use tokio::runtime::Runtime;

/// Number of messages in each measurement.
const MESSAGES: usize = 200;
/// Number of plugins that are started together.
const PLUGINS: usize = 20;

fn main() -> std::process::ExitCode {
    let mut bench = Bench::from_args("plugins");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text: String = "a word and another, ".chars().cycle().take(1_024).collect();
    messages(&mut bench, &runtime, &text);
    scripts(&mut bench, &runtime, &text);
    start_components(&mut bench, &runtime);
    bench.finish()
}

fn send_message(plugins: &Plugins, runtime: &Runtime, session: SessionId, text: &str) {
    let verdict = runtime.block_on(plugins.on_message(session, text, true));
    assert!(matches!(verdict, Verdict::Replace(_)), "{verdict:?} {:?}", plugins.take_notices());
}

/// A hook as a separate program, which reads the message and prints the changed one.
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
    let plugins = runtime.block_on(home.start(&["p"]));
    let session = SessionId::generate();
    let work = bench.size(MESSAGES, 2);
    let ours = || (0..work).for_each(|_| send_message(&plugins, runtime, session, text));
    bench
        .pair("on_message of 1 KB beside a direct call")
        .work(work, work)
        .median(Target::Under(Duration::from_micros(20)))
        .run(ours, || (0..work).map(|_| black_box(direct(black_box(text))).len()).sum::<usize>());
    bench
        .pair("on_message of 1 KB beside a spawned sh")
        .work(work, 1)
        .rounds(SPAWN_ROUNDS)
        .median(Target::SpeedAtLeast(50.0))
        .run(ours, || spawned("sh", &["-c", "read -r line; printf '%s!' \"$line\""], text));
    let python = Command::new("python3").arg("--version").output().is_ok();
    if python {
        bench
            .pair("on_message of 1 KB beside a spawned python3")
            .work(work, 1)
            .rounds(SPAWN_ROUNDS)
            .median(Target::SpeedAtLeast(500.0))
            .run(ours, || {
                let program = "import sys; sys.stdout.write(sys.stdin.read() + '!')";
                spawned("python3", &["-c", program], text)
            });
    }
}

/// Rounds of measurements that spawn a process.
const SPAWN_ROUNDS: usize = 25;

fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// Starts 20 plugins from the cache. Measures the time until all of them run, and until `Plugins::start` returns.
fn start_components(bench: &mut Bench, runtime: &Runtime) {
    let home = Home::new();
    let names: Vec<String> = (0..PLUGINS).map(|number| format!("p{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        // Each component differs, so that each has its own compiled code.
        let body = format!("(drop (i32.const {number})) {APPEND}");
        home.add(name, HOOKS, &message_component("", &body));
    }
    let approved: Vec<&str> = names.iter().map(String::as_str).collect();
    drop(runtime.block_on(home.start(&approved)));
    let empty = Home::new();
    let rounds = bench.size(15, 1);
    let (mut until_running, mut until_returned, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let begin = Instant::now();
        let plugins = Plugins::start(home.config());
        until_returned.push(begin.elapsed());
        runtime.block_on(plugins.started());
        until_running.push(begin.elapsed());
        assert_eq!(
            plugins.list().iter().filter(|plugin| plugin.state == PluginState::Active).count(),
            PLUGINS
        );
        let begin = Instant::now();
        drop(Plugins::start(empty.config()));
        without.push(begin.elapsed());
    }
    let limit = |ms| Target::Under(Duration::from_millis(ms));
    let (running, returned, without) =
        (median(&mut until_running), median(&mut until_returned), median(&mut without));
    bench.amounts("start of 20 cached plugins, until all run", running, without, Unit::Seconds, limit(50));
    bench.amounts("the start does not wait for 20 plugins", returned, without, Unit::Seconds, limit(10));
}

/// The same plugin in each language, with the target for a message in microseconds.
const SCRIPTS: [(Language, &str, &str, u64); 2] = [
    (Language::Python, "plugin.py", "def on_message(message):\n    return message + '!'\n", 60),
    (Language::JavaScript, "plugin.js", "export const onMessage = (text) => text + '!';\n", 500),
];

/// A Python program that runs the same hook with pluggy in its own process, and prints the seconds for each call.
const PLUGGY: &str = "
import sys, time, pluggy
spec, impl = pluggy.HookspecMarker('hfs'), pluggy.HookimplMarker('hfs')
class Spec:
    @spec(firstresult=True)
    def on_message(self, message, is_user): ...
class Plugin:
    @impl
    def on_message(self, message, is_user): return message + '!'
manager = pluggy.PluginManager('hfs')
manager.add_hookspecs(Spec)
manager.register(Plugin())
text, times = sys.stdin.read(), int(sys.argv[1])
for _ in range(2):
    begin = time.perf_counter()
    for _ in range(times): manager.hook.on_message(message=text, is_user=True)
    spent = time.perf_counter() - begin
print(spent / times)
";

fn scripts(bench: &mut Bench, runtime: &Runtime, text: &str) {
    for (language, file, source, limit) in SCRIPTS {
        let Some(home) = Home::with(language) else { continue };
        home.add_source("p", HOOKS, &[(file, source)]);
        let plugins = runtime.block_on(home.start(&["p"]));
        script_messages(bench, runtime, language, &plugins, text, Duration::from_micros(limit));
        drop(plugins);
        start_script(bench, runtime, language, &home);
    }
}

fn script_messages(
    bench: &mut Bench,
    runtime: &Runtime,
    language: Language,
    plugins: &Plugins,
    text: &str,
    limit: Duration,
) {
    let session = SessionId::generate();
    let work = bench.size(MESSAGES, 2);
    let ours = || (0..work).for_each(|_| send_message(plugins, runtime, session, text));
    let compiled = Home::new();
    compiled.add("p", HOOKS, &message_component("", APPEND));
    let compiled_plugins = runtime.block_on(compiled.start(&["p"]));
    bench
        .pair(&format!("{language}: on_message of 1 KB beside a compiled plugin"))
        .work(work, work)
        .median(Target::Under(limit))
        .run(ours, || (0..work).for_each(|_| send_message(&compiled_plugins, runtime, session, text)));
    let python = Command::new("python3").arg("--version").output().is_ok();
    if python {
        let program = "import sys; sys.stdout.write(sys.stdin.read() + '!')";
        let speedup = if language == Language::Python { 500.0 } else { 50.0 };
        bench
            .pair(&format!("{language}: on_message of 1 KB beside a spawned python3"))
            .work(work, 1)
            .rounds(SPAWN_ROUNDS)
            .median(Target::SpeedAtLeast(speedup))
            .run(ours, || spawned("python3", &["-c", program], text));
    }
    let row = format!("{language}: on_message of 1 KB beside pluggy in one process");
    if bench.wants(&row)
        && let Some(pluggy) = pluggy(bench.size(20_000, 10), text)
    {
        let begin = Instant::now();
        (0..work * 10).for_each(|_| send_message(plugins, runtime, session, text));
        #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
        let each = begin.elapsed().as_secs_f64() / (work * 10) as f64;
        bench.amounts(&row, each, pluggy, Unit::Seconds, Target::Under(limit));
    }
}

/// Seconds for one call, if there is a Python with pluggy. `cargo xtask runtimes` installs one.
fn pluggy(times: usize, text: &str) -> Option<f64> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/runtimes/python/tools/bin/python");
    let output = spawned(tools.to_str()?, &["-c", PLUGGY, &times.to_string()], text);
    output.trim().parse().ok()
}

/// Starts a script whose interpreter is in the cache.
fn start_script(bench: &mut Bench, runtime: &Runtime, language: Language, home: &Home) {
    let row = format!("{language}: start from cache, until the plugin runs");
    if !bench.wants(&row) {
        return;
    }
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let empty = Home::new();
    for _ in 0..bench.size(15, 1) {
        let begin = Instant::now();
        let plugins = Plugins::start(home.config());
        runtime.block_on(plugins.started());
        with.push(begin.elapsed());
        assert_eq!(plugins.list()[0].state, PluginState::Active);
        let begin = Instant::now();
        let plugins = Plugins::start(empty.config());
        runtime.block_on(plugins.started());
        without.push(begin.elapsed());
    }
    let limit = Target::Under(Duration::from_millis(10));
    bench.amounts(&row, median(&mut with), median(&mut without), Unit::Seconds, limit);
}
