//! Full-text search: query syntax, hits, and the index.

use hfs_core::{
    CandidateQuery, Candidates, Origin, Part, Position, Project, ReplyDelta, Role, SearchHit, SearchQuery,
    SearchResults, SessionDraft, SessionFilter, SessionId, Timestamp,
};
use serde_json::json;

use super::Fixture;
use crate::builders::at;

fn query(text: &str) -> SearchQuery {
    SearchQuery { text: text.into(), limit: 200, ..SearchQuery::default() }
}

fn search(fixture: &Fixture<'_>, query: &SearchQuery) -> SearchResults {
    let found = fixture.store.search(query).unwrap();
    assert_eq!(found.total, fixture.other_process().search(query).unwrap().total);
    assert!(found.hits.is_sorted_by(|a, b| a.score >= b.score), "the best matches come first");
    found
}

fn count(fixture: &Fixture<'_>, text: &str) -> u64 {
    let found = search(fixture, &query(text));
    assert_eq!(found.hits.len() as u64, found.total);
    found.total
}

fn append_as(fixture: &Fixture<'_>, at: Position, role: Role, parts: Vec<Part>) -> Position {
    fixture.store.append(at, &[fixture.drafts.message(role, parts)]).unwrap().position
}

pub fn a_hit_contains_its_session_branch_and_message(fixture: &Fixture<'_>) {
    let draft = fixture.drafts.session("Login ü");
    fixture.store.create_session(&draft).unwrap();
    let main = fixture.append_text(at(draft.main_branch, 0), "nothing here");
    let (side, _) = fixture.fork(main, "side");
    let message = fixture.drafts.assistant("Somewhere in here is a Needle, in a haystack.");
    fixture.store.append(side, std::slice::from_ref(&message)).unwrap();
    let found = search(fixture, &query("needle"));
    assert_eq!(found.total, 1);
    let hit = &found.hits[0];
    assert_eq!((hit.session, hit.session_name.as_str()), (draft.id, "Login ü"));
    assert_eq!((hit.branch, hit.branch_name.as_str()), (side.branch, "side"));
    assert_eq!((hit.message, hit.seq, hit.role), (message.id, 2, Role::Assistant));
    assert_eq!(hit.created_at, message.created_at);
    let marked = format!("{}Needle{}", SearchHit::MARK_START, SearchHit::MARK_END);
    assert!(hit.snippet.contains(&marked), "{:?}", hit.snippet);
    assert!(hit.snippet.contains("haystack"));
}

pub fn the_snippet_of_a_long_text_is_the_context_of_the_match(fixture: &Fixture<'_>) {
    let filler = "lorem ipsum dolor sit amet ".repeat(2000);
    fixture.append_text(fixture.main(), &format!("{filler} before needle after {filler}"));
    let found = search(fixture, &query("needle"));
    let snippet = &found.hits[0].snippet;
    assert!(snippet.len() < 1000, "{} bytes", snippet.len());
    let marked = format!("before {}needle{} after", SearchHit::MARK_START, SearchHit::MARK_END);
    assert!(snippet.contains(&marked), "{snippet:?}");
}

pub fn every_kind_of_part_is_searched(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let parts = vec![
        Part::Thinking { text: "alpha".into(), signature: Some("secretsignature".into()) },
        Part::text("beta"),
        Part::ToolCall {
            id: "callid".into(),
            name: "gammatool".into(),
            input: json!({"keyname": ["delta", {"x": "epsilon"}], "count": 12345}),
        },
        Part::ToolResult { id: "callid".into(), output: "zeta".into(), is_error: false },
        Part::Attachment {
            media_type: "image/png".into(),
            name: Some("eta.png".into()),
            hash: None,
            bytes: 0,
        },
        Part::Opaque { source: "foreign".into(), raw: json!({"field": "theta"}) },
    ];
    append_as(fixture, main, Role::Tool, parts);
    for word in ["alpha", "beta", "gammatool", "delta", "epsilon", "zeta", "eta", "theta"] {
        assert_eq!(count(fixture, word), 1, "{word}");
    }
    for word in ["secretsignature", "callid", "keyname", "12345", "field", "foreign", "text"] {
        assert_eq!(count(fixture, word), 0, "{word}");
    }
}

