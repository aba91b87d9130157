//! What can be typed into a search, and what it finds.

use hfs_core::SearchQuery;

use super::Scene;

/// Says each text in a message of its own, and gives the search that lists the numbers of those it finds.
fn corpus<'a>(scene: &'a Scene<'_>, texts: &[&str]) -> impl Fn(&str) -> Vec<u64> + 'a {
    let mut main = scene.main();
    for text in texts {
        main = scene.say(main, text);
    }
    |text| find(scene, &SearchQuery { text: text.into(), limit: 100, ..SearchQuery::default() })
}

fn find(scene: &Scene<'_>, query: &SearchQuery) -> Vec<u64> {
    let found = scene.store.search(query).unwrap();
    let mut seqs: Vec<u64> = found.hits.iter().map(|hit| hit.seq).collect();
    seqs.sort_unstable();
    assert_eq!(found.total, seqs.len() as u64);
    seqs
}

const NONE: [u64; 0] = [];

pub fn all_words_must_occur_in_any_order(scene: &Scene<'_>) {
    let find = corpus(scene, &["red green", "green", "blue and green and red", "redder greens"]);
    assert_eq!(find("red green"), [1, 3]);
    assert_eq!(find("GREEN red"), [1, 3]);
    assert_eq!(find("  red\n\tblue  "), [3]);
    assert_eq!(find("red purple"), NONE);
}

pub fn any_word_is_enough_when_that_is_asked_for(scene: &Scene<'_>) {
    let _ = corpus(scene, &["red green", "green", "blue", "redder"]);
    let any = |text: &str| {
        let query = SearchQuery { text: text.into(), any_word: true, limit: 100, ..SearchQuery::default() };
        find(scene, &query)
    };
    assert_eq!(any("red green"), [1, 2]);
    assert_eq!(any("red purple blue"), [1, 3]);
    assert_eq!(any("red* \"blue green\""), [1, 4]);
    assert_eq!(any("* \""), NONE);
    assert_eq!(any("purple OR"), NONE);
}

pub fn a_phrase_is_found_where_its_words_follow_each_other(scene: &Scene<'_>) {
    let find = corpus(
        scene,
        &["the red fox", "the fox is red", "red, FOX!", "red\nfox", "infrared fox", "red green fox"],
    );
    assert_eq!(find("\"red fox\""), [1, 3, 4]);
    assert_eq!(find("\"red fox"), [1, 3, 4]);
    assert_eq!(find("\"the red\" fox"), [1]);
    assert_eq!(find("\"fox red\""), NONE);
    assert_eq!(find("\"\" fox \"\""), [1, 2, 3, 4, 5, 6]);
}

pub fn joined_words_are_found_where_they_follow_each_other(scene: &Scene<'_>) {
    let find = corpus(
        scene,
        &["see src/main.rs:7", "main in src of rs", "well-known", "well known", "don't", "a_b"],
    );
    assert_eq!(find("src/main.rs"), [1]);
    assert_eq!(find("main.rs"), [1]);
    assert_eq!(find("well-known"), [3, 4]);
    assert_eq!(find("don't"), [5]);
    assert_eq!(find("a_b"), [6]);
}

pub fn a_star_stands_for_the_rest_of_a_word(scene: &Scene<'_>) {
    let find = corpus(scene, &["checkpoint", "checkpoints", "check point", "uncheck", "Überprüfung"]);
    assert_eq!(find("checkp*"), [1, 2]);
    assert_eq!(find("check*"), [1, 2, 3]);
    assert_eq!(find("check"), [3]);
    assert_eq!(find("CHECK** point"), [3]);
    assert_eq!(find("check-po*"), [3]);
    assert_eq!(find("uber*"), [5]);
    assert_eq!(find("*check"), [3]);
    assert_eq!(find("\"check*\""), [3]);
}

pub fn case_and_diacritics_do_not_matter(scene: &Scene<'_>) {
    let find = corpus(
        scene,
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

pub fn other_scripts_and_numbers_are_words_too(scene: &Scene<'_>) {
    let find = corpus(scene, &["日本語 テスト", "한국어 문장", "version 1.2.3 of v2", "Ελληνικά", "🦀 crab"]);
    assert_eq!(find("日本語"), [1]);
    assert_eq!(find("日*"), [1]);
    assert_eq!(find("한국어"), [2]);
    assert_eq!(find("1.2.3"), [3]);
    assert_eq!(find("v2"), [3]);
    assert_eq!(find("ΕΛΛΗΝΙΚΆ"), [4]);
    assert_eq!(find("🦀 crab"), [5]);
}

pub fn no_text_is_a_syntax_error(scene: &Scene<'_>) {
    let find = corpus(scene, &["a plain text about near and not or and", "null byte"]);
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
