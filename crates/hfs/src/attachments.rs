//! Files that go with a message. Text becomes part of the message, so every agent, search and export has it; pictures are
//! attached.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hfs_agents::MAX_IMAGE_BYTES;
use hfs_core::{Attachment, ContentHash, plain_reason};
use hfs_engine::{OutgoingAttachment, OutgoingMessage, SendError};
use hfs_tui::FoundPaths;

use crate::environment::Environment;

/// Size limit of a text file: about 60,000 tokens.
const MAX_TEXT_BYTES: u64 = 256 * 1024;
/// Maximum number of files in a message.
const MAX_FILES: usize = 20;
/// Maximum number of completions of a path.
const MAX_COMPLETIONS: usize = 200;

/// A picture's type, and the bytes with which it begins.
const PICTURES: [(&str, &[u8]); 4] = [
    ("image/png", b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", b"\xff\xd8\xff"),
    ("image/gif", b"GIF8"),
    // A RIFF file; `picture_type` also checks its form.
    ("image/webp", b"RIFF"),
];

/// Attaches files to a message. `names` are paths as the user wrote them.
///
/// # Errors
/// `NotAttached` for the first file that cannot be attached.
pub fn attach(text: &str, names: &[String], environment: &Environment) -> Result<OutgoingMessage, SendError> {
    let mut message = OutgoingMessage::from(text);
    let mut files = Vec::new();
    let not_attached = |name: &str, reason| SendError::NotAttached { name: name.to_owned(), reason };
    if let Some(name) = names.get(MAX_FILES) {
        return Err(not_attached(name, format!("a message carries at most {MAX_FILES} files")));
    }
    for name in names {
        let path = resolve(name, environment);
        let file_name = file_name(name);
        match read(&path).map_err(|reason| not_attached(name, reason))? {
            Content::Text(content) => {
                files.push(file_name);
                let separator = if message.text.is_empty() { "" } else { "\n\n" };
                let _ = write!(message.text, "{separator}{}", quoted(name, &path, &content));
            }
            Content::Picture(media_type, bytes) => {
                files.push(format!("picture {file_name}"));
                message.attachments.push(attached(file_name, media_type.to_owned(), bytes));
            }
        }
    }
    let has_words = !text.trim().is_empty();
    message.title = (!files.is_empty()).then(|| if has_words { text.to_owned() } else { files.join(", ") });
    Ok(message)
}

/// The last part of a path that the user wrote.
fn file_name(name: &str) -> String {
    let last = Path::new(name).file_name();
    last.map_or_else(|| name.to_owned(), |last| last.to_string_lossy().into_owned())
}

/// Bytes as the attachment of a message.
pub fn attached(name: String, media_type: String, bytes: Vec<u8>) -> OutgoingAttachment {
    let hash = ContentHash::from_bytes(*blake3::hash(&bytes).as_bytes());
    OutgoingAttachment { media_type, name, content: Attachment { hash, bytes } }
}

/// Attaches the files that a text mentions: `@path`, or `@"a path with spaces"`. The mentions stay in the text. An
/// unquoted word that names no file is only text.
///
/// # Errors
/// `NotAttached` for the first file that cannot be attached.
pub fn attach_mentioned(text: &str, environment: &Environment) -> Result<OutgoingMessage, SendError> {
    let mut names: Vec<String> = Vec::new();
    let mut written = Vec::new();
    for mention in mentions(text) {
        let (name, mention) = match mention {
            Mention::Quoted(name) => (name, format!("@\"{name}\"")),
            Mention::Word(word) => match existing_file(word, environment) {
                Some(name) => (name, format!("@{name}")),
                None => continue,
            },
        };
        if !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
            written.push(mention);
        }
    }
    let mut message = attach(text, &names, environment)?;
    if !names.is_empty() {
        let words = without_paths(text, &written, &names);
        message.title = if words.is_empty() { attach("", &names, environment)?.title } else { Some(words) };
    }
    Ok(message)
}

/// The words of a text: mentions at its beginning are left out, and the others are the names of their files.
fn without_paths(text: &str, written: &[String], names: &[String]) -> String {
    let mut words = text.trim_start();
    while let Some(rest) = written.iter().find_map(|mention| words.strip_prefix(mention.as_str())) {
        words = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':'));
    }
    let mut words = words.trim_end().to_owned();
    for (mention, name) in written.iter().zip(names) {
        words = words.replace(mention.as_str(), &file_name(name));
    }
    words
}

