//! Reads the pages of a database file and its write-ahead log without SQLite, which stops at damage.
//!
//! The formats are those of <https://www.sqlite.org/fileformat.html>. SQLite ends the recovery of a log at the first
//! frame with a wrong checksum. Here the frames after it are used too: the checksum of a frame starts from the stored
//! checksum of the frame before it, so a frame can be checked although an earlier one is damaged.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::check::repair::btree::{self, PageKind};

/// Page size of the databases that hfs creates, used if the header is damaged.
const DEFAULT_PAGE_SIZE: usize = 4096;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Entries of a pointer map have a type and a parent page.
const POINTER_MAP_ENTRY: u32 = 5;

/// The pages of a database.
pub(crate) struct Pages {
    database: File,
    page_size: usize,
    /// Number of pages of the file.
    file_pages: u32,
    log: Option<Log>,
}

/// What a pointer map says about a page. Databases of hfs have pointer maps, because their auto_vacuum mode is
/// incremental.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageUse {
    /// The root of a table or an index.
    Root,
    Free,
    Overflow,
    /// A page of a B-tree, with its parent.
    Child(u32),
    /// The pointer map is damaged.
    Unknown,
}

impl Pages {
    /// Opens a database and, if it exists, its log.
    pub(crate) fn open(database: &Path, log: &Path) -> io::Result<Self> {
        let file = File::open(database)?;
        let length = file.metadata()?.len();
        let mut header = [0; 100];
        read_up_to(&file, &mut header, 0)?;
        let log = Log::read(log)?;
        let from_header = be16(&header, 16).map_or(0, usize::from);
        let page_size = match (&log, from_header) {
            (Some(log), _) if log.header_is_intact => log.page_size,
            (_, 1) => 65_536,
            (_, size) if header.starts_with(b"SQLite format 3\0") && is_page_size(size) => size,
            _ => DEFAULT_PAGE_SIZE,
        };
        let log = log.filter(|log| log.page_size == page_size);
        let file_pages = u32::try_from(length.div_ceil(page_size as u64)).unwrap_or(u32::MAX);
        Ok(Self { database: file, page_size, file_pages, log })
    }

    /// Number of pages.
    pub(crate) fn count(&self) -> u32 {
        match &self.log {
            Some(log) if log.database_pages > 0 => log.database_pages,
            _ => self.file_pages,
        }
    }

    /// The numbers of the pages that the file or the log holds. The number of pages in the header of a frame may be damaged,
    /// and says that there are up to four thousand million.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + use<> {
        let in_file = self.file_pages.min(self.count());
        let log = self.log.iter().flat_map(|log| log.frames.keys().copied());
        let in_log: BTreeSet<u32> = log.filter(|page| *page > in_file && *page <= self.count()).collect();
        (1..=in_file).chain(in_log)
    }

    /// Number of pages that the log holds, and of damaged frames in it.
    pub(crate) fn log_summary(&self) -> Option<(usize, usize)> {
        self.log.as_ref().map(|log| (log.frames.len(), log.damaged_frames))
    }

    /// Whether SQLite would ignore committed pages of the log, because they follow a damaged frame.
    pub(crate) fn log_is_damaged(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.committed_after_damage)
    }

    /// Leaves out the log, which belongs to another database.
    pub(crate) fn ignore_log(&mut self) {
        self.log = None;
    }

    /// The newest image of a page. Missing bytes at the end of the file are zero.
    pub(crate) fn read(&self, page: u32) -> io::Result<Vec<u8>> {
        let Some((log, frame)) = self.log.as_ref().and_then(|log| Some((log, *log.frames.get(&page)?)))
        else {
            return self.read_from_file(page);
        };
        let bytes = log.page(frame)?;
        // A frame with a wrong checksum may be damaged in a few bytes only. It is used unless it is destroyed and the
        // image in the file is not.
        if frame.is_intact || btree::kind(&bytes, page).is_some() {
            return Ok(bytes);
        }
        let earlier = self.read_from_file(page)?;
        Ok(if btree::kind(&earlier, page).is_some() { earlier } else { bytes })
    }

    fn read_from_file(&self, page: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.page_size];
        read_up_to(&self.database, &mut bytes, offset(page, self.page_size))?;
        Ok(bytes)
    }

    /// The pages that both the file and the log hold, with both images.
    pub(crate) fn pages_in_both(&self) -> impl Iterator<Item = io::Result<(u32, Vec<u8>, Vec<u8>)>> + '_ {
        let frames = self.log.iter().flat_map(|log| log.frames.iter().map(move |entry| (log, entry)));
        frames
            .filter(|(_, (page, _))| **page <= self.file_pages)
            .map(|(log, (page, frame))| Ok((*page, self.read_from_file(*page)?, log.page(*frame)?)))
    }

    /// What the pointer map says about a page.
    pub(crate) fn page_use(&self, page: u32) -> io::Result<PageUse> {
        let usable = u32::try_from(self.page_size).unwrap_or(u32::MAX);
        let entries = usable / POINTER_MAP_ENTRY;
        // The first pointer map is page 2. Each is followed by the pages that it describes.
        let map = (page.saturating_sub(2) / (entries + 1)) * (entries + 1) + 2;
        if page <= map {
            return Ok(PageUse::Unknown);
        }
        let at = usize::try_from((page - map - 1) * POINTER_MAP_ENTRY).unwrap_or(usize::MAX);
        let bytes = self.read(map)?;
        let parent = be32(&bytes, at + 1).unwrap_or(0);
        Ok(match bytes.get(at) {
            Some(1) => PageUse::Root,
            Some(2) => PageUse::Free,
            Some(3 | 4) => PageUse::Overflow,
            Some(5) if parent > 0 && parent <= self.count() => PageUse::Child(parent),
            _ => PageUse::Unknown,
        })
    }
}

