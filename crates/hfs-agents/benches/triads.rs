//! A run of six triads on a model that takes its time: beside the longest chain of calls that wait for each
//! other, beside all calls one after another, and what the host itself computes for each call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on ends"
)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hfs_agents::{ModelConfig, Provider, TriadModels, Triads, TriadsConfig};
use hfs_core::{
    Agent, AgentMemory, BranchId, Event, EventPayload, Message, MessageDraft, ReplyDelta, RunId, RunRequest,
    RunSink, RunSnapshot, SessionId, Timestamp,
};
use testkit::agents::sound_answer;
use testkit::bench::{Bench, Target, Unit};
use testkit::model_server::{ModelServer, Protocol};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Log(Mutex<Vec<EventPayload>>);

impl RunSink for Log {
    fn event(&self, payload: EventPayload) {
        self.0.lock().unwrap().push(payload);
    }

    fn reply(&self, _delta: ReplyDelta) {}

    fn remember(&self, _agent: &str, _memory: AgentMemory) {}
}

fn request() -> RunRequest {
    let branch = BranchId::generate();
    let content = MessageDraft::user("Why is the sky blue?", Timestamp::UNIX_EPOCH);
    RunRequest {
        run: RunId::generate(),
        session: SessionId::generate(),
        branch,
        history: vec![Message { branch, seq: 1, content }],
        memories: BTreeMap::new(),
        cancel: CancellationToken::new(),
    }
}

/// What one run took and did.
struct Ran {
    wall: Duration,
    /// Processor time of the thread that hosts the run, where the system tells it.
    processor: Option<Duration>,
    snapshot: RunSnapshot,
}

/// The processor time of this thread.
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

fn run(agent: &Triads, runtime: &tokio::runtime::Runtime) -> Ran {
    let log = Log::default();
    let (begin, before) = (Instant::now(), processor_time());
    runtime.block_on(agent.run(request(), &log)).expect("the run ends with a reply");
    let wall = begin.elapsed();
    let processor = processor_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    let run = RunId::generate();
    let events: Vec<Event> = (1..)
        .zip(log.0.into_inner().unwrap())
        .map(|(number, payload)| Event { run, number, at: Timestamp::UNIX_EPOCH, payload })
        .collect();
    Ran { wall, processor, snapshot: RunSnapshot::fold(&events) }
}

/// The longest chain of calls that wait for each other: a dialectic's four, one for each round, the arbiter,
/// the writers (no agent has more than one section here) and the integrator.
fn chain(snapshot: &RunSnapshot) -> u32 {
    let arbiter = snapshot.negotiation.sections.iter().any(|section| section.arbiter.is_some());
    4 + snapshot.negotiation.round + u32::from(arbiter) + 1 + 1
}

fn calls(snapshot: &RunSnapshot) -> u32 {
    let calls: u64 = snapshot.usage.by_agent.values().map(|count| count.calls).sum();
    u32::try_from(calls).unwrap()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

fn main() -> ExitCode {
    let mut bench = Bench::from_args("triads");
    let latency = Duration::from_millis(bench.size(100, 1) as u64);
    let server = ModelServer::start();
    server.otherwise(move |asked| sound_answer(asked).after(latency));
    let mut model = ModelConfig::new(Provider::OpenAi, "bench", None);
    model.base_url = Some(server.url(Protocol::OpenAi));
    let config = TriadsConfig::from_yaml(TriadsConfig::STANDARD).unwrap();
    let agent = Triads::new(config, TriadModels::Online { default: model, named: BTreeMap::new() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    // The first run makes the client and the connections.
    run(&agent, &runtime);
    let runs: Vec<Ran> = (0..bench.size(5, 1)).map(|_| run(&agent, &runtime)).collect();
    let (chain, calls) = (chain(&runs[0].snapshot), calls(&runs[0].snapshot));
    let ours = median(runs.iter().map(|ran| ran.wall).collect());
    let path = (latency * chain).as_secs_f64();
    let row = format!("6 triads, {calls} calls of 100 ms, beside the {chain} that wait for each other");
    bench.amounts(&row, ours, path, Unit::Seconds, Target::AtMost(1.25));
    let sum = (latency * calls).as_secs_f64();
    bench.amounts(
        "the same beside all calls one after another",
        ours,
        sum,
        Unit::Seconds,
        Target::SpeedAtLeast(4.0),
    );
    let processor: Vec<Duration> = runs.iter().filter_map(|ran| Some(ran.processor? / calls)).collect();
    if !processor.is_empty() {
        let row = "the host's processor time for each call, beside 1 ms";
        bench.amounts(row, median(processor), 1e-3, Unit::Seconds, Target::AtMost(1.0));
    }
    bench.finish()
}
