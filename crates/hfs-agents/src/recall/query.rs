//! Parses a question in natural language into terms and phrases, which decide what is quoted and in which order.

use hfs_core::Role;

/// English stop words, including question words and words about the conversation itself.
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

/// Further terms are dropped; they do not improve the ranking.
const MAX_TERMS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// The word in lower case.
    pub word: String,
    /// Common prefix of its inflected forms.
    pub stem: String,
}

impl Term {
    fn new(word: &str) -> Self {
        Self { word: word.to_owned(), stem: stem(word).to_owned() }
    }

    /// Whether a lower-case word is a form of the term: it starts with the stem and is at most 4 bytes longer.
    pub fn matches(&self, word: &str) -> bool {
        word.strip_prefix(self.stem.as_str()).is_some_and(|rest| rest.len() <= 4)
    }
}

/// A question as terms and phrases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Query {
    /// The question.
    pub text: String,
    /// Distinct words without stop words, in order.
    pub terms: Vec<Term>,
    /// Texts in double quotation marks, in lower case.
    pub phrases: Vec<String>,
    /// The role whose messages the question asks for ("what did I say", "what did you answer").
    pub role: Option<Role>,
}

impl Query {
    pub fn parse(text: &str) -> Self {
        let lower = text.to_lowercase();
        let words: Vec<&str> = words(&lower).collect();
        let mut query = Self { text: text.to_owned(), role: asked_role(&words), ..Self::default() };
        for quoted in lower.split('"').skip(1).step_by(2).map(str::trim).filter(|text| !text.is_empty()) {
            query.phrases.push(quoted.split_whitespace().collect::<Vec<_>>().join(" "));
        }
        let meaningful: Vec<&str> = words.iter().copied().filter(|word| !is_stop_word(word)).collect();
        // If the question has only stop words, search for those rather than for nothing.
        let chosen = if meaningful.is_empty() { words } else { meaningful };
        for word in chosen {
            let term = Term::new(word);
            if query.terms.len() < MAX_TERMS && !query.terms.iter().any(|known| known.stem == term.stem) {
                query.terms.push(term);
            }
        }
        query
    }
}

/// The words of a text, separated like the tokens of the full-text index.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty())
}

fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.split(' ').any(|stop| stop == word)
}

fn asked_role(words: &[&str]) -> Option<Role> {
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

/// Removes the most common English endings. The stem keeps at least four letters.
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
        Query::parse(text).terms.into_iter().map(|term| term.word).collect()
    }

    #[test]
    fn stop_words_are_dropped_unless_there_are_no_others() {
        assert_eq!(terms("How did we fix the login bug in auth.rs?"), ["fix", "login", "bug", "auth", "rs"]);
        assert_eq!(terms("What is this?"), ["what", "is", "this"]);
        assert_eq!(terms(""), [] as [&str; 0]);
    }

    #[test]
    fn forms_of_a_word_are_one_term_and_match_each_other() {
        let query = Query::parse("migrations migration migrating");
        assert_eq!(query.terms.len(), 1);
        assert!(query.terms[0].matches("migrated"));
        assert!(!Query::parse("class").terms[0].matches("clarity"));
    }

    #[test]
    fn phrases_and_the_asked_role_are_recognized() {
        let query = Query::parse("What did I say about \"Group  commit\"?");
        assert_eq!(query.phrases, ["group commit"]);
        assert_eq!(query.role, Some(Role::User));
    }
}