/// The paths that complete what the user has typed after `@`, folders with a slash at their end. Hidden files only if
/// the typed name begins with a dot.
pub fn complete(typed: &str, environment: &Environment) -> FoundPaths {
    let (folder, prefix) = typed.rfind('/').map_or(("", typed), |slash| typed.split_at(slash + 1));
    let listed = std::fs::read_dir(resolve(folder, environment));
    let mut found: Vec<(bool, String)> = Vec::new();
    for entry in listed.into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_hidden = name.starts_with('.') && !prefix.starts_with('.');
        let matches = name.to_lowercase().starts_with(&prefix.to_lowercase());
        if is_hidden || !matches || name.chars().any(char::is_control) {
            continue;
        }
        let is_folder = entry.path().is_dir();
        found.push((!is_folder, format!("{folder}{name}{}", if is_folder { "/" } else { "" })));
    }
    // Folders first, then by name.
    found.sort();
    let left_out = found.len().saturating_sub(MAX_COMPLETIONS);
    found.truncate(MAX_COMPLETIONS);
    FoundPaths { paths: found.into_iter().map(|(_, path)| path).collect(), left_out }
}

/// Resolves a path that the user wrote; `file://` introduces an absolute path.
fn resolve(name: &str, environment: &Environment) -> PathBuf {
    environment.resolve(Path::new(name.strip_prefix("file://").unwrap_or(name)))
}

#[derive(Debug, PartialEq, Eq)]
enum Mention<'a> {
    Word(&'a str),
    Quoted(&'a str),
}

/// The mentions of a text: an at sign at the beginning of a word, and what follows it.
fn mentions(text: &str) -> Vec<Mention<'_>> {
    let mut found = Vec::new();
    let mut is_word_start = true;
    for (index, character) in text.char_indices() {
        if character == '@' && is_word_start {
            let rest = text.get(index + 1..).unwrap_or_default();
            let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
            let word = || rest.split(char::is_whitespace).next().filter(|word| !word.is_empty());
            found.extend(match quoted {
                Some((name, _)) if !name.contains('\n') => Some(Mention::Quoted(name)),
                _ => word().map(Mention::Word),
            });
        }
        is_word_start = character.is_whitespace() || character == '(';
    }
    found
}

/// The part of a word that names a file: the word, or the word without punctuation that follows the path.
fn existing_file<'a>(word: &'a str, environment: &Environment) -> Option<&'a str> {
    let trimmed = word.trim_end_matches(['.', ',', ';', ':', '!', '?', ')']);
    [word, trimmed].into_iter().find(|name| !name.is_empty() && resolve(name, environment).is_file())
}

