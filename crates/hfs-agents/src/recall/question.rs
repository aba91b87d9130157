//! What a question asks for.

use hfs_core::Role;

/// English words that carry no meaning of their own, question words and talk about the conversation included.
const STOP_WORDS: &str = "a about above after again against ago all also am an and any anyone anything are as at be because \
    been before being below between both but by can cannot conversation conversations could d did \
    discuss discussed do does doing don done down during each ever every few find for from further get \
    give got had has have having he hello help her here hers hey hi him his how i if in into is it its \
    just know last let like ll m many may me mention mentioned might more most much must my no nor not \
    now of off on once one only or other our ours out over own please previously re recall remember \
    remind s said same say session sessions shall she should show so some something such t talk talked \
    tell than thank thanks that the their them then there these they thing things this those time to too \
    under until up us ve very want was we were what when where which while who whom why will with would \
    yes yet you your yours";

/// More terms than this make a search no better.
const MOST_TERMS: usize = 16;

/// A word to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// As it was written, in lower case.
    pub word: String,
    /// What every form of it begins with.
    pub stem: String,
}

impl Term {
    fn new(word: &str) -> Self {
        Self { word: word.to_owned(), stem: stem(word).to_owned() }
    }

    /// Whether this word (in lower case) is a form of the term: it begins with the stem and is not much longer.
    pub fn fits(&self, word: &str) -> bool {
        word.strip_prefix(self.stem.as_str()).is_some_and(|rest| rest.len() <= 4)
    }
}

/// A question taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Question {
    /// Distinct words that carry meaning, in order.
    pub terms: Vec<Term>,
    /// What stood between double quotation marks, in lower case.
    pub phrases: Vec<String>,
    /// Whose words are asked for: "what did I say", "what did you answer".
    pub speaker: Option<Role>,
}

impl Question {
    /// Takes a question apart.
    pub fn read(text: &str) -> Self {
        let lower = text.to_lowercase();
        let words: Vec<&str> = words(&lower).collect();
        let mut question = Self { speaker: speaker(&words), ..Self::default() };
        for piece in lower.split('"').skip(1).step_by(2).map(str::trim).filter(|piece| !piece.is_empty()) {
            question.phrases.push(piece.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let meaningful: Vec<&str> = words.iter().copied().filter(|word| !is_stop_word(word)).collect();
        // A question of nothing but stop words is still better searched by them than not at all.
        let chosen = if meaningful.is_empty() { words } else { meaningful };
        for word in chosen {
            let term = Term::new(word);
            if question.terms.len() < MOST_TERMS
                && !question.terms.iter().any(|known| known.stem == term.stem)
            {
                question.terms.push(term);
            }
        }
        question
    }

    /// The text of a search that finds any form of any term.
    pub fn search_text(&self) -> String {
        let mut text = String::new();
        for term in &self.terms {
            text.push_str(&term.stem);
            // A short beginning fits too much.
            text.push_str(if term.stem.chars().count() >= 4 { "* " } else { " " });
        }
        for phrase in &self.phrases {
            text.push('"');
            text.push_str(phrase);
            text.push_str("\" ");
        }
        text.trim_end().to_owned()
    }
}

/// The words of a text, as full-text search cuts them.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.split(' ').any(|stop| stop == word)
}

fn speaker(words: &[&str]) -> Option<Role> {
    words.windows(3).find_map(|three| match three {
        ["did" | "have" | "had", "i", "say" | "said" | "ask" | "asked" | "write" | "tell" | "told"] => {
            Some(Role::User)
        }
        [
            "did" | "have" | "had",
            "you",
            "say" | "said" | "answer" | "suggest" | "recommend" | "tell" | "told",
        ] => Some(Role::Assistant),
        _ => None,
    })
}

/// Cuts the commonest English endings off, carefully: what is left has at least four letters.
fn stem(word: &str) -> &str {
    if !word.is_ascii() {
        return word;
    }
    for ending in [
        "ations", "ation", "ating", "ated", "ates", "ate", "ings", "ing", "ies", "edly", "ed", "es", "s",
        "ly", "e",
    ] {
        if let Some(rest) = word.strip_suffix(ending)
            && rest.len() >= 4
            && !(ending == "s" && rest.ends_with('s'))
        {
            return rest;
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        Question::read(text).terms.into_iter().map(|term| term.word).collect()
    }

    #[test]
    fn a_question_keeps_what_carries_meaning() {
        assert_eq!(terms("How did we fix the login bug in auth.rs?"), ["fix", "login", "bug", "auth", "rs"]);
        assert_eq!(terms("What is this?"), ["what", "is", "this"]);
        assert_eq!(terms(""), [] as [&str; 0]);
    }

    #[test]
    fn forms_of_a_word_are_one_term_and_find_each_other() {
        let question = Question::read("migrations migration migrating");
        assert_eq!(question.terms.len(), 1);
        assert!(question.terms[0].fits("migrated"));
        assert!(!Question::read("class").terms[0].fits("clarity"));
    }

    #[test]
    fn phrases_and_the_speaker_are_seen() {
        let question = Question::read("What did I say about \"Group  commit\"?");
        assert_eq!(question.phrases, ["group commit"]);
        assert_eq!(question.speaker, Some(Role::User));
        assert_eq!(question.search_text(), "group* commit* \"group commit\"");
    }
}