fn offset(page: u32, page_size: usize) -> u64 {
    u64::from(page.saturating_sub(1)) * page_size as u64
}

const fn is_page_size(size: usize) -> bool {
    size.is_power_of_two() && size >= 512 && size <= 65_536
}

/// Reads up to the end of the file. The rest of `bytes` stays as it is.
fn read_up_to(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// The committed pages of a write-ahead log.
struct Log {
    file: File,
    page_size: usize,
    header_is_intact: bool,
    /// The newest frame of each page.
    frames: HashMap<u32, Frame>,
    /// Number of pages of the database after the last commit.
    database_pages: u32,
    damaged_frames: usize,
    committed_after_damage: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    /// Position of the page in the log.
    offset: u64,
    /// Whether the checksum is right.
    is_intact: bool,
}

/// A checksum of the log.
type Checksum = (u32, u32);

impl Log {
    /// Returns `None` if there is no log or it has no complete frame.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut reader = BufReader::with_capacity(1 << 20, file.try_clone()?);
        let mut header = [0; LOG_HEADER];
        if !read_whole(&mut reader, &mut header)? {
            return Ok(None);
        }
        let magic = be32(&header, 0).unwrap_or(0);
        let declared = be32(&header, 8).and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let mut big_endian = magic & 1 == 1;
        let stored = (be32(&header, 24).unwrap_or(0), be32(&header, 28).unwrap_or(0));
        let header_is_intact = magic & !1 == 0x377f_0682
            && is_page_size(declared)
            && checksum((0, 0), header.get(..24).unwrap_or_default(), big_endian) == stored;
        if !header_is_intact {
            big_endian = cfg!(target_endian = "big");
        }
        let page_size = if header_is_intact { declared } else { DEFAULT_PAGE_SIZE };
        let mut salt = header_is_intact.then(|| header.get(16..24).unwrap_or_default().to_vec());
        let mut previous = header_is_intact.then_some(stored);

        let mut written = Vec::new();
        let (mut committed, mut first_damaged, mut damaged) = (0, None, 0);
        let mut database_pages = 0;
        let mut frame = vec![0; FRAME_HEADER + page_size];
        let mut at = LOG_HEADER as u64;
        while read_whole(&mut reader, &mut frame)? {
            let (head, page) = frame.split_at(FRAME_HEADER);
            let found_salt = head.get(8..16).unwrap_or_default();
            let number = be32(head, 0).unwrap_or(0);
            let commit = be32(head, 4).unwrap_or(0);
            let stored = (be32(head, 16).unwrap_or(0), be32(head, 20).unwrap_or(0));
            let salt = salt.get_or_insert_with(|| found_salt.to_vec());
            // Frames with another salt were written before the log was last restarted, or their header is damaged.
            if found_salt == salt.as_slice() && number > 0 {
                let is_intact = previous.is_some_and(|previous| {
                    let sum = checksum(previous, head.get(..8).unwrap_or_default(), big_endian);
                    checksum(sum, page, big_endian) == stored
                });
                if !is_intact && previous.is_some() {
                    damaged += 1;
                    first_damaged.get_or_insert(written.len());
                }
                written.push((number, Frame { offset: at + FRAME_HEADER as u64, is_intact }));
                if commit > 0 && is_intact {
                    committed = written.len();
                    database_pages = commit;
                }
                previous = Some(stored);
            } else {
                if first_damaged.is_none() {
                    first_damaged = Some(written.len());
                }
                previous = None;
            }
            at += frame.len() as u64;
        }
        written.truncate(committed);
        if written.is_empty() {
            return Ok(None);
        }
        let committed_after_damage =
            !header_is_intact || first_damaged.is_some_and(|first| first < committed);
        let frames = written.into_iter().collect();
        Ok(Some(Self {
            file,
            page_size,
            header_is_intact,
            frames,
            database_pages,
            damaged_frames: damaged,
            committed_after_damage,
        }))
    }

    fn page(&self, frame: Frame) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.page_size];
        read_up_to(&self.file, &mut bytes, frame.offset)?;
        Ok(bytes)
    }
}

/// Fills `bytes`. Returns false if the file ends before.
fn read_whole(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

/// Continues a checksum of the log over more bytes.
fn checksum(start: Checksum, bytes: &[u8], big_endian: bool) -> Checksum {
    let word =
        |bytes: [u8; 4]| if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().fold(start, |(mut first, mut second), [a, b]| {
        first = first.wrapping_add(word(*a)).wrapping_add(second);
        second = second.wrapping_add(word(*b)).wrapping_add(first);
        (first, second)
    })
}

/// Whether the log belongs to another database: most rows that it shares with the file have other ids there.
pub(crate) fn log_is_foreign(pages: &Pages) -> io::Result<bool> {
    let (mut same, mut different) = (0_u64, 0_u64);
    for images in pages.pages_in_both() {
        let (page, older, newer) = images?;
        if [&older, &newer].into_iter().any(|image| btree::kind(image, page) != Some(PageKind::TableLeaf)) {
            continue;
        }
        let ids = btree::row_ids(&older, page);
        for (row, id) in btree::row_ids(&newer, page) {
            match ids.get(&row) {
                Some(other) if *other == id => same += 1,
                Some(_) => different += 1,
                None => {}
            }
        }
    }
    Ok(different > same)
}