enum Content {
    Text(String),
    Picture(&'static str, Vec<u8>),
}

/// Reads a file. The error is the reason in one line.
fn read(path: &Path) -> Result<Content, String> {
    let metadata = std::fs::metadata(path).map_err(|error| plain_reason(&error))?;
    if metadata.is_dir() {
        return Err("it is a folder; name its files".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let limit = MAX_TEXT_BYTES.max(MAX_IMAGE_BYTES);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| plain_reason(&error))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| plain_reason(&error))?;
    let too_large = |what: &str, limit: u64| {
        format!("it has {}, and {what} may have at most {}", size(metadata.len()), size(limit))
    };
    if let Some(media_type) = picture_type(&bytes) {
        if metadata.len() > MAX_IMAGE_BYTES {
            return Err(too_large("a picture", MAX_IMAGE_BYTES));
        }
        return Ok(Content::Picture(media_type, bytes));
    }
    if bytes.starts_with(b"%PDF") {
        return Err("it is a PDF; convert it to text, for example by `pdftotext`".to_owned());
    }
    let is_too_large = metadata.len() > MAX_TEXT_BYTES;
    let head = bytes.get(..usize::try_from(MAX_TEXT_BYTES).unwrap_or(usize::MAX)).unwrap_or(&bytes);
    let is_text = match std::str::from_utf8(head) {
        Ok(text) => !text.contains('\0'),
        // The limit may have cut a character.
        Err(error) => is_too_large && error.error_len().is_none() && !head.contains(&0),
    };
    if !is_text {
        return Err("it is neither text in UTF-8 nor a picture (PNG, JPEG, GIF or WebP)".to_owned());
    }
    if is_too_large {
        return Err(too_large("a text file", MAX_TEXT_BYTES));
    }
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    Ok(Content::Text(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

fn picture_type(bytes: &[u8]) -> Option<&'static str> {
    let (media_type, _) = PICTURES.into_iter().find(|(_, beginning)| bytes.starts_with(beginning))?;
    (media_type != "image/webp" || bytes.get(8..12) == Some(b"WEBP")).then_some(media_type)
}

/// A number of bytes, for people.
pub fn size(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = KIB * KIB;
    if bytes < MIB {
        format!("{} KiB", bytes.div_ceil(KIB))
    } else {
        format!("{}.{} MiB", bytes / MIB, bytes % MIB * 10 / MIB)
    }
}

/// A file's text as a code block under the file's name. The fence is longer than any in the text.
pub fn quoted(name: &str, path: &Path, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let language =
        path.extension().map(|extension| extension.to_string_lossy().into_owned()).unwrap_or_default();
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    format!("{name}:\n\n{fence}{language}\n{text}{end}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(folder: &Path) -> Environment {
        let mut environment = Environment::with_variables([]);
        environment.working_directory = folder.to_path_buf();
        environment
    }

    #[test]
    fn a_text_file_becomes_part_of_the_message_and_a_picture_an_attachment() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.rs"), "fn a() {}\n// ````\n").unwrap();
        std::fs::write(folder.path().join("My shot.png"), b"\x89PNG\r\n\x1a\n rest").unwrap();
        let environment = environment(folder.path());
        let text = "look at @a.rs, @unknown and @\"My shot.png\"; again @a.rs";
        let message = attach_mentioned(text, &environment).unwrap();
        assert_eq!(message.text, format!("{text}\n\na.rs:\n\n`````rs\nfn a() {{}}\n// ````\n`````"));
        let [picture] = message.attachments.as_slice() else { panic!() };
        assert_eq!((picture.name.as_str(), picture.media_type.as_str()), ("My shot.png", "image/png"));
        assert_eq!(message.title.as_deref(), Some("look at a.rs, @unknown and My shot.png; again a.rs"));
        for (text, title) in [
            ("@a.rs what is this?", Some("what is this?")),
            ("@\"My shot.png\", @a.rs: compare them", Some("compare them")),
            ("@\"My shot.png\"", Some("picture My shot.png")),
            ("@a.rs @\"My shot.png\"", Some("a.rs, picture My shot.png")),
            ("no mention of @anything", None),
        ] {
            let title_of = |text: &str| attach_mentioned(text, &environment).unwrap().title;
            assert_eq!(title_of(text).as_deref(), title, "{text}");
            let path = folder.path().join("My shot.png");
            let absolute = text.replace("My shot.png", path.to_str().unwrap());
            assert_eq!(title_of(&absolute).as_deref(), title, "{absolute}");
        }
        let by_option = |text: &str| attach(text, &["My shot.png".to_owned()], &environment).unwrap().title;
        assert_eq!(by_option("").as_deref(), Some("picture My shot.png"));
        assert_eq!(by_option("what is this?").as_deref(), Some("what is this?"));
        // Without a mention, nothing is read.
        assert_eq!(attach_mentioned("mail me@a.rs", &environment).unwrap().text, "mail me@a.rs");
    }

    #[test]
    fn a_file_that_cannot_be_sent_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(folder.path());
        let reason = |bytes: &[u8]| {
            std::fs::write(folder.path().join("f"), bytes).unwrap();
            attach("", &["f".to_owned()], &environment).unwrap_err().to_string()
        };
        let large = usize::try_from(MAX_TEXT_BYTES).unwrap() + 1;
        assert!(reason(&vec![b'a'; large]).contains("at most 256 KiB"));
        // A character that the limit cuts is text, too.
        assert!(reason("aé".repeat(large).as_bytes()).contains("at most 256 KiB"));
        let picture = [b"\xff\xd8\xff".as_slice(), &vec![0; 5 << 20]].concat();
        assert!(reason(&picture).contains("a picture may have at most 3.7 MiB"));
        assert!(reason(b"%PDF-1.7").contains("pdftotext"));
        assert!(reason(b"\0\x01binary").contains("neither text"));
        assert!(reason(b"RIFF\0\0\0\0WAVE").contains("neither text"));
        for (name, part) in [("none.txt", "no such file"), (".", "folder"), ("/dev/null", "regular")] {
            let error = attach("", &[name.to_owned()], &environment).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(name), "{error}");
        }
        let many: Vec<String> = (0..21).map(|index| index.to_string()).collect();
        assert!(attach("", &many, &environment).unwrap_err().to_string().contains("at most 20 files"));
    }

    #[test]
    fn paths_are_completed_folders_first_and_hidden_files_on_request() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        for name in ["src/main.rs", "setup.py", "README", ".env"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let environment = environment(folder.path());
        assert_eq!(complete("", &environment).paths, ["src/", "README", "setup.py"]);
        assert_eq!(complete("S", &environment).paths, ["src/", "setup.py"]);
        assert_eq!(complete("src/", &environment).paths, ["src/main.rs"]);
        assert_eq!(complete(".", &environment).paths, [".env"]);
        assert_eq!(complete("none/x", &environment).paths, [] as [&str; 0]);
        assert_eq!(complete("", &environment).left_out, 0);
        for index in 0..MAX_COMPLETIONS {
            std::fs::write(folder.path().join(format!("more-{index}")), "").unwrap();
        }
        let found = complete("", &environment);
        assert_eq!((found.paths.len(), found.left_out), (MAX_COMPLETIONS, 3));
    }
}