pub fn every_appended_message_is_found_at_once(fixture: &Fixture<'_>) {
    let (one, other) = (fixture.main(), fixture.main());
    let (mut here, mut there) = (one, other);
    for number in 0..60 {
        here = fixture.append_text(here, &format!("unique{number}a shared"));
        assert_eq!(count(fixture, &format!("unique{number}a")), 1);
        let parts = vec![Part::text(format!("unique{number}b shared"))];
        there = append_as(fixture, there, Role::Assistant, parts);
    }
    for number in 0..60 {
        assert_eq!(count(fixture, &format!("unique{number}b")), 1);
    }
    let found = search(fixture, &SearchQuery { limit: 7, ..query("shared") });
    assert_eq!((found.hits.len(), found.total), (7, 120));
    let found = search(fixture, &SearchQuery { limit: 0, ..query("shared") });
    assert_eq!((found.hits.len(), found.total), (0, 120));
    fixture.vacuum();
    assert_eq!(count(fixture, "shared"), 120);
}

pub fn a_reply_is_found_after_it_is_finished_or_recovered(fixture: &Fixture<'_>) {
    let writer = fixture.other_process();
    let delta = |text: &str| [ReplyDelta::text(text)];
    let finished = writer.begin_reply(fixture.main(), &fixture.drafts.assistant("")).unwrap();
    writer.extend_reply(finished, &delta("draftword")).unwrap();
    writer.finish_reply(finished, &fixture.drafts.assistant("finalword")).unwrap();
    assert_eq!((count(fixture, "finalword"), count(fixture, "draftword")), (1, 0));

    let main = fixture.main();
    let abandoned = writer.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    writer.extend_reply(abandoned, &delta("half")).unwrap();
    writer.extend_reply(abandoned, &delta("way there")).unwrap();
    drop(writer);
    fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap();
    assert_eq!((count(fixture, "halfway"), count(fixture, "there"), count(fixture, "half")), (1, 1, 0));
    fixture.append_text(at(main.branch, 1), "later");
    assert_eq!(count(fixture, "later"), 1);
}

pub fn messages_after_an_interrupted_reply_are_found(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let writer = fixture.other_process();
    let reply = writer.begin_reply(main, &fixture.drafts.assistant("")).unwrap();
    writer.extend_reply(reply, &[ReplyDelta::text("partword")]).unwrap();
    drop(writer);
    fixture.append_text(at(main.branch, 1), "nextword");
    assert_eq!(count(fixture, "nextword"), 1);
    fixture.store.recover_abandoned_replies(None, fixture.drafts.now()).unwrap();
    assert_eq!((count(fixture, "nextword"), count(fixture, "partword")), (1, 1));
}

pub fn a_message_shared_by_branches_is_one_hit(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "needle");
    fixture.fork(main, "one");
    fixture.fork(main, "two");
    assert_eq!(count(fixture, "needle"), 1);
}

pub fn undone_branches_are_searched_and_the_trash_is_not(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "needle");
    let session = fixture.session_of(main.branch);
    let (side, fork) = fixture.fork(main, "side");
    fixture.append_text(side, "needle aside");
    fixture.undo(fork.id).unwrap();
    assert_eq!(count(fixture, "needle"), 2);
    fixture.store.trash_session(session, fixture.drafts.now()).unwrap();
    assert_eq!(count(fixture, "needle"), 0);
    let only = SearchQuery { session: Some(session), ..query("needle") };
    assert_eq!(search(fixture, &only).total, 0);
    fixture.append_text(main, "needle while in the trash");
    fixture.store.restore_session(session, fixture.drafts.now()).unwrap();
    assert_eq!(count(fixture, "needle"), 3);
    fixture.store.purge_session(session).unwrap();
    assert_eq!(count(fixture, "needle"), 0);
}

