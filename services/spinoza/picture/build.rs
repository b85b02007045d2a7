//! Compiles the part that speaks to libjpeg, with the headers of the very library that turbojpeg-sys has built.

fn main() {
    println!("cargo:rerun-if-changed=src/jpeg/libjpeg.c");
    let mut build = cc::Build::new();
    build.file("src/jpeg/libjpeg.c").opt_level(2).warnings(true).extra_warnings(true);
    if let Ok(include) = std::env::var("DEP_TURBOJPEG_INCLUDE") {
        build.includes(include.split(','));
    }
    build.compile("orrery_jpeg");
}
