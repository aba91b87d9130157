//! How often `hfs recall` finds the session that answers a question, and how long it takes.
//!
//! Three sets of questions:
//!
//! - LoCoMo (`cargo xtask bench recall --locomo DIR`, with its conversations as JSON files anywhere below DIR): a store
//!   for each conversation, and all of its questions that name evidence. A question hits if one of the first sessions
//!   contains evidence. The weights of the ranking and the limit for an abstention were chosen on all conversations; two
//!   halves show how much the figures vary. Unanswerable questions are those of the next conversation, once
//!   as they are, and once with the names of its speakers replaced by those of this conversation's speakers. An abstention
//!   on an answerable question counts as a miss.
//! - The transcripts in `HFS_SAMPLES`, in one store: from each session, the sentences of its users with the rarest words,
//!   without every third word. A question hits if the first session is one that contains the sentence.
//! - Generated sessions, for the time in a large store.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing benchmark panics")]

mod fixtures;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hfs_core::{
    BranchId, MessageDraft, Part, PassthroughFields, Role, SearchIndex as _, SessionDraft, SessionId,
    SessionStore as _, Timestamp,
};
use hfs_exchange::{Collector, discover, read};
use hfs_retrieval::{RecallQuery, Recalled, recall, words};
use hfs_store::{SqliteOptions, SqliteStore};
use serde_json::Value;
use testkit::bench::{Bench, Target, Unit};

use fixtures::{Random, word};

/// The conversations of the first half.
const FIRST_HALF: [&str; 5] = ["26", "41", "43", "47", "49"];
const HIT_AT_1: f64 = 0.74;
const HIT_AT_5: f64 = 0.93;
const UNANSWERABLE_ABSTAIN: f64 = 0.80;
const QUERY_TIME: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let mut bench = Bench::from_args("recall");
    if let Some(folder) = bench.folder("HFS_LOCOMO").filter(|_| bench.wants("LoCoMo")) {
        report_locomo(&mut bench, &folder);
    }
    if let Some(folder) = bench.folder("HFS_SAMPLES").filter(|_| bench.wants("samples")) {
        report_samples(&mut bench, &folder);
    }
    report_large_store(&mut bench);
    bench.finish()
}

/// A store in a temporary directory.
struct Store {
    store: SqliteStore,
    _directory: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path().join("hfs.db"), SqliteOptions::default()).unwrap();
        Self { store, _directory: directory }
    }

    fn import(&self, name: &str, at: Timestamp, messages: &[MessageDraft]) -> SessionId {
        let draft = SessionDraft {
            id: SessionId::generate(),
            name: name.into(),
            automatic_name: true,
            project: None,
            created_at: at,
            origin: None,
            extra: PassthroughFields::new(),
            main_branch: BranchId::generate(),
        };
        let mut import = self.store.import_session(&draft).unwrap();
        for message in messages {
            import.message(0, message).unwrap();
        }
        import.finish(name, 0, at, at).unwrap();
        draft.id
    }

    fn index(&self) {
        self.store.update_index(&mut |_| true).unwrap();
    }

    fn ask(&self, question: &str, times: &mut Vec<Duration>) -> Recalled {
        let query = RecallQuery { question: question.into(), limit: 5, ..RecallQuery::default() };
        let start = Instant::now();
        let found = recall(&self.store, &query).unwrap();
        times.push(start.elapsed());
        found
    }
}

/// What was counted of a set of questions.
#[derive(Debug, Clone, Default)]
struct Tally {
    questions: usize,
    first: usize,
    first_five: usize,
    passage: usize,
    abstained: usize,
    /// Hits that were not shown because of an abstention.
    first_lost: usize,
    first_five_lost: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.questions += other.questions;
        self.first += other.first;
        self.first_five += other.first_five;
        self.passage += other.passage;
        self.abstained += other.abstained;
        self.first_lost += other.first_lost;
        self.first_five_lost += other.first_five_lost;
    }

    #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
    fn share(&self, count: usize) -> f64 {
        count as f64 / self.questions.max(1) as f64
    }
}

