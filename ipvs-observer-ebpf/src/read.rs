//! Reading kernel memory at an offset that the running kernel told.
//!
//! Every read goes through `bpf_probe_read_kernel`: a wrong address gives nothing, never a fault.

use core::ffi::c_void;

use aya_ebpf::{Global, helpers::generated};
use ipvs_observer_common::layout::{Field, Layout};

/// Where the running kernel keeps what is read here. All absent until userspace says otherwise.
#[unsafe(no_mangle)]
pub static LAYOUT: Global<Layout> = Global::new(Layout::NONE);

/// One part of the layout, without copying the rest.
macro_rules! layout {
    ($($part:ident).+) => {{
        let layout = (&raw const $crate::read::LAYOUT).cast::<ipvs_observer_common::layout::Layout>();
        // SAFETY: `Global` is a transparent wrapper of an initialized value. Volatile, because userspace
        // replaces the value after compilation.
        unsafe { core::ptr::read_volatile(&raw const (*layout).$($part).+) }
    }};
}
pub(crate) use layout;

/// Whether all of a set of features have their fields.
#[inline(always)]
pub fn has(features: u32) -> bool {
    layout!(features) & features == features
}

/// A number of up to eight bytes, however wide this kernel has it; 0 if it cannot be read.
///
/// No read branches on its failure: the helper leaves zeros, and a branch at each of a thousand reads is more
/// than the verifier follows.
#[inline(always)]
pub fn number(structure: u64, field: Field) -> u64 {
    let mut value = 0u64;
    let size = if field.size > 8 { 8 } else { u32::from(field.size) };
    // SAFETY: at most the eight bytes of `value` are written; the source is checked by the helper.
    unsafe { generated::bpf_probe_read_kernel((&raw mut value).cast(), size, at(structure, field)) };
    value
}

/// A number in network order, as it is in the host's.
#[inline(always)]
pub fn port(structure: u64, field: Field) -> u16 {
    u16::from_be(number(structure, field) as u16)
}

/// Bytes at an address; zeros if they cannot be read.
#[inline(always)]
pub fn bytes<const N: usize>(address: u64) -> [u8; N] {
    let mut value = [0u8; N];
    // SAFETY: exactly the bytes of `value` are written; the source is checked by the helper.
    unsafe { generated::bpf_probe_read_kernel((&raw mut value).cast(), N as u32, address as *const _) };
    value
}

/// Puts a string of up to `N` bytes in a place, with its NUL if it fits; empty if it cannot be read. Not by way of the
/// stack, which is small.
#[inline(always)]
pub fn string<const N: usize>(place: &mut [u8; N], address: u64) {
    *place = [0; N];
    // SAFETY: at most the bytes of `place` are written; the source is checked by the helper.
    unsafe { generated::bpf_probe_read_kernel_str(place.as_mut_ptr().cast(), N as u32, address as *const _) };
}

pub const INET: u16 = 2;

/// Puts the sixteen bytes of an address in a place; behind the four of IPv4 is whatever the kernel has there.
#[inline(always)]
pub fn raw_address(place: &mut [u8; 16], structure: u64, field: Field) {
    // SAFETY: exactly the bytes of `place` are written; the source is checked by the helper.
    unsafe { generated::bpf_probe_read_kernel(place.as_mut_ptr().cast(), 16, at(structure, field)) };
}

/// An address: four bytes of IPv4 or sixteen of anything else, and zeros behind.
#[inline(always)]
pub fn address(structure: u64, field: Field, family: u16) -> [u8; 16] {
    let mut address = [0u8; 16];
    let size = if family == INET { 4 } else { 16 };
    // SAFETY: at most the sixteen bytes of `address` are written; the source is checked by the helper.
    unsafe { generated::bpf_probe_read_kernel((&raw mut address).cast(), size, at(structure, field)) };
    address
}

#[inline(always)]
fn at(structure: u64, field: Field) -> *const c_void {
    structure.wrapping_add(u64::from(field.offset)) as *const c_void
}