pub fn hits_can_be_filtered_by_session_role_and_time(fixture: &Fixture<'_>) {
    let mut sessions = Vec::new();
    let mut times: Vec<Timestamp> = Vec::new();
    for n in 0..3 {
        let session = fixture.store.create_session(&fixture.drafts.session(&format!("{n}"))).unwrap();
        let mut main = at(session.current_branch, 0);
        for role in Role::ALL {
            main = append_as(fixture, main, role, vec![Part::text("needle")]);
        }
        times
            .extend(fixture.history(session.current_branch).iter().map(|message| message.content.created_at));
        sessions.push(session.id);
    }
    let total = |narrow: SearchQuery| {
        let found = search(fixture, &narrow);
        assert_eq!(found.hits.len() as u64, found.total);
        found.total
    };
    let all = query("needle");
    assert_eq!(total(all.clone()), 12);
    assert_eq!(total(SearchQuery { session: Some(sessions[1]), ..all.clone() }), 4);
    for role in Role::ALL {
        let found = search(fixture, &SearchQuery { role: Some(role), ..all.clone() });
        assert_eq!(found.total, 3);
        assert!(found.hits.iter().all(|hit| hit.role == role));
    }
    for (index, time) in times.iter().enumerate() {
        let since = SearchQuery { since: Some(*time), ..all.clone() };
        assert_eq!(total(since), 12 - index as u64);
    }
    let narrow = SearchQuery { role: Some(Role::User), session: Some(sessions[2]), ..all };
    assert_eq!(total(SearchQuery { since: Some(times[4]), ..narrow.clone() }), 1);
    let late = Timestamp::from_micros(times[11].as_micros() + 1);
    assert_eq!(total(SearchQuery { since: late, ..narrow }), 0);
}

pub fn hits_can_be_filtered_by_project_tool_and_trash(fixture: &Fixture<'_>) {
    let make = |project: Option<&str>, tool: Option<&str>| {
        let project = project.map(|path| Project { directory: path.into(), repository: None });
        let origin = tool.map(|tool| Origin { format: tool.into(), id: tool.into(), path: None });
        let draft = SessionDraft { project, origin, ..fixture.drafts.session("s") };
        let session = fixture.store.create_session(&draft).unwrap();
        (session.id, fixture.append_text(at(session.current_branch, 0), "needle"))
    };
    let (gateway, main) = make(Some("/src/Gateway"), None);
    let (codex, _) = make(Some("/src/gateway"), Some("codex"));
    let (docs, _) = make(Some("/src/docs"), Some("codex"));
    let (nowhere, _) = make(None, Some("aider"));
    // A branch that was created after those of other sessions.
    let (side, _) = fixture.fork(main, "side");
    fixture.append_text(side, "needle aside");

    let found = |sessions: SessionFilter| {
        let found = search(fixture, &SearchQuery { sessions, ..query("needle") });
        assert_eq!(found.hits.len() as u64, found.total);
        let mut ids: Vec<SessionId> = found.hits.iter().map(|hit| hit.session).collect();
        ids.sort_unstable();
        ids
    };
    let sorted = |ids: &[SessionId]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    let all = SessionFilter::default;
    assert_eq!(found(all()), sorted(&[gateway, gateway, codex, docs, nowhere]));
    let within = |text: &str| SessionFilter { project_contains: Some(text.into()), ..all() };
    assert_eq!(found(within("GATE")), sorted(&[gateway, gateway, codex]));
    assert_eq!(found(within("elsewhere")), []);
    let of = |key: &str| SessionFilter { project: Some(key.into()), ..all() };
    assert_eq!(found(of("/src/Gateway")), [gateway, gateway]);
    let by = |tool: &str| SessionFilter { tool: Some(tool.into()), ..all() };
    assert_eq!(found(by("codex")), sorted(&[codex, docs]));
    assert_eq!(found(by(SessionFilter::HFS)), [gateway, gateway]);
    assert_eq!(found(SessionFilter { tool: Some("codex".into()), ..within("docs") }), [docs]);

    let of_codex = SearchQuery { sessions: by("codex"), ..query("needle") };
    let total = |query: SearchQuery| search(fixture, &query).total;
    assert_eq!(total(SearchQuery { session: Some(codex), ..of_codex.clone() }), 1);
    assert_eq!(total(SearchQuery { session: Some(gateway), ..of_codex.clone() }), 0);
    assert_eq!(total(SearchQuery { role: Some(Role::Assistant), ..of_codex }), 0);

    fixture.store.trash_session(codex, fixture.drafts.now()).unwrap();
    assert_eq!(found(by("codex")), [docs]);
    assert_eq!(found(SessionFilter { trashed: true, ..all() }), [codex]);
}

