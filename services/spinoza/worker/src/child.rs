//! The worker's side: confined first, then one file after another from its input until that ends.

use std::io::{self, Read, Write};

use orrery_picture::{Limits, Optimised, Preset, Rejection};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    confine,
    protocol::{Answer, Greeting, Job, MAX_JSON_BYTES, Variant},
};

/// Reads jobs from `input` and answers to `output` until `input` ends. This process may take `memory_bytes` beside what it has, and
/// can open nothing any more; `work` is what makes the variants.
///
/// # Errors
/// Input or output breaks off, or what is read is no job.
pub fn serve(
    memory_bytes: u64,
    mut input: impl Read,
    mut output: impl Write,
    work: impl Fn(&[u8], &Preset, &Limits) -> Result<Optimised, Rejection>,
) -> io::Result<()> {
    let mapped = confine::address_space();
    write(&mut output, &Greeting { missing: confine::confine(memory_bytes) })?;
    output.flush()?;
    while let Some(job) = read::<Job>(&mut input)? {
        confine::limit_job(mapped, job.memory_bytes, job.cpu_seconds)?;
        let length = usize::try_from(job.file_bytes).map_err(io::Error::other)?;
        let mut file = Vec::new();
        file.try_reserve_exact(length).map_err(io::Error::other)?;
        if input.by_ref().take(job.file_bytes).read_to_end(&mut file)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let made = work(&file, &job.preset, &job.limits());
        drop(file);
        answer(&mut output, made)?;
        output.flush()?;
    }
    Ok(())
}

fn answer(output: &mut impl Write, made: Result<Optimised, Rejection>) -> io::Result<()> {
    match made {
        Ok(Optimised { variants, thumbhash }) => {
            let list = variants
                .iter()
                .map(|variant| {
                    Ok(Variant {
                        width: variant.width,
                        height: variant.height,
                        format: variant.format,
                        bytes: u32::try_from(variant.bytes.len()).map_err(io::Error::other)?,
                    })
                })
                .collect::<io::Result<_>>()?;
            write(output, &Answer::Made { variants: list, thumbhash })?;
            variants.iter().try_for_each(|variant| output.write_all(&variant.bytes))
        }
        Err(failed @ Rejection::Failed { .. }) => write(output, &Answer::Failed { cause: causes(&failed) }),
        Err(rejection) => write(
            output,
            &Answer::Rejected { code: rejection.code().to_owned(), reason: rejection.to_string() },
        ),
    }
}

/// An error and what it came from, in a line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn write(output: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    output.write_all(&u32::try_from(json.len()).map_err(io::Error::other)?.to_le_bytes())?;
    output.write_all(&json)
}

/// The next value; none where the input ends before it.
fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_JSON_BYTES {
        return Err(io::Error::other("the frame is too long"));
    }
    let mut json = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    input.read_exact(&mut json)?;
    Ok(Some(serde_json::from_slice(&json)?))
}
