//! A hash map read whole, many entries to a system call.
//!
//! aya reads one entry with two calls and an allocation; a table of forty thousand destinations is read at
//! every gather. The kernel's own command for this came with, and is needed by no kernel without, the hash maps
//! that are read here.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsRawFd, BorrowedFd},
};

use aya::Pod;

/// `BPF_MAP_LOOKUP_BATCH`.
const LOOKUP_BATCH: libc::c_int = 24;
/// Entries read at once. A bucket of the map never holds so many, and a bucket is read whole.
const ENTRIES: u32 = 256;

/// The part of `union bpf_attr` that batch commands take.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// The buffers for one kind of map, kept from one reading to the next.
pub(super) struct Batch<K, V> {
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Values that each key has: one for each CPU, or a single one.
    per_key: usize,
    kind: PhantomData<(K, V)>,
}

impl<K: Pod, V: Pod> Batch<K, V> {
    /// Buffers for a map with `cpus` values to a key. Each takes a multiple of eight bytes, as the kernel has
    /// it.
    pub(super) fn new(cpus: usize) -> Self {
        const { assert!(size_of::<V>().is_multiple_of(8)) };
        Self {
            keys: vec![0; ENTRIES as usize * size_of::<K>()],
            values: vec![0; ENTRIES as usize * size_of::<V>() * cpus],
            per_key: cpus,
            kind: PhantomData,
        }
    }

    /// Gives each entry of the map, with its values, to `each`. An entry made or removed meanwhile may be left
    /// out.
    pub(super) fn read(
        &mut self,
        map: BorrowedFd<'_>,
        mut each: impl FnMut(&K, &mut dyn Iterator<Item = V>),
    ) -> io::Result<()> {
        let mut place = [0_u64; 2];
        let mut first = true;
        loop {
            let mut attributes = Attributes {
                in_batch: if first { 0 } else { (&raw const place[0]) as u64 },
                out_batch: (&raw mut place[1]) as u64,
                keys: self.keys.as_mut_ptr() as u64,
                values: self.values.as_mut_ptr() as u64,
                count: ENTRIES,
                map: map.as_raw_fd().cast_unsigned(),
                ..Attributes::default()
            };
            // SAFETY: the buffers have room for `count` keys and values as the kernel lays them out, the two
            // places have more than the four bytes that the kernel keeps there, and all outlive the call.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_bpf,
                    LOOKUP_BATCH,
                    &raw mut attributes,
                    size_of::<Attributes>(),
                )
            };
            let error = (result < 0).then(io::Error::last_os_error);
            let last = match &error {
                None => false,
                // The end of the map; what was read before it counts.
                Some(error) if error.kind() == io::ErrorKind::NotFound => true,
                Some(_) => return error.map_or(Ok(()), Err),
            };
            self.give(attributes.count.min(ENTRIES) as usize, &mut each);
            if last {
                return Ok(());
            }
            place[0] = place[1];
            first = false;
        }
    }

    fn give(&self, count: usize, each: &mut impl FnMut(&K, &mut dyn Iterator<Item = V>)) {
        let keys = self.keys.chunks_exact(size_of::<K>());
        let values = self.values.chunks_exact(size_of::<V>() * self.per_key);
        for (key, values) in keys.zip(values).take(count) {
            // SAFETY: `Pod` promises that every pattern of bytes is a value, and the slices are as long.
            let key = unsafe { key.as_ptr().cast::<K>().read_unaligned() };
            let mut values = values.chunks_exact(size_of::<V>()).map(|value| {
                // SAFETY: as above.
                unsafe { value.as_ptr().cast::<V>().read_unaligned() }
            });
            each(&key, &mut values);
        }
    }
}
