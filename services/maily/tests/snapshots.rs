//! Every mail in every language, made of its sample data, as it was when somebody last looked at it: `ORRERY_WRITE_DOCS=1` writes the files
//! anew, and the diff shows what readers will see.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use orrery_maily::{Renderer, config::Config};

#[test]
fn every_mail_is_as_it_was_looked_at() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let renderer = Renderer::new(&Config::default()).unwrap();
    let mut files = BTreeMap::new();
    for mail in renderer.previews().unwrap() {
        let name = format!("{}.{}", mail.name, mail.locale);
        files.insert(format!("{name}.txt"), format!("Subject: {}\n\n{}", mail.subject, mail.text));
        files.insert(format!("{name}.html"), mail.html);
    }
    if std::env::var_os("ORRERY_WRITE_DOCS").is_some() {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        return;
    }
    let kept: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let differing: Vec<&String> = files
        .iter()
        .filter(|(name, text)| !std::fs::read_to_string(folder.join(name)).is_ok_and(|kept| kept == **text))
        .map(|(name, _)| name)
        .collect();
    let of_no_mail: Vec<&String> = kept.iter().filter(|name| !files.contains_key(*name)).collect();
    assert!(
        differing.is_empty() && of_no_mail.is_empty(),
        "services/maily/tests/snapshots: {differing:?} differ, {of_no_mail:?} are of no mail; \
         ORRERY_WRITE_DOCS=1 cargo test -p orrery-maily --test snapshots writes them, then look at the diff"
    );
}
