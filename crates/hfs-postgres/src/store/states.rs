//! Checkpoint states. Each is stored once for each owner, whole and compressed, by the hash of its canonical JSON.
//!
//! A row that nothing refers to is deleted with its last reference. Another process may refer to the same state at the
//! same time: the foreign keys make one of both transactions fail, and it is tried again.

use hfs_core::{CheckpointState, ContentHash};
use hfs_store::codec::compression;

use crate::db::Tx;
use crate::db::value::{Columns as _, Value, values};
use crate::error::{Error, Result};

/// A state that is ready to be stored.
pub(crate) struct EncodedState {
    pub(crate) hash: ContentHash,
    /// Size of its canonical JSON in bytes.
    pub(crate) size: u64,
    data: Vec<u8>,
}

impl EncodedState {
    pub(crate) fn new(state: &CheckpointState) -> Result<Self> {
        let json = state
            .canonical_json()
            .map_err(|error| Error::Internal(format!("a checkpoint's state cannot be written: {error}")))?;
        let data = compression::compress(&json).map_err(|error| {
            Error::Internal(format!("a checkpoint's state cannot be compressed: {error}"))
        })?;
        Ok(Self { hash: hash_of(&json), size: json.len() as u64, data })
    }

    /// Size in bytes as it is stored.
    pub(crate) const fn stored_size(&self) -> u64 {
        self.data.len() as u64
    }

    /// Inserts the state unless an equal one is stored.
    pub(crate) fn insert(&self, tx: &Tx) -> Result<()> {
        tx.execute(
            "INSERT INTO state (hash, size, data) VALUES ($1, $2, $3) ON CONFLICT (hash, owner) DO NOTHING",
            &values![&self.hash, self.size, self.data.as_slice()],
        )
        .map(drop)
    }
}

pub(crate) fn hash_of(bytes: &[u8]) -> ContentHash {
    ContentHash::from_bytes(*blake3::hash(bytes).as_bytes())
}

/// The canonical JSON of a state.
pub(crate) fn json(tx: &Tx, hash: ContentHash) -> Result<String> {
    let corrupt = |why: &str| Error::Corrupt(format!("state {hash} {why}"));
    // Those who see the sessions of several owners may see several rows, which are equal.
    let sql = "SELECT size, data FROM state WHERE hash = $1 ORDER BY owner = current_user::text DESC LIMIT 1";
    let row = tx.row(sql, &values![&hash])?;
    let row = row.ok_or_else(|| corrupt("is missing"))?;
    decode(row.count(0)?, row.bytes(1)?, hash)
}

/// Decompresses a stored state and checks its hash.
pub(crate) fn decode(size: u64, data: &[u8], hash: ContentHash) -> Result<String> {
    let corrupt = |why: &str| Error::Corrupt(format!("state {hash} {why}"));
    let size = usize::try_from(size).map_err(|_| corrupt("has an impossible size"))?;
    let json = compression::decompress(data, size).map_err(|error| corrupt(&error.to_string()))?;
    if hash_of(&json) != hash {
        return Err(corrupt("does not match its hash"));
    }
    String::from_utf8(json).map_err(|_| corrupt("is not text"))
}

pub(crate) fn load(tx: &Tx, hash: ContentHash) -> Result<CheckpointState> {
    serde_json::from_str(&json(tx, hash)?)
        .map_err(|error| Error::Corrupt(format!("state {hash} cannot be read: {error}")))
}

/// Deletes those of these states that nothing refers to.
pub(crate) fn drop_unused(tx: &Tx, hashes: &[ContentHash]) -> Result<()> {
    if hashes.is_empty() {
        return Ok(());
    }
    let hashes = hashes.iter().map(|hash| hash.as_bytes().as_slice().into()).collect();
    let hashes = [Value::Blobs(hashes)];
    // Another transaction that removes the other last reference must end first. Otherwise each would still see the reference
    // of the other, and both would leave the state.
    //
    // For the rest of this transaction, the server must not prefer reading a whole table to reading an index: it expects to find a
    // reference soon, and reads all checkpoints if there is none.
    tx.rows(
        "SELECT set_config('enable_seqscan', 'off', true) FROM state WHERE hash = ANY($1)
            ORDER BY hash, owner FOR NO KEY UPDATE",
        &hashes,
    )?;
    tx.execute(
        "DELETE FROM state WHERE hash = ANY($1)
            AND (SELECT 1 FROM checkpoint
                WHERE checkpoint.state = state.hash AND checkpoint.owner = state.owner LIMIT 1) IS NULL
            AND (SELECT 1 FROM branch
                WHERE branch.state = state.hash AND branch.owner = state.owner LIMIT 1) IS NULL",
        &hashes,
    )
    .map(drop)
}
