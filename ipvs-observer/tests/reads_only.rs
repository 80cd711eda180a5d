//! The program reads, and that is all: what its probes may do in the kernel is in the object that it carries, and
//! what it may leave on the machine in its sources.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails by it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use object::{Object, ObjectSection, SectionFlags, elf};

/// What the probes call, by the numbers of the kernel's `include/uapi/linux/bpf.h`. None of these writes to memory of
/// the kernel or of a process, changes a packet, a return value or a schedule, or signals anybody; maps and the ring
/// buffer are the probes' own.
const ALLOWED: [(i32, &str); 17] = [
    (1, "map_lookup_elem"),
    (2, "map_update_elem"),
    (3, "map_delete_elem"),
    (5, "ktime_get_ns"),
    (8, "get_smp_processor_id"),
    (14, "get_current_pid_tgid"),
    (16, "get_current_comm"),
    (35, "get_current_task"),
    (87, "map_push_elem"),
    (88, "map_pop_elem"),
    (113, "probe_read_kernel"),
    (115, "probe_read_kernel_str"),
    (130, "ringbuf_output"),
    (131, "ringbuf_reserve"),
    (132, "ringbuf_submit"),
    (133, "ringbuf_discard"),
    // Into a buffer of the program.
    (165, "snprintf"),
];

/// A call in a program.
#[derive(Debug, PartialEq, Eq)]
enum Call {
    /// One of the kernel's helpers, by its number.
    Helper(i32),
    /// Another function of the object.
    Own,
    /// Anything else: a function of the kernel by its BTF, or through a register.
    Other(u8),
}

/// The calls in the code of a section.
fn calls(code: &[u8]) -> Vec<Call> {
    const CALL: u8 = 0x85;
    const CALL_BY_REGISTER: u8 = 0x8d;
    const LOAD_OF_64_BITS: u8 = 0x18;
    let mut calls = Vec::new();
    let mut instructions = code.chunks_exact(8);
    while let Some(instruction) = instructions.next() {
        let number = i32::from_le_bytes(instruction[4..].try_into().expect("four bytes"));
        match (instruction[0], instruction[1] >> 4) {
            (CALL, 0) => calls.push(Call::Helper(number)),
            (CALL, 1) => calls.push(Call::Own),
            (CALL | CALL_BY_REGISTER, kind) => calls.push(Call::Other(kind)),
            // Takes two places, of which the second is a number.
            (LOAD_OF_64_BITS, _) => drop(instructions.next()),
            _ => {}
        }
    }
    calls
}

fn harmless(call: &Call) -> bool {
    match call {
        Call::Helper(number) => ALLOWED.iter().any(|(allowed, _)| allowed == number),
        Call::Own => true,
        Call::Other(_) => false,
    }
}

#[test]
fn the_probes_are_kprobes_and_one_tracepoint_and_call_nothing_that_writes() {
    let bytes = fs::read(env!("IPVS_OBSERVER_EBPF_OBJECT")).expect("the object that the program carries");
    let object = object::File::parse(&*bytes).expect("an object");
    let mut programs = 0;
    for section in object.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else {
            panic!("no ELF");
        };
        if sh_flags & u64::from(elf::SHF_EXECINSTR) == 0 {
            continue;
        }
        let name = section.name().expect("a name");
        assert!(
            matches!(name, ".text" | "kprobe" | "kretprobe" | "raw_tp/kfree_skb"),
            "a program of another kind: {name}"
        );
        programs += usize::from(name != ".text");
        let calls = calls(section.data().expect("code"));
        assert!(!calls.is_empty(), "{name} calls nothing, which no probe does");
        let harmful: Vec<_> = calls.iter().filter(|call| !harmless(call)).collect();
        assert!(harmful.is_empty(), "{name}: {harmful:?}");
    }
    assert_eq!(
        programs, 3,
        "sections of kprobes, of kretprobes and of the tracepoint"
    );
}

#[test]
fn a_call_that_writes_would_be_seen() {
    let probe_write_user = [0x85, 0, 0, 0, 36, 0, 0, 0];
    let kernel_function = [0x85, 0x20, 0, 0, 9, 0, 0, 0];
    let by_register = [0x8d, 0, 0, 0, 0, 0, 0, 0];
    // A number that looks like a call is none.
    let load = [0x18, 1, 0, 0, 1, 0, 0, 0, 0x85, 0, 0, 0, 36, 0, 0, 0];
    for (code, expected) in [
        (probe_write_user, Call::Helper(36)),
        (kernel_function, Call::Other(2)),
        (by_register, Call::Other(0)),
    ] {
        let found = calls(&[&load[..], &code].concat());
        assert_eq!(found, [expected]);
        assert!(!harmless(&found[0]));
    }
}

/// What makes something that others might open: a file, a folder, a pinned map, a socket that is listened on.
const MAKES: [&str; 13] = [
    "File::create",
    "OpenOptions",
    "File::options",
    "fs::write",
    "fs::copy",
    "create_dir",
    "fs::hard_link",
    "fs::symlink(",
    "mkfifo",
    "Listener",
    "bind(",
    "pin(",
    "memfd",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .collect()
}

#[test]
fn nothing_is_made_that_another_user_could_open() {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.len() > 50);
    for path in sources {
        // Tests may make files.
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for makes in MAKES {
            assert!(
                !code.contains(makes),
                "{} has `{makes}`: what it makes must be for its owner alone, and SECURITY.md must name it",
                path.display()
            );
        }
    }
}