struct Conversation {
    name: String,
    speakers: [String; 2],
    store: Store,
    sessions: HashMap<SessionId, u64>,
    questions: Vec<Question>,
}

/// A question with the numbers of the sessions and of the messages that contain evidence.
struct Question {
    text: String,
    sessions: BTreeSet<u64>,
    messages: BTreeSet<(u64, u64)>,
}

fn report_locomo(bench: &mut Bench, folder: &Path) {
    let mut files = Vec::new();
    json_files(folder, &mut files);
    let conversations: Vec<Conversation> = files.iter().map(|file| load_conversation(file)).collect();
    let mut times = Vec::new();
    let mut halves: BTreeMap<bool, [Tally; 3]> = BTreeMap::new();
    for (index, conversation) in conversations.iter().enumerate() {
        let tally = halves.entry(FIRST_HALF.contains(&conversation.name.as_str())).or_default();
        for question in &conversation.questions {
            tally[0].add(&ask_answerable(conversation, question, &mut times));
        }
        let other = &conversations[(index + 1) % conversations.len()];
        for Question { text: question, .. } in &other.questions {
            let mut renamed = question.clone();
            for (theirs, ours) in other.speakers.iter().zip(&conversation.speakers) {
                renamed = renamed.replace(theirs.as_str(), ours);
            }
            for (tally, question) in tally[1..].iter_mut().zip([question, &renamed]) {
                tally.questions += 1;
                tally.abstained += usize::from(conversation.store.ask(question, &mut times).abstained);
            }
        }
    }
    let mut all: [Tally; 3] = Default::default();
    for half in halves.values() {
        all.iter_mut().zip(half).for_each(|(all, half)| all.add(half));
    }
    let first_half = halves.remove(&true).unwrap_or_default();
    let second_half = halves.remove(&false).unwrap_or_default();
    for (name, [answerable, foreign, renamed]) in
        [("all conversations", all), ("first half", first_half), ("second half", second_half)]
    {
        let row = |what: &str, questions: usize| format!("LoCoMo, {name}: {what} ({questions} questions)");
        let mut share = |what: &str, tally: &Tally, count: usize, wanted: f64| {
            let target = Target::AtLeast(1.0);
            bench.amounts(&row(what, tally.questions), tally.share(count), wanted, Unit::Share, target);
        };
        share("session hit@1", &answerable, answerable.first, HIT_AT_1);
        share("session hit@5", &answerable, answerable.first_five, HIT_AT_5);
        let shown = answerable.first - answerable.first_lost;
        share("session hit@1, an abstention is a miss", &answerable, shown, HIT_AT_1);
        let shown = answerable.first_five - answerable.first_five_lost;
        share("session hit@5, an abstention is a miss", &answerable, shown, HIT_AT_5);
        share("evidence among five passages", &answerable, answerable.passage, 0.5);
        share("another conversation's questions abstain", &foreign, foreign.abstained, UNANSWERABLE_ABSTAIN);
        share("the same with names replaced abstain", &renamed, renamed.abstained, UNANSWERABLE_ABSTAIN);
        let row = row("answerable questions that abstain", answerable.questions);
        let share = answerable.share(answerable.abstained);
        bench.amounts(&row, share, 0.10, Unit::Share, Target::AtMost(1.0));
    }
    report_times(bench, "LoCoMo", times);
}

fn ask_answerable(conversation: &Conversation, question: &Question, times: &mut Vec<Duration>) -> Tally {
    let found = conversation.store.ask(&question.text, times);
    let ranked: Vec<u64> =
        found.sessions.iter().map(|session| conversation.sessions[&session.session]).collect();
    let first = ranked.first().is_some_and(|session| question.sessions.contains(session));
    let first_five = ranked.iter().any(|session| question.sessions.contains(session));
    let passage = found
        .passages
        .iter()
        .any(|passage| question.messages.contains(&(conversation.sessions[&passage.session], passage.seq)));
    Tally {
        questions: 1,
        first: first.into(),
        first_five: first_five.into(),
        passage: passage.into(),
        abstained: found.abstained.into(),
        first_lost: (first && found.abstained).into(),
        first_five_lost: (first_five && found.abstained).into(),
    }
}