pub fn better_matches_come_first(fixture: &Fixture<'_>) {
    let main = fixture.main();
    let filler = "lorem ipsum dolor sit amet consectetur ".repeat(30);
    let main = fixture.append_text(main, &format!("needle {filler}"));
    let main = fixture.append_text(main, "needle needle thread");
    fixture.append_numbered(main, "filler", 12);
    let found = search(fixture, &query("needle"));
    assert_eq!(found.hits.iter().map(|hit| hit.seq).collect::<Vec<_>>(), [2, 1]);
}

pub fn updating_the_index_can_be_stopped_and_resumed(fixture: &Fixture<'_>) {
    let main = fixture.main();
    fixture.append_numbered(main, "needle", 700);
    // The callback gets the number of messages that are not indexed yet, and returns whether to continue.
    let mut reported = Vec::new();
    let mut stop = |remaining: u64| {
        reported.push(remaining);
        false
    };
    fixture.store.update_index(&mut stop).unwrap();
    assert_eq!(reported.len(), 1, "the update stops when the callback returns false");

    let mut reported = Vec::new();
    let mut resume = |remaining: u64| {
        reported.push(remaining);
        true
    };
    fixture.store.update_index(&mut resume).unwrap();
    assert!(reported.is_sorted_by(|a, b| a >= b), "{reported:?}");
    assert!(reported[0] <= 700, "{reported:?}");
    assert_eq!(reported.last(), Some(&0));
    assert_eq!(search(fixture, &query("needle")).total, 700);
}

/// Appends each text as a message. Returns a function that searches these messages and returns the seqs of the hits.
fn search_in<'a>(fixture: &'a Fixture<'_>, texts: &[&str]) -> impl Fn(&str) -> Vec<u64> + 'a {
    let mut main = fixture.main();
    for text in texts {
        main = fixture.append_text(main, text);
    }
    |text| find(fixture, &SearchQuery { text: text.into(), limit: 100, ..SearchQuery::default() })
}

fn find(fixture: &Fixture<'_>, query: &SearchQuery) -> Vec<u64> {
    let found = fixture.store.search(query).unwrap();
    let mut seqs: Vec<u64> = found.hits.iter().map(|hit| hit.seq).collect();
    seqs.sort_unstable();
    assert_eq!(found.total, seqs.len() as u64);
    seqs
}

const NONE: [u64; 0] = [];

pub fn all_words_must_occur_in_any_order(fixture: &Fixture<'_>) {
    let find = search_in(fixture, &["red green", "green", "blue and green and red", "redder greens"]);
    assert_eq!(find("red green"), [1, 3]);
    assert_eq!(find("GREEN red"), [1, 3]);
    assert_eq!(find("  red\n\tblue  "), [3]);
    assert_eq!(find("red purple"), NONE);
}

pub fn a_phrase_matches_adjacent_words(fixture: &Fixture<'_>) {
    let find = search_in(
        fixture,
        &["the red fox", "the fox is red", "red, FOX!", "red\nfox", "infrared fox", "red green fox"],
    );
    assert_eq!(find("\"red fox\""), [1, 3, 4]);
    assert_eq!(find("\"red fox"), [1, 3, 4]);
    assert_eq!(find("\"the red\" fox"), [1]);
    assert_eq!(find("\"fox red\""), NONE);
    assert_eq!(find("\"\" fox \"\""), [1, 2, 3, 4, 5, 6]);
}

pub fn words_joined_by_punctuation_match_adjacent_words(fixture: &Fixture<'_>) {
    let find = search_in(
        fixture,
        &["see src/main.rs:7", "main in src of rs", "well-known", "well known", "don't", "a_b"],
    );
    assert_eq!(find("src/main.rs"), [1]);
    assert_eq!(find("main.rs"), [1]);
    assert_eq!(find("well-known"), [3, 4]);
    assert_eq!(find("don't"), [5]);
    assert_eq!(find("a_b"), [6]);
}

