//! An array of the probes, mapped into this process's memory.
//!
//! Nothing is asked of the kernel to read or write one, which matters: while a process asks for an entry of a map, the
//! kernel skips every probe on that CPU, and what they would have counted is missing.

use std::{
    io,
    marker::PhantomData,
    os::fd::AsFd,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering, fence},
};

use aya::{
    Ebpf, Pod,
    maps::{Map, MapData},
};
use ipvs_observer_common::slot::Owner;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An array of which a part is mapped: the first entries, as many as were asked for, or those turned to.
pub(super) struct Mapped<T> {
    map: MapData,
    /// Entries that the array has.
    entries: u32,
    access: ProtFlags,
    area: Option<Area>,
    kind: PhantomData<T>,
}

/// Memory that the kernel shares.
struct Area {
    begin: NonNull<AtomicU64>,
    bytes: usize,
    /// The entry that it begins with, and how many there are.
    first: u32,
    entries: u32,
}

// SAFETY: the memory is the process's, whichever thread it is used in.
unsafe impl Send for Area {}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: this is a whole mapping, and whoever borrowed from it is gone.
        let _ = unsafe { munmap(self.begin.as_ptr().cast(), self.bytes) };
    }
}

impl<T: Pod> Mapped<T> {
    const WORDS: usize = {
        assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8);
        size_of::<T>() / 8
    };

    /// To read from.
    ///
    /// # Errors
    /// The object has no such array.
    pub(super) fn readable(ebpf: &mut Ebpf, name: &str) -> io::Result<Self> {
        Self::of(ebpf, name, ProtFlags::READ)
    }

    /// To write to.
    ///
    /// # Errors
    /// The object has no such array.
    pub(super) fn writable(ebpf: &mut Ebpf, name: &str) -> io::Result<Self> {
        Self::of(ebpf, name, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn of(ebpf: &mut Ebpf, name: &str, access: ProtFlags) -> io::Result<Self> {
        let Some(Map::Array(map)) = ebpf.take_map(name) else {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no array {name}"),
            ));
        };
        let entries = map.info().map_err(io::Error::other)?.max_entries();
        Ok(Self {
            map,
            entries,
            access,
            area: None,
            kind: PhantomData,
        })
    }

    /// Makes sure that the first `entries` are mapped, as far as there are so many.
    ///
    /// # Errors
    /// There is no memory to map them to.
    pub(super) fn reach(&mut self, entries: u32) -> io::Result<()> {
        let mapped = self.area.as_ref().map_or(0, |area| area.entries);
        if mapped < entries.min(self.entries) {
            // In steps that grow, for a table that does.
            self.map_from(0, entries.saturating_add(entries / 4))?;
        }
        Ok(())
    }

    /// Makes sure that `entries` from `first` on are mapped, in the place of all others: what is mapped counts as this
    /// process's memory, and of a large array that is read from its beginning to its end a part is enough. `first`
    /// begins a page.
    ///
    /// # Errors
    /// There is no memory to map them to.
    pub(super) fn turn_to(&mut self, first: u32, entries: u32) -> io::Result<()> {
        let mapped = self.area.as_ref().is_some_and(|area| area.first == first);
        if !mapped && first < self.entries {
            self.area = None;
            self.map_from(first, entries)?;
        }
        Ok(())
    }

    /// Gives back what is mapped.
    pub(super) fn release(&mut self) {
        self.area = None;
    }

    /// Maps so many entries from `first` on, or as many as there are. `first` begins a page.
    fn map_from(&mut self, first: u32, entries: u32) -> io::Result<()> {
        let place = |entry: u32| entry as usize * size_of::<T>();
        let (page, end) = (rustix::param::page_size(), self.entries - first);
        let bytes = place(entries.min(end)).next_multiple_of(page);
        // SAFETY: a new mapping, at an address of the kernel's choosing.
        let begin = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                self.access,
                MapFlags::SHARED,
                self.map.fd().as_fd(),
                place(first) as u64,
            )?
        };
        let begin = NonNull::new(begin.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        self.area = Some(Area {
            begin,
            bytes,
            first,
            entries: end.min((bytes / size_of::<T>()) as u32),
        });
        Ok(())
    }

    /// The words of an entry; none if it is not mapped.
    #[inline]
    pub(super) fn words(&self, index: u32) -> Option<&[AtomicU64]> {
        let area = self.area.as_ref()?;
        let place = index
            .checked_sub(area.first)
            .filter(|&place| place < area.entries)?;
        // SAFETY: the entry is within the mapping, whose beginning is aligned to a page, and lives as long as the
        // borrow of `self`. Who else changes it, the programs, does so in whole words.
        Some(unsafe {
            let first = area.begin.add(place as usize * Self::WORDS);
            std::slice::from_raw_parts(first.as_ptr(), Self::WORDS)
        })
    }

    /// An entry as it is now, each of its words for itself; none if it is not mapped.
    pub(super) fn read(&self, index: u32) -> Option<T> {
        let words = self.words(index)?;
        let mut value = std::mem::MaybeUninit::<T>::uninit();
        for (place, word) in words.iter().enumerate() {
            let word = word.load(Ordering::Relaxed);
            // SAFETY: `WORDS` words make a value, and `place` is one of them.
            unsafe { value.as_mut_ptr().cast::<u64>().add(place).write_unaligned(word) };
        }
        // SAFETY: all of it was written, and `Pod` promises that every pattern of bytes is a value.
        Some(unsafe { value.assume_init() })
    }

    /// Changes an entry, each of its words for itself. What is not mapped stays as it is.
    pub(super) fn write(&mut self, index: u32, value: &T) {
        for (place, word) in self.words(index).into_iter().flatten().enumerate() {
            // SAFETY: `WORDS` words make a value, and `place` is one of them.
            let new = unsafe { ptr::from_ref(value).cast::<u64>().add(place).read_unaligned() };
            word.store(new, Ordering::Relaxed);
        }
    }
}

impl<K> Mapped<Owner<K>>
where
    Owner<K>: Pod,
{
    /// The generation of a slot; none if it is nobody's.
    pub(super) fn generation(&self, slot: u32) -> Option<u64> {
        let generation = self.words(slot)?.first()?.load(Ordering::Acquire);
        Some(generation).filter(|&generation| generation != 0)
    }

    /// Whose a slot is, and of which generation; none if it is nobody's, or becomes somebody else's just now.
    pub(super) fn owner(&self, slot: u32) -> Option<Owner<K>> {
        let before = self.generation(slot)?;
        let owner = self.read(slot)?;
        fence(Ordering::Acquire);
        (self.generation(slot) == Some(before) && owner.generation == before).then_some(owner)
    }
}