fn report_times(bench: &mut Bench, name: &str, mut times: Vec<Duration>) {
    if times.is_empty() {
        return;
    }
    times.sort_unstable();
    for (quantile, per_mille) in [("median", 500), ("99th percentile", 990)] {
        let time = times[(times.len() - 1) * per_mille / 1000];
        let row = format!("{name}: {quantile} of the time of a question");
        let target = Target::Under(QUERY_TIME);
        bench.amounts(&row, time.as_secs_f64(), QUERY_TIME.as_secs_f64(), Unit::Seconds, target);
    }
}

fn json_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            json_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
}

fn load_conversation(file: &Path) -> Conversation {
    let conversation: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let store = Store::new();
    let mut sessions = HashMap::new();
    for number in 1..100_u64 {
        let Some(turns) = conversation[format!("session_{number}")].as_array() else { continue };
        let at = locomo_time(conversation[format!("session_{number}_date_time")].as_str().unwrap());
        let messages: Vec<MessageDraft> = turns
            .iter()
            .enumerate()
            .map(|(index, turn)| {
                let text = |field: &str| turn[field].as_str().unwrap_or_default();
                let role = if index % 2 == 0 { Role::User } else { Role::Assistant };
                let said = format!("{}: {} {}", text("speaker"), text("text"), text("blip_caption"));
                MessageDraft::new(role, vec![Part::text(said.trim_end())], at)
            })
            .collect();
        sessions.insert(store.import(&format!("session {number}"), at, &messages), number);
    }
    store.index();
    let questions = conversation["qa"].as_array().unwrap().iter().filter_map(|question| {
        let messages: BTreeSet<(u64, u64)> = question["evidence"]
            .as_array()?
            .iter()
            .flat_map(|entry| entry.as_str().unwrap().split([';', ' ', ',', '(', ')']))
            .filter_map(|entry| {
                let (session, message) = entry.trim().strip_prefix('D')?.split_once(':')?;
                Some((session.parse().ok()?, message.parse().ok()?))
            })
            .collect();
        let sessions: BTreeSet<u64> = messages.iter().map(|(session, _)| *session).collect();
        let text = question["question"].as_str().unwrap().to_owned();
        (!sessions.is_empty()).then_some(Question { text, sessions, messages })
    });
    let speaker = |field: &str| conversation[field].as_str().unwrap().to_owned();
    Conversation {
        name: file.file_stem().unwrap().to_string_lossy().into_owned(),
        speakers: [speaker("speaker_a"), speaker("speaker_b")],
        questions: questions.collect(),
        store,
        sessions,
    }
}

/// A time such as `1:56 pm on 8 May, 2023`.
fn locomo_time(text: &str) -> Timestamp {
    let time = jiff::civil::DateTime::strptime("%I:%M %p on %d %B, %Y", text).unwrap();
    let seconds = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_second();
    Timestamp::from_millis(seconds * 1000).unwrap()
}

/// Questions of each session of the samples.
const SENTENCES_PER_SESSION: usize = 3;