pub fn a_star_matches_the_rest_of_a_word(fixture: &Fixture<'_>) {
    let find = search_in(fixture, &["checkpoint", "checkpoints", "check point", "uncheck", "Überprüfung"]);
    assert_eq!(find("checkp*"), [1, 2]);
    assert_eq!(find("check*"), [1, 2, 3]);
    assert_eq!(find("check"), [3]);
    assert_eq!(find("CHECK** point"), [3]);
    assert_eq!(find("check-po*"), [3]);
    assert_eq!(find("uber*"), [5]);
    assert_eq!(find("*check"), [3]);
    assert_eq!(find("\"check*\""), [3]);
}

pub fn case_and_diacritics_are_ignored(fixture: &Fixture<'_>) {
    let find = search_in(
        fixture,
        &["Été à la plage", "e\u{301}te\u{301}", "ETE", "Việt Nam", "naïve", "Straße", "ОТЧЁТ"],
    );
    for text in ["été", "ete", "ÉTÉ", "e\u{301}te\u{301}", "EtE"] {
        assert_eq!(find(text), [1, 2, 3], "{text:?}");
    }
    assert_eq!(find("viet"), [4]);
    assert_eq!(find("NAIVE"), [5]);
    assert_eq!(find("straße"), [6]);
    assert_eq!(find("отчёт"), [7]);
}

pub fn words_of_other_scripts_and_numbers_are_found(fixture: &Fixture<'_>) {
    let find =
        search_in(fixture, &["日本語 テスト", "한국어 문장", "version 1.2.3 of v2", "Ελληνικά", "🦀 crab"]);
    assert_eq!(find("日本語"), [1]);
    assert_eq!(find("日*"), [1]);
    assert_eq!(find("한국어"), [2]);
    assert_eq!(find("1.2.3"), [3]);
    assert_eq!(find("v2"), [3]);
    assert_eq!(find("ΕΛΛΗΝΙΚΆ"), [4]);
    assert_eq!(find("🦀 crab"), [5]);
}

pub fn other_forms_of_a_word_are_found_unless_it_is_quoted(fixture: &Fixture<'_>) {
    let find = search_in(fixture, &["connected at last", "Many CONNECTIONS", "to connect", "the connector"]);
    assert_eq!(find("connecting"), [1, 2, 3]);
    assert_eq!(find("connect"), [1, 2, 3]);
    assert_eq!(find("Connections last"), [1]);
    assert_eq!(find("\"connect\""), [3]);
    assert_eq!(find("\"many connections\""), [2]);
    assert_eq!(find("\"many connection\""), NONE);
    assert_eq!(find("connecti*"), [2]);
    let found = fixture.store.search(&query("connecting last")).unwrap();
    let marked = |word: &str| format!("{}{word}{}", SearchHit::MARK_START, SearchHit::MARK_END);
    assert_eq!(found.hits[0].snippet, format!("{} at {}", marked("connected"), marked("last")));
}

pub fn words_inside_texts_without_spaces_are_found(fixture: &Fixture<'_>) {
    let find = search_in(
        fixture,
        &[
            "我们决定使用新的数据库保存会话",
            "これは日本語で書かれたテストです",
            "대화를 데이터베이스에 저장합니다",
            "เราบันทึกการสนทนาไว้ในฐานข้อมูล",
            "新iPhone手机壳",
        ],
    );
    for (text, seq) in [
        ("数据库", 1),
        ("库", 1),
        ("\"使用新的\"", 1),
        ("数据库 会话", 1),
        ("日本語", 2),
        ("テスト", 2),
        ("データ*", 0),
        ("데이터", 3),
        ("데이터베이스", 3),
        ("저장", 3),
        ("สนทนา", 4),
        ("ฐานข้อมูล", 4),
        ("iphone", 5),
        ("iPhone手机", 5),
        ("\"手机壳\"", 5),
        ("数库", 0),
        ("本日", 0),
    ] {
        let expected: Vec<u64> = (seq > 0).then_some(seq).into_iter().collect();
        assert_eq!(find(text), expected, "{text}");
    }
    let found = fixture.store.search(&query("数据库")).unwrap();
    let marked = format!("{}数据库{}", SearchHit::MARK_START, SearchHit::MARK_END);
    assert!(found.hits[0].snippet.contains(&marked), "{:?}", found.hits[0].snippet);
}

