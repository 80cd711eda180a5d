//! What no probe ran for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::{Datagrams, Trace, decisions, untraceable};
use crate::abilities::version;

/// Asks for the entries of a large empty map, over and over, until it is dropped: what another program may do.
struct Asking {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Asking {
    fn start(threads: usize) -> Self {
        const MAP_CREATE: libc::c_int = 0;
        const LOOKUP_BATCH: libc::c_int = 24;
        const HASH: u32 = 1;
        const NO_PREALLOCATION: u32 = 1;
        let bpf = |command: libc::c_int, attributes: &mut [u32]| {
            // SAFETY: the attributes are as long as is said, and what they point to outlives the call.
            unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    command,
                    attributes.as_mut_ptr(),
                    size_of_val(attributes),
                )
            }
        };
        let map = bpf(MAP_CREATE, &mut [HASH, 8, 8, 1 << 20, NO_PREALLOCATION]);
        let map = u32::try_from(map).expect("a map");
        let stop = Arc::new(AtomicBool::new(false));
        let ask = || {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let (mut keys, mut values, mut next) = ([0_u64; 8], [0_u64; 8], 0_u64);
                let halves = |pointer: u64| [pointer as u32, (pointer >> 32) as u32];
                while !stop.load(Ordering::Relaxed) {
                    let [next, next_high] = halves((&raw mut next) as u64);
                    let [keys, keys_high] = halves(keys.as_mut_ptr() as u64);
                    let [values, values_high] = halves(values.as_mut_ptr() as u64);
                    let mut attributes = [
                        0,
                        0,
                        next,
                        next_high,
                        keys,
                        keys_high,
                        values,
                        values_high,
                        8,
                        map,
                        0,
                        0,
                        0,
                        0,
                    ];
                    let read = bpf(LOOKUP_BATCH, &mut attributes);
                    let error = std::io::Error::last_os_error();
                    assert!(
                        read < 0 && error.raw_os_error() == Some(libc::ENOENT),
                        "an empty map: {error}"
                    );
                }
            })
        };
        Self {
            threads: (0..threads).map(|_| ask()).collect(),
            stop,
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("it asks, and that is all");
        }
    }
}

#[test]
fn what_the_kernel_skips_for_another_programs_sake_is_told_apart_from_what_is_lost() {
    const MADE: usize = 5000;
    if untraceable() {
        return;
    }
    let datagrams = Datagrams::to(7067);
    let send = || datagrams.send();
    let service = ["--service", "udp://10.9.0.1:7067"];
    let trace = Trace::start(&[&["--format", "json", "--ring", "16MiB"], &service[..]].concat());
    trace.wait_until_attached(send);
    let asking = Asking::start(6);
    (0..MADE).for_each(|_| send());
    asking.stop();
    thread::sleep(Duration::from_secs(2));
    let (objects, messages) = trace.stop();
    let shown = decisions(&objects).count();
    let sum = |field: &str| -> u64 {
        let told = objects.iter().filter(|object| object["kind"] == "lost");
        told.map(|object| object[field].as_u64().expect("a number")).sum()
    };
    let (lost, skipped) = (sum("decisions"), sum("skipped"));
    println!("{shown} shown, {skipped} skipped: {messages}");
    assert_eq!(lost, 0, "{messages}");
    if version() >= (6, 7) {
        assert_eq!(shown + skipped as usize, MADE, "{messages}");
        assert!(
            skipped == 0 || messages.contains(&format!("the kernel ran no probe for {skipped} decision")),
            "{messages}"
        );
    }
    // A kernel that lets a reader be preempted anywhere is one that shows it here.
    if version() >= (7, 0) {
        assert!(skipped > 0, "nothing was skipped, and nothing was tried");
    }
}
