//! The snippets of `docs/events.md` that check a signature, each run where its language is on the machine.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use orrery_tests::programs;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const BODY: &str = r#"{"specversion":"1.0","id":"é"}"#;

/// The snippet in a language, from its heading in the section of signatures.
fn snippet(language: &str) -> Result<String> {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md"))?;
    let section = guide.split("### Checking a signature").nth(1).context("no section")?;
    let fence = format!("```{language}\n");
    let snippet = section.split(&fence).nth(1).and_then(|rest| rest.split("```").next());
    snippet.map(str::to_owned).with_context(|| format!("no snippet in {language}"))
}

/// A language: how its program is put together and run. It gets secret, id, timestamp, signature and body, and prints true or false.
struct Language {
    name: &'static str,
    program: &'static str,
    file: &'static str,
    /// What comes before the snippet, and after it.
    around: (&'static str, &'static str),
    run: fn(&Path) -> Command,
}

fn command(program: &str, arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).arg(file);
    command
}

const LANGUAGES: [Language; 5] = [
    Language {
        name: "python",
        program: "python3",
        file: "check.py",
        around: ("import sys\n", "\nprint(str(verify(*sys.argv[1:5], sys.argv[5].encode())).lower())\n"),
        run: |file| command("python3", &[], file),
    },
    Language {
        name: "js",
        program: "node",
        file: "check.mjs",
        around: (
            "",
            "\nconst [secret, id, timestamp, signature, body] = process.argv.slice(2);\nconsole.log(String(verify(secret, id, timestamp, signature, Buffer.from(body))));\n",
        ),
        run: |file| command("node", &[], file),
    },
    Language {
        name: "java",
        program: "java",
        file: "Check.java",
        around: (
            "",
            "\nclass Check { public static void main(String[] a) throws Exception { System.out.println(Signature.verify(a[0], a[1], a[2], a[3], a[4].getBytes(java.nio.charset.StandardCharsets.UTF_8))); } }\n",
        ),
        run: |file| {
            let folder = file.parent().unwrap_or(file);
            let compiled =
                Command::new("javac").arg("-encoding").arg("UTF-8").arg("-d").arg(folder).arg(file).status();
            assert!(compiled.is_ok_and(|status| status.success()), "javac refuses it");
            let mut command = Command::new("java");
            command.arg("-cp").arg(folder).arg("-Dsun.jnu.encoding=UTF-8").arg("Check");
            command
        },
    },
    Language {
        name: "go",
        program: "go",
        file: "check.go",
        around: (
            "",
            "\nfunc main() { println2(verify(os.Args[1], os.Args[2], os.Args[3], os.Args[4], []byte(os.Args[5]))) }\n\nfunc println2(ok bool) { os.Stdout.WriteString(strconv.FormatBool(ok) + \"\\n\") }\n",
        ),
        run: |file| command("go", &["run"], file),
    },
    Language {
        name: "php",
        program: "php",
        file: "check.php",
        around: ("", "\necho var_export(verify(...array_slice($argv, 1)), true), \"\\n\";\n"),
        run: |file| command("php", &[], file),
    },
];

fn says(language: &Language, file: &Path, arguments: [&str; 5]) -> Result<bool> {
    let mut run = (language.run)(file);
    // Java reads arguments by the locale.
    run.env("LC_ALL", "C.UTF-8").args(arguments).stdin(Stdio::null());
    let output = run.output().with_context(|| language.name)?;
    let said = String::from_utf8_lossy(&output.stdout);
    match said.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => anyhow::bail!("{} says {said} {}", language.name, String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn every_snippet_takes_good_signatures_and_no_others() -> Result<()> {
    let mut ran = Vec::new();
    for language in &LANGUAGES {
        let text = snippet(language.name)?;
        if programs::find(language.program).is_none() {
            continue;
        }
        let folder = tempfile::tempdir()?;
        let file: PathBuf = folder.path().join(language.file);
        std::fs::write(&file, format!("{}{text}{}", language.around.0, language.around.1))?;
        let now = std::time::UNIX_EPOCH.elapsed()?.as_secs();
        let signed = |timestamp: u64| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef0123456789abcdef");
            let mac = hmac::sign(&key, format!("id-1.{timestamp}.{BODY}").as_bytes());
            format!("v1,AAAA v1,{}", BASE64.encode(mac))
        };
        let (fresh, old) = (now.to_string(), (now - 3_600).to_string());
        for (arguments, wanted) in [
            ([SECRET, "id-1", &fresh, &signed(now), BODY], true),
            ([SECRET, "id-1", &fresh, &signed(now), "{}"], false),
            ([SECRET, "id-2", &fresh, &signed(now), BODY], false),
            ([SECRET, "id-1", &old, &signed(now - 3_600), BODY], false),
            ([SECRET, "id-1", &fresh, "v1,AAAA", BODY], false),
        ] {
            ensure!(says(language, &file, arguments)? == wanted, "{}: {arguments:?}", language.name);
        }
        ran.push(language.name);
    }
    ensure!(!ran.is_empty(), "none of the languages is on this machine");
    Ok(())
}