pub fn parts_of_identifiers_and_versions_are_found(fixture: &Fixture<'_>) {
    let find = search_in(
        fixture,
        &[
            "raises HTTPServerError in getUserName",
            "released v1.2.3 today",
            "http_server_error",
            "server and error",
            "a sha256sum",
            "HTTPServer ErrorPage",
        ],
    );
    assert_eq!(find("ServerError"), [1]);
    assert_eq!(find("servers"), [1, 3, 4, 6]);
    assert_eq!(find("UserNa*"), [1]);
    assert_eq!(find("httpservererror"), [1]);
    // The same identifier in another style.
    assert_eq!(find("server_error"), [1, 3]);
    assert_eq!(find("1.2.3"), [2]);
    assert_eq!(find("v1.2"), [2]);
    assert_eq!(find("2.1"), NONE);
    assert_eq!(find("256"), [5]);
    assert_eq!(find("\"ServerError\""), NONE);
    assert_eq!(find("\"HTTPServerError in\""), [1]);
    let found = fixture.store.search(&query("ServerError")).unwrap();
    let marked = format!("{}HTTPServerError{}", SearchHit::MARK_START, SearchHit::MARK_END);
    assert!(found.hits[0].snippet.contains(&marked), "{:?}", found.hits[0].snippet);
}

pub fn the_beginning_of_a_hash_is_found(fixture: &Fixture<'_>) {
    let hash = "3fa98ad2b1c07f5e0d9a6b4c8e1f2a3b4c5d6e7f";
    let find = search_in(fixture, &[&format!("commit {hash}"), "3fa98ad is short", "3fa98"]);
    assert_eq!(find(hash), [1]);
    assert_eq!(find("3fa98ad2b1"), [1]);
    assert_eq!(find("3FA98AD"), [1, 2]);
    assert_eq!(find("3fa98"), [3]);
    assert_eq!(find("\"3fa98ad\""), [2]);
}

pub fn changed_and_deleted_messages_leave_no_forms_and_parts(fixture: &Fixture<'_>) {
    let main = fixture.append_text(fixture.main(), "connecting to HTTPServerError 数据库");
    let session = fixture.session_of(main.branch);
    for text in ["connect", "ServerError", "数据"] {
        assert_eq!(count(fixture, text), 1, "{text}");
    }
    fixture.store.purge_session(session).unwrap();
    for text in ["connect", "connecting", "ServerError", "httpservererror", "数据"] {
        assert_eq!(count(fixture, text), 0, "{text}");
    }
    assert!(fixture.store.verify().unwrap().is_ok());
}

fn candidates(fixture: &Fixture<'_>, query: &CandidateQuery) -> Candidates {
    let mut found = fixture.store.find_candidates(query).unwrap();
    found.found.sort_by_key(|session| session.session);
    found
}

pub fn candidates_have_any_of_the_terms(fixture: &Fixture<'_>) {
    let one = fixture.append_text(fixture.main(), "the red foxes");
    let one = fixture.append_text(one, "nothing of interest");
    fixture.append_text(one, "a fox");
    let two = fixture.append_text(fixture.main(), "red and green");
    let terms = SearchQuery::new("fox green purple").terms();
    let found = candidates(fixture, &CandidateQuery { terms: terms.clone(), ..CandidateQuery::default() });
    let frequencies: Vec<(u64, u64)> =
        found.frequencies.iter().map(|frequency| (frequency.messages, frequency.sessions)).collect();
    assert_eq!(frequencies, [(2, 1), (1, 1), (0, 0)]);
    assert_eq!((found.messages, found.sessions, found.words, found.unreadable), (4, 2, 11, 0));
    let messages: Vec<Vec<(u64, String)>> = found
        .found
        .iter()
        .map(|session| {
            session.messages.iter().map(|found| (found.message.seq, found.message.content.text())).collect()
        })
        .collect();
    let expected = [
        vec![(1, "the red foxes".to_owned()), (3, "a fox".to_owned())],
        vec![(1, "red and green".to_owned())],
    ];
    assert_eq!(messages, expected);
    assert_eq!(found.found[0].words, 8);
    let except = Some(found.found[1].messages[0].message.content.id);
    let found = candidates(fixture, &CandidateQuery { terms, except, ..CandidateQuery::default() });
    assert_eq!(found.found.len(), 1);
    assert_eq!(found.found[0].session, fixture.session_of(one.branch));
    assert_ne!(found.found[0].session, fixture.session_of(two.branch));
}

