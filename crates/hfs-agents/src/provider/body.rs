//! Reads the body of a response as it arrives, and decompresses it.
//!
//! reqwest's own decompression ends with the first member of a gzip stream. A server that compresses each event on its own
//! sends many members, so all but the first event would be lost.

use std::io::Write as _;

use flate2::write::MultiGzDecoder;
use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

/// The encoding that requests accept.
pub(super) const ACCEPTED_ENCODING: &str = "gzip";

/// Why a body cannot be read further.
#[derive(Debug)]
pub(super) enum BodyError {
    Connection(reqwest::Error),
    /// The compressed data ends early.
    Truncated,
    /// The compressed data is damaged.
    Damaged(std::io::Error),
    /// The server chose this encoding, which the request does not accept.
    UnknownEncoding(String),
}

#[derive(Debug)]
enum Decoder {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

/// The body of a response.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    decoder: Decoder,
    is_empty: bool,
    /// An error that follows what was decompressed before it.
    error: Option<BodyError>,
}

impl Body {
    pub fn new(response: Response) -> Self {
        let (decoder, error) = match content_encoding(response.headers()) {
            None => (Decoder::Identity, None),
            Some(encoding) if encoding == "gzip" || encoding == "x-gzip" => {
                (Decoder::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))), None)
            }
            Some(encoding) => (Decoder::Identity, Some(BodyError::UnknownEncoding(encoding))),
        };
        Self { response, decoder, is_empty: true, error }
    }

    /// The next bytes, which may be none, or `None` at the end. Nothing is lost if the future is dropped.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        match self.response.chunk().await.map_err(BodyError::Connection)? {
            Some(bytes) => {
                self.is_empty &= bytes.is_empty();
                Ok(Some(self.decode(&bytes)))
            }
            None => self.finish(),
        }
    }

    /// At most about `limit` bytes of the body.
    pub async fn read(mut self, limit: usize) -> Result<Vec<u8>, BodyError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() > limit {
                break;
            }
        }
        Ok(body)
    }

    fn decode(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Decoder::Gzip(decoder) = &mut self.decoder else { return bytes.to_owned() };
        if let Err(error) = decoder.write_all(bytes) {
            self.error = Some(BodyError::Damaged(error));
        }
        // Also after an error: the decoder still has what it decompressed before the damage.
        if let Err(error) = decoder.flush() {
            self.error.get_or_insert(BodyError::Damaged(error));
        }
        std::mem::take(decoder.get_mut())
    }

    fn finish(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        // A response without a body has the header, too.
        if let Decoder::Gzip(decoder) = &mut self.decoder
            && !self.is_empty
        {
            decoder.try_finish().map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => BodyError::Truncated,
                _ => BodyError::Damaged(error),
            })?;
        }
        Ok(None)
    }
}

/// How a body is compressed, in lower case; `None` if it is not.
fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim().to_ascii_lowercase();
    (!matches!(encoding.as_str(), "" | "identity" | "none")).then_some(encoding)
}
