//! Messages as Python's `email` and dkimpy read them: `tests/maily/read_back.py`.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::servers::{run, tools};

/// A message.
#[derive(Debug, Deserialize)]
pub struct Message {
    pub to: Vec<String>,
    pub from: String,
    pub subject: String,
    pub language: Option<String>,
    pub auto_submitted: Option<String>,
    pub delivered_to: String,
    #[serde(rename = "type")]
    pub media_type: String,
    pub text: Option<String>,
    pub html: Option<String>,
    pub faults: Vec<String>,
    pub longest_line: usize,
    pub signatures: Vec<Signature>,
}

/// A DKIM signature.
#[derive(Debug, Deserialize)]
pub struct Signature {
    pub valid: bool,
    pub fault: Option<String>,
    pub algorithm: String,
    pub domain: String,
    pub signed: Vec<String>,
}

/// Reads messages; `records` are the TXT records that DNS has.
pub fn read(records: &BTreeMap<String, String>, files: &[PathBuf]) -> Result<Vec<Message>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/maily/read_back.py");
    let records = serde_json::to_string(records)?;
    let files = files.iter().filter_map(|file| file.to_str());
    let arguments: Vec<&str> = [script, &records].into_iter().chain(files).collect();
    let lines = run(tools().join("venv/bin/python"), &arguments)?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