pub fn candidates_are_selected_by_sessions_and_not_from_the_trash(fixture: &Fixture<'_>) {
    let one = fixture.append_text(fixture.main(), "needle");
    let two = fixture.append_text(fixture.main(), "needle");
    let terms = SearchQuery::new("needle").terms();
    let sessions_of = |filter: &SessionFilter| -> Vec<_> {
        let query =
            CandidateQuery { terms: terms.clone(), sessions: filter.clone(), ..CandidateQuery::default() };
        candidates(fixture, &query).found.into_iter().map(|session| session.session).collect()
    };
    let all = SessionFilter::default();
    assert_eq!(sessions_of(&all), [fixture.session_of(one.branch), fixture.session_of(two.branch)]);
    let other = SessionFilter { project: Some("elsewhere".into()), ..SessionFilter::default() };
    assert_eq!(sessions_of(&other), []);
    fixture.store.trash_session(fixture.session_of(one.branch), fixture.drafts.now()).unwrap();
    assert_eq!(sessions_of(&all), [fixture.session_of(two.branch)]);
    let trashed = SessionFilter { trashed: true, ..SessionFilter::default() };
    assert_eq!(sessions_of(&trashed), [fixture.session_of(one.branch)]);
}

pub fn a_question_may_have_many_terms(fixture: &Fixture<'_>) {
    fixture.append_text(fixture.main(), "the first needle");
    fixture.append_text(fixture.main(), "the last thread");
    let words: Vec<String> = (0..60).map(|number| format!("absent{number}")).collect();
    let terms = SearchQuery::new(format!("needle {} thread", words.join(" "))).terms();
    let found = candidates(fixture, &CandidateQuery { terms, ..CandidateQuery::default() });
    assert_eq!(found.found.len(), 2);
    assert_eq!((found.frequencies[0].messages, found.frequencies[61].messages), (1, 1));
}

pub fn any_text_is_a_valid_query(fixture: &Fixture<'_>) {
    let find = search_in(fixture, &["a plain text about near and not or and", "null byte"]);
    for text in [
        "",
        " ",
        "\"",
        "\"\"",
        "\"\"\"",
        "*",
        "**",
        "^",
        "-",
        "+",
        ":",
        "(",
        ")",
        "()",
        "{",
        "\\",
        "'",
        "''",
        ";",
        "--",
        "\u{0}",
        "\u{0}\u{0}",
        "🦀",
        "🦀*",
        "\u{301}",
        "\u{e000}",
        "\u{feff}",
        "%",
        "_",
        "/*",
        "$1",
        "?1",
        ":x",
        "@x",
    ] {
        assert_eq!(find(text), NONE, "{text:?}");
    }
    for text in [
        "NEAR(",
        "NEAR(a b, 2)",
        "text:a",
        "a AND",
        "AND a",
        "a OR",
        "OR",
        "NOT",
        "a NOT",
        "NOT a",
        "-a",
        "+a",
        "^a",
        "a^2",
        "(a",
        "a)",
        "{a b}: c",
        "a:b:c",
        "\"a\" \"b",
        "a\"b\"c\"",
        "'a'; DROP TABLE message; --",
        "a\\",
        "\\\"a",
        "rowid:1",
        "a\u{0}b",
        "\u{0}a",
        "a*b*c",
        "a* *b",
        "\"a\"*",
        "\"a b\"*",
        "a +b",
        "* a",
        "near/3",
    ] {
        find(text);
    }
    assert_eq!(find("near and not"), [1]);
    assert_eq!(find("plain AND text"), [1]);
    assert_eq!(find("text:"), [1]);
    assert_eq!(find("-plain"), [1]);
    assert_eq!(find("null\u{0}byte"), [2]);
    assert_eq!(find("plain NOT text"), [1]);
    let long = "word ".repeat(2000);
    assert_eq!(find(&long), NONE);
    assert_eq!(find(&"x".repeat(100_000)), NONE);
}
