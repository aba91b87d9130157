//! Random damage: every repair ends with a store that opens and verifies, and that has every row whose pages are intact.
//!
//! `HFS_DAMAGE_COUNT` and `HFS_DAMAGE_SEED` set the number of damages and the seed; `cargo xtask crash damage` sets them
//! for a long run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests fail by panicking, and a long run prints its figures"
)]

mod sample;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use hfs_core::{Maintenance, StoreError};
use hfs_store::{SqliteOptions, SqliteStore, StoreUrl};

use sample::{PAGE, Sample};

const COUNT: u64 = 25;
const SEED: u64 = 20_261_130;
const FRAME: usize = 24 + PAGE;
const LOG_HEADER: usize = 32;

fn from_env(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn every_repair_keeps_all_rows_on_intact_pages() {
    let (count, seed) = (from_env("HFS_DAMAGE_COUNT", COUNT), from_env("HFS_DAMAGE_SEED", SEED));
    let sample = Sample::create();
    let (mut kept, mut all) = (0, 0);
    for number in 0..count {
        let damage = Damage::random(&sample, &mut fastrand::Rng::with_seed(seed + number));
        kept += check(&sample, &damage, &format!("damage {number} of seed {seed}: {}", damage.description));
        all += sample.rows.len();
        if count > COUNT && (number + 1) % 100 == 0 {
            println!("{} damages: {kept} of {all} rows were on intact pages and are there", number + 1);
        }
    }
    assert!(kept * 2 > all, "the damages must leave most rows intact: {kept} of {all}");
}

#[test]
fn a_destroyed_first_page_costs_no_row() {
    let sample = Sample::create();
    for fill in [0, 0xff] {
        let mut damage = Damage::none(&sample, "the first page");
        damage.database[..PAGE].fill(fill);
        // The log holds a newer image of the first page, so take it away from there too.
        damage.log = None;
        damage.database = sample.checkpointed[..].to_vec();
        damage.database[..PAGE].fill(fill);
        let expected = check_rows(&sample, &damage, &BTreeSet::from([1]), "the first page");
        assert_eq!(expected, sample.rows.len());
    }
}

#[test]
fn a_destroyed_page_of_the_schema_costs_no_row() {
    let sample = Sample::create();
    for page in sample.schema_pages.clone() {
        let mut damage = Damage::none(&sample, "the schema");
        damage.log = None;
        damage.database = sample.checkpointed.clone();
        let start = (page - 1) as usize * PAGE;
        damage.database[start..start + PAGE].fill(0);
        let expected = check_rows(&sample, &damage, &BTreeSet::from([page]), &format!("schema page {page}"));
        assert_eq!(expected, sample.rows.len());
    }
}

/// Where the checkpointed database has the name of a table in its schema, and the number of the root page after it.
fn schema_entry(sample: &Sample, table: &str) -> (usize, usize) {
    let entry = format!("table{table}{table}");
    let mut found = sample.checkpointed.windows(entry.len()).enumerate();
    let at = found.find(|(_, window)| *window == entry.as_bytes()).unwrap().0;
    (at + "table".len(), at + entry.len())
}

const TABLES: [&str; 9] =
    ["session", "branch", "message", "block", "attachment", "run", "state", "checkpoint", "operation"];

#[test]
fn a_damaged_name_of_a_table_costs_no_row() {
    let sample = Sample::create();
    for table in TABLES {
        let (name, _) = schema_entry(&sample, table);
        let mut damage = Damage::none(&sample, table);
        damage.log = None;
        damage.database = sample.checkpointed.clone();
        damage.database[name + 2] ^= 1;
        let page = u32::try_from(name / PAGE + 1).unwrap();
        let expected = check_rows(&sample, &damage, &BTreeSet::from([page]), &format!("name of {table}"));
        assert_eq!(expected, sample.rows.len());
    }
}

#[test]
fn a_damaged_number_of_a_root_page_costs_no_row() {
    let sample = Sample::create();
    let (_, other) = schema_entry(&sample, "activity");
    for table in TABLES {
        let (_, root) = schema_entry(&sample, table);
        let mut damage = Damage::none(&sample, table);
        damage.log = None;
        damage.database = sample.checkpointed.clone();
        damage.database[root] = sample.checkpointed[other];
        let page = u32::try_from(root / PAGE + 1).unwrap();
        let expected = check_rows(&sample, &damage, &BTreeSet::from([page]), &format!("root of {table}"));
        assert_eq!(expected, sample.rows.len());
    }
}

#[test]
fn a_log_of_another_store_is_left_out() {
    let (sample, other) = (Sample::create(), Sample::with_sessions_from(100));
    let mut damage = Damage::none(&sample, "a foreign log");
    damage.database = sample.checkpointed.clone();
    damage.log = other.log.clone().into();
    let kept = check_rows(&sample, &damage, &BTreeSet::new(), "a foreign log");
    assert_eq!(kept, sample.rows.len());
}

#[test]
fn pages_after_a_damaged_frame_of_the_log_are_kept() {
    let sample = Sample::create();
    let frames = (sample.log.len() - LOG_HEADER) / FRAME;
    let mut damage = Damage::none(&sample, "one byte of an early frame");
    damage.change_log(LOG_HEADER + (frames / 4) * FRAME + 24 + 2000, &[0x55]);
    check(&sample, &damage, "one byte of an early frame");
}

#[test]
fn one_byte_of_invalid_text_costs_one_message_at_most() {
    let sample = Sample::create();
    let mut damage = Damage::none(&sample, "one byte of a text");
    damage.log = None;
    damage.database = sample.checkpointed.clone();
    let at = damage.database.windows(14).rposition(|window| window == b"a question wit").unwrap();
    damage.database[at] = 0xff;
    let page = u32::try_from(at / PAGE + 1).unwrap();
    check_rows(&sample, &damage, &BTreeSet::from([page]), "one byte of a text");
}

/// Damaged files of a store.
struct Damage {
    description: String,
    database: Vec<u8>,
    /// `None` if the log is missing.
    log: Option<Vec<u8>>,
    /// Frames of the log from which on nothing is expected.
    cut_frames_from: Option<usize>,
}

impl Damage {
    fn none(sample: &Sample, description: &str) -> Self {
        Self {
            description: description.to_owned(),
            database: sample.database.clone(),
            log: Some(sample.log.clone()),
            cut_frames_from: None,
        }
    }

    fn random(sample: &Sample, random: &mut fastrand::Rng) -> Self {
        let mut damage = Self::none(sample, "");
        for _ in 0..random.usize(1..4) {
            let what = damage.add_random(random);
            damage.description = format!("{}{what}; ", damage.description);
        }
        damage
    }

    fn add_random(&mut self, random: &mut fastrand::Rng) -> String {
        let in_log =
            random.u8(0..10) < 3 && self.log.as_ref().is_some_and(|log| log.len() > LOG_HEADER + FRAME);
        let length = if in_log { self.log.as_ref().map_or(0, Vec::len) } else { self.database.len() };
        let place = if in_log { "log" } else { "database" };
        let page = random.usize(0..length / PAGE) * PAGE;
        let (at, bytes) = match random.u8(0..10) {
            0..=2 => (random.usize(0..length), vec![random.u8(..)]),
            3 => (random.usize(0..length - 300), (0..300).map(|_| random.u8(..)).collect()),
            4 => (page, vec![0; PAGE.min(length - page)]),
            5 => (page, (0..PAGE.min(length - page)).map(|_| random.u8(..)).collect()),
            6 if !in_log => (0, vec![0; PAGE]),
            7 => {
                let pages = random.usize(2..6);
                (page, vec![0xe5; (pages * PAGE).min(length - page)])
            }
            8 => {
                let cut = random.usize(length / 3..length);
                self.truncate(in_log, cut);
                return format!("{place} cut at {cut}");
            }
            9 if in_log => {
                self.log = None;
                self.cut_frames_from = Some(0);
                return "log deleted".into();
            }
            _ => (random.usize(0..length), vec![0]),
        };
        let description = format!("{} bytes of the {place} at {at}", bytes.len());
        if in_log {
            self.change_log(at, &bytes);
        } else {
            self.database[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        description
    }

    fn truncate(&mut self, in_log: bool, length: usize) {
        if !in_log {
            self.database.truncate(length);
        } else if let Some(log) = &mut self.log {
            log.truncate(length);
            self.cut_from(length.saturating_sub(LOG_HEADER) / FRAME);
        }
    }

    fn cut_from(&mut self, frame: usize) {
        self.cut_frames_from = Some(self.cut_frames_from.map_or(frame, |cut| cut.min(frame)));
    }

    /// The header of a frame says whether it commits a transaction. If it is damaged, that transaction may be lost.
    fn change_log(&mut self, at: usize, bytes: &[u8]) {
        let Some(log) = &mut self.log else { return };
        log[at..at + bytes.len()].copy_from_slice(bytes);
        let (first, last) =
            (at.saturating_sub(LOG_HEADER) / FRAME, (at + bytes.len()).saturating_sub(LOG_HEADER) / FRAME);
        let hits_header = (first..=last).any(|frame| {
            let header = LOG_HEADER + frame * FRAME;
            at < header + 24 && at + bytes.len() > header
        });
        if hits_header {
            self.cut_from(first);
        }
    }

    /// The pages whose newest image is damaged.
    fn damaged_pages(&self, sample: &Sample) -> BTreeSet<u32> {
        let mut pages = BTreeSet::new();
        let newest = &sample.newest_frames;
        for page in 1..=sample.pages {
            let is_intact = match newest.get(&page) {
                Some(frame) => {
                    let start = LOG_HEADER + frame * FRAME;
                    let is_cut =
                        self.cut_frames_from.is_some_and(|cut| *frame >= sample.transaction_start(cut));
                    let log = self.log.as_deref().unwrap_or_default();
                    !is_cut && log.get(start..start + FRAME) == Some(&sample.log[start..start + FRAME])
                }
                None => {
                    let start = (page - 1) as usize * PAGE;
                    self.database.get(start..start + PAGE) == Some(&sample.database[start..start + PAGE])
                }
            };
            if !is_intact {
                pages.insert(page);
            }
        }
        pages
    }
}

fn check(sample: &Sample, damage: &Damage, what: &str) -> usize {
    check_rows(sample, damage, &damage.damaged_pages(sample), what)
}

/// Repairs a damaged store. Returns the number of rows that had to be there.
fn check_rows(sample: &Sample, damage: &Damage, damaged: &BTreeSet<u32>, what: &str) -> usize {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("hfs.db");
    // A store that was used has this directory.
    fs::create_dir(home.path().join("hfs.db-live")).unwrap();
    fs::write(&path, &damage.database).unwrap();
    if let Some(log) = &damage.log {
        fs::write(home.path().join("hfs.db-wal"), log).unwrap();
    }
    let report = match hfs_store::repair(&StoreUrl::Sqlite(path.clone()), SqliteOptions::default()) {
        Ok(report) => report,
        // A version that is damaged together with the schema cannot be told from a newer one.
        Err(StoreError::Newer { may_be_damage: false, .. }) if damaged.contains(&1) => return 0,
        Err(error) => panic!("{what}: {error:?}"),
    };
    if !report.is_empty() {
        let kept = fs::read(home.path().join("hfs.db.damaged")).unwrap();
        assert!(kept == damage.database || damage.log.is_some(), "{what}: the damaged database is kept");
    }
    let store = SqliteStore::open(&path, SqliteOptions::default())
        .unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let verification = store.verify().unwrap();
    assert!(verification.is_ok(), "{what}: {:#?}\n{report:#?}", verification.problems);
    let mut expected = 0;
    for row in sample.rows.iter().filter(|row| row.pages.is_disjoint(damaged)) {
        expected += 1;
        if let Err(error) = row.check(&store) {
            panic!("{what}: {:?} is lost ({error}); damaged pages: {damaged:?}\n{report:#?}", row.item);
        }
    }
    drop(store);
    assert_no_temporary_files(home.path(), what);
    expected
}

fn assert_no_temporary_files(directory: &Path, what: &str) {
    for entry in fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_expected =
            ["hfs.db", "hfs.db-live", "hfs.db.damaged", "hfs.db.damaged-wal"].contains(&name.as_str());
        assert!(is_expected, "{what}: {name} is left");
    }
}
