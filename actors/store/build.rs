//! Has the crate built again when a migration is added, which `embed_migrations!` alone does not see.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
