//! Objects as streams of any length: one that is read from its beginning to its end, and one that is written in parts while its length is not known.

use std::ops::RangeInclusive;

use aws_sdk_s3::{
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;

use super::{ObjectError, Objects, patient, traced};

/// The first parts' length; each thousand parts it doubles, so that the 10,000 parts there may be are enough for terabytes.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// An object that is read.
pub struct Opened {
    /// The length of what is read.
    pub size_bytes: u64,
    /// Its media type.
    pub media_type: String,
    body: ByteStream,
}

impl Opened {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the store breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ObjectError> {
        let next = self.body.next().await.transpose();
        next.map_err(|error| ObjectError::Unavailable(error.to_string()))
    }

    /// The bytes, for who reads.
    pub fn into_reader(self) -> impl AsyncRead + Send + Unpin + 'static {
        Box::pin(self.body.into_async_read())
    }
}

/// An object that is being written in parts. It is there once `finish` has said so.
pub struct Upload {
    objects: Objects,
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
    buffer: BytesMut,
}

impl Objects {
    /// Opens an object, or the part of it from the first to the last byte of `part`.
    ///
    /// # Errors
    /// When it is not there, or the store is away.
    pub async fn open(&self, key: &str, part: Option<RangeInclusive<u64>>) -> Result<Opened, ObjectError> {
        let range = part.map(|part| format!("bytes={}-{}", part.start(), part.end()));
        let sending = self.client.get_object().bucket(&self.bucket).key(key).set_range(range).send();
        let object = traced("GetObject", sending).await.map_err(|error| self.failed(&error))?;
        let size = object.content_length().and_then(|size| u64::try_from(size).ok());
        let size_bytes = size.ok_or_else(|| ObjectError::Refused(format!("{key} has no length")))?;
        let media_type = object.content_type().unwrap_or("application/octet-stream").to_owned();
        Ok(Opened { size_bytes, media_type, body: object.body })
    }

    /// Begins an object whose length is not known. Memory: one part.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn begin(&self, key: &str, media_type: &str) -> Result<Upload, ObjectError> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .content_type(media_type)
            .send()
            .await
            .map_err(|error| self.failed(&error))?;
        let id = begun.upload_id().unwrap_or_default().to_owned();
        Ok(Upload {
            objects: self.clone(),
            key: key.to_owned(),
            id,
            parts: Vec::new(),
            buffer: BytesMut::new(),
        })
    }
}

impl Upload {
    /// Takes more of it.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), ObjectError> {
        loop {
            let part = PART_BYTES << (self.parts.len() / 1000).min(9);
            let (now, later) = bytes.split_at(part.saturating_sub(self.buffer.len()).min(bytes.len()));
            self.buffer.extend_from_slice(now);
            if self.buffer.len() < part {
                return Ok(());
            }
            self.send().await?;
            bytes = later;
        }
    }

    async fn send(&mut self) -> Result<(), ObjectError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let body = self.buffer.split().freeze();
        let sent = self
            .objects
            .client
            .upload_part()
            .bucket(&self.objects.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .part_number(number)
            .body(ByteStream::from(body))
            .customize()
            .config_override(patient())
            .send()
            .await
            .map_err(|error| self.objects.failed(&error))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(str::to_owned));
        self.parts.push(part.build());
        Ok(())
    }

    /// Ends it: from now on it is there.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn finish(mut self) -> Result<(), ObjectError> {
        if !self.buffer.is_empty() || self.parts.is_empty() {
            self.send().await?;
        }
        let parts =
            CompletedMultipartUpload::builder().set_parts(Some(std::mem::take(&mut self.parts))).build();
        self.objects
            .client
            .complete_multipart_upload()
            .bucket(&self.objects.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(parts)
            .send()
            .await
            .map_err(|error| self.objects.failed(&error))?;
        Ok(())
    }

    /// Gives it up: what was sent of it goes.
    ///
    /// # Errors
    /// When the store is away or refuses; a rule for unfinished uploads in the bucket's life cycle removes it then.
    pub async fn abort(self) -> Result<(), ObjectError> {
        self.objects
            .client
            .abort_multipart_upload()
            .bucket(&self.objects.bucket)
            .key(&self.key)
            .upload_id(&self.id)
            .send()
            .await
            .map_err(|error| self.objects.failed(&error))?;
        Ok(())
    }
}