fn report_samples(bench: &mut Bench, folder: &Path) {
    let store = Store::new();
    let mut texts: Vec<(SessionId, Vec<String>)> = Vec::new();
    for source in discover(folder).map(|found| found.sources).unwrap_or_default() {
        let mut collector = Collector::default();
        if read(&source, None, &mut collector).is_err() {
            continue;
        }
        for session in collector.sessions {
            let mut messages: Vec<MessageDraft> = session.messages().cloned().collect();
            // Attachments are not stored here.
            for message in &mut messages {
                message.id = hfs_core::MessageId::generate();
                message.parts.retain(|part| !matches!(part, Part::Attachment { .. }));
            }
            let at = messages.first().map_or(Timestamp::UNIX_EPOCH, |message| message.created_at);
            let users = messages.iter().filter(|message| message.role == Role::User);
            let texts_of_users = users.map(MessageDraft::text).collect();
            texts.push((store.import("sample", at, &messages), texts_of_users));
        }
    }
    store.index();
    // How many sessions have each word, and which sessions have each sentence.
    let mut with_word: HashMap<String, usize> = HashMap::new();
    let mut with_sentence: HashMap<String, BTreeSet<SessionId>> = HashMap::new();
    for (session, texts) in &texts {
        let all: BTreeSet<String> =
            texts.iter().flat_map(|text| words(text)).map(|word| word.folded).collect();
        all.into_iter().for_each(|word| *with_word.entry(word).or_default() += 1);
        for sentence in texts.iter().flat_map(|text| sentences(text)) {
            with_sentence.entry(sentence).or_default().insert(*session);
        }
    }
    let mut times = Vec::new();
    let mut tally = Tally::default();
    for (_, texts) in &texts {
        let mut ranked: Vec<String> = texts.iter().flat_map(|text| sentences(text)).collect();
        ranked.sort_by_key(|sentence| {
            let rarest = words(sentence).iter().map(|word| with_word[&word.folded]).min();
            (rarest, sentence.clone())
        });
        ranked.dedup();
        for sentence in ranked.iter().take(SENTENCES_PER_SESSION) {
            let kept = sentence.split(' ').enumerate().filter(|(index, _)| index % 3 != 2);
            let question: Vec<&str> = kept.map(|(_, word)| word).collect();
            let found = store.ask(&question.join(" "), &mut times);
            let hits = |count: usize| {
                found.sessions.iter().take(count).any(|hit| with_sentence[sentence].contains(&hit.session))
            };
            tally.add(&Tally {
                questions: 1,
                first: hits(1).into(),
                first_five: hits(5).into(),
                abstained: found.abstained.into(),
                ..Tally::default()
            });
        }
    }
    let rows = [
        ("session hit@1", tally.first, 0.9),
        ("session hit@5", tally.first_five, 0.95),
        ("not abstained", tally.questions - tally.abstained, 0.95),
    ];
    for (what, count, wanted) in rows {
        let row = format!("samples: {what} ({} sentences of {} sessions)", tally.questions, texts.len());
        bench.amounts(&row, tally.share(count), wanted, Unit::Share, Target::AtLeast(1.0));
    }
    report_times(bench, "samples", times);
}

/// Sentences of six to thirty words.
fn sentences(text: &str) -> Vec<String> {
    text.split(['\n', '.', '?', '!'])
        .map(|sentence| sentence.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|sentence| (6..=30).contains(&sentence.split(' ').count()))
        .collect()
}

/// Sessions of 50 messages with a text of some hundred bytes each. A fact is planted in each hundredth session.
fn report_large_store(bench: &mut Bench) {
    let count = bench.size(20_000, 20);
    let row = format!("{count} generated sessions");
    if !bench.wants(&row) {
        return;
    }
    let fixture = Store::new();
    let mut random = Random::new(11);
    let mut planted = Vec::new();
    for number in 0..count {
        let mut messages: Vec<MessageDraft> = (0..50)
            .map(|_| {
                let text: Vec<String> = (0..40).map(|_| word(&mut random)).collect();
                MessageDraft::new(Role::User, vec![Part::text(text.join(" "))], fixtures::time(number))
            })
            .collect();
        let fact: Vec<String> = (0..5).map(|_| word(&mut random)).collect();
        messages[25].parts = vec![Part::text(fact.join(" "))];
        let id = fixture.import("generated", fixtures::time(number), &messages);
        if number % 100 == 0 {
            planted.push((id, fact.join(" ")));
        }
    }
    fixture.index();
    let (mut times, mut tally) = (Vec::new(), Tally::default());
    for (id, fact) in planted {
        let found = fixture.ask(&fact, &mut times);
        let hits = |count: usize| found.sessions.iter().take(count).any(|hit| hit.session == id);
        let (first, first_five) = (hits(1).into(), hits(5).into());
        tally.add(&Tally { questions: 1, first, first_five, ..Tally::default() });
    }
    let name = format!("{row}: session hit@5 ({} facts)", tally.questions);
    bench.amounts(&name, tally.share(tally.first_five), 0.95, Unit::Share, Target::AtLeast(1.0));
    report_times(bench, &row, times);
}
