//! `orrery describe`: manual pages and completions, made of the same description that `--help` shows. Packages ask for them.

use std::path::PathBuf;

use clap::{Command, Subcommand};
use clap_complete::{Shell, generate};

/// What to write.
#[derive(Subcommand)]
pub enum Describe {
    /// A manual page for the program and for each command, into a folder.
    Man {
        /// The folder; it must be there.
        folder: PathBuf,
    },
    /// Completions for bash.
    Bash,
    /// Completions for fish.
    Fish,
    /// Completions for zsh.
    Zsh,
}

/// Writes it; completions go to standard output.
pub fn describe(what: Describe, mut program: Command) -> anyhow::Result<()> {
    let shell = match what {
        Describe::Man { folder } => {
            clap_mangen::generate_to(program, folder)?;
            return Ok(());
        }
        Describe::Bash => Shell::Bash,
        Describe::Fish => Shell::Fish,
        Describe::Zsh => Shell::Zsh,
    };
    let name = program.get_name().to_owned();
    generate(shell, &mut program, name, &mut std::io::stdout());
    Ok(())
}
