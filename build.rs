//! Makes the release binary smaller when it is linked. Every argument is tried first: linkers differ in what they know.

use std::{env, error::Error, fs, path::Path, process::Command};

/// A panic ends the process, so nothing ever reads the tables that say how to unwind its stack.
const DROP_UNWIND_TABLES: &str = "\
SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) *(.gcc_except_table) *(.gcc_except_table.*) } }
INSERT AFTER .text;
";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("PROFILE")? != "release" || env::var("CARGO_CFG_TARGET_OS")? != "linux" {
        return Ok(());
    }
    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    let script = out.join("drop-unwind-tables.ld");
    fs::write(&script, DROP_UNWIND_TABLES)?;
    let wanted = [
        // At fixed addresses constants need no relocation, so that the parents of all pods share their pages.
        "-no-pie".to_owned(),
        "-Wl,--icf=all".to_owned(),
        "-Wl,-z,pack-relative-relocs".to_owned(),
        "-Wl,--no-eh-frame-hdr".to_owned(),
        // The profile's `strip` does not reach a package that has a profile of its own.
        "-Wl,--strip-all".to_owned(),
        format!("-Wl,-T,{}", script.display()),
    ];
    let mut taken = Vec::new();
    for argument in wanted {
        taken.push(argument);
        if !links(out, &taken)? {
            taken.pop();
        }
    }
    for argument in taken {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    Ok(())
}

/// Whether a program that does nothing can be linked with these arguments, and still runs.
fn links(out: &Path, arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    let (source, program) = (out.join("nothing.rs"), out.join("nothing"));
    fs::write(&source, "fn main() {}")?;
    let target = env::var("TARGET")?;
    let mut rustc = Command::new(env::var("RUSTC")?);
    rustc.args(["--edition", "2024", "-Cpanic=abort", "--target", &target]);
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    for argument in arguments {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    let linked = rustc.arg("-o").arg(&program).arg(&source).output()?;
    let is_native = env::var("HOST")? == target;
    let ran = || Command::new(&program).status().is_ok_and(|s| s.success());
    Ok(linked.status.success() && (!is_native || ran()))
}
