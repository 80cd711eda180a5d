//! The connection table, `/proc/net/ip_vs_conn`: read once from its beginning to its end, and nothing of it kept.
//!
//! A read returns at most a page of the kernel's, whatever the room. Before Linux 6.14 each looks for its place from
//! the beginning, so that the time grows with the square of the table. Who comes or goes meanwhile may be missed or
//! come twice.

use std::{
    fs::File,
    io::{self, Read},
};

use crate::model::{Address, DestinationKey, Entries, Entry, EntryState, Family, Protocol};

const TABLE: &str = "/proc/thread-self/net/ip_vs_conn";
/// The largest page of any processor.
const ROOM: usize = 1 << 16;

/// Counts the connection table of the calling thread's network namespace. False if it was given up, because
/// `give_up` said so, which is asked between two reads.
///
/// # Errors
/// The table cannot be read, or is not as the kernel writes it.
pub fn count(entries: &mut Entries, give_up: &dyn Fn() -> bool) -> io::Result<bool> {
    count_from(File::open(TABLE)?, entries, give_up)
}

/// The same of a table that was opened.
///
/// # Errors
/// As with [`count`].
pub fn count_from(
    mut table: impl Read,
    entries: &mut Entries,
    give_up: &dyn Fn() -> bool,
) -> io::Result<bool> {
    let nonsense = || io::Error::new(io::ErrorKind::InvalidData, "a line makes no sense");
    let mut buffer = vec![0; ROOM];
    let (mut filled, mut heading) = (0, true);
    loop {
        if give_up() {
            return Ok(false);
        }
        let read = match table.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => break,
            Ok(0) => return Err(nonsense()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = filled + read;
        let mut begin = 0;
        while let Some(length) = buffer[begin..end].iter().position(|&byte| byte == b'\n') {
            let line = &buffer[begin..begin + length];
            begin += length + 1;
            if !std::mem::take(&mut heading) {
                entries.count(&entry(line).ok_or_else(nonsense)?);
            }
        }
        buffer.copy_within(begin..end, 0);
        filled = end - begin;
        if filled == buffer.len() {
            return Err(nonsense());
        }
    }
    entries.finish();
    Ok(true)
}

/// An entry from its line; none if it is none.
pub fn entry(line: &[u8]) -> Option<Entry> {
    let mut words = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let protocol = protocol(words.next()?)?;
    let client = address(words.next()?)?;
    let client_port = port(words.next()?)?;
    let virtual_address = address(words.next()?)?;
    let virtual_port = port(words.next()?)?;
    let destination = DestinationKey {
        address: address(words.next()?)?,
        port: port(words.next()?)?,
    };
    if client.family() != virtual_address.family() {
        return None;
    }
    Some(Entry {
        protocol,
        address: virtual_address,
        port: virtual_port,
        destination,
        state: state(words.next()?, client_port),
    })
}

/// The kernel writes a template's state as that of no protocol's, and its client's port is 0. A connection that was
/// just made is in none either, but has a port; one of FTP that waits for its client's is in LISTEN.
fn state(word: &[u8], client_port: u16) -> EntryState {
    match word {
        b"NONE" | b"ASSURED" if client_port == 0 => EntryState::Template,
        b"ESTABLISHED" => EntryState::Established,
        b"SYN_RECV" => EntryState::SynReceived,
        b"TIME_WAIT" => EntryState::TimeWait,
        _ => EntryState::Other,
    }
}

/// As `ip_vs_proto_name` writes it.
fn protocol(word: &[u8]) -> Option<Protocol> {
    Some(match word {
        b"TCP" => Protocol::TCP,
        b"UDP" => Protocol::UDP,
        b"SCTP" => Protocol::SCTP,
        b"IP" => Protocol::IP,
        b"ICMP" => Protocol(1),
        b"ICMPv6" => Protocol(58),
        _ => Protocol(
            std::str::from_utf8(word.strip_prefix(b"IP_")?)
                .ok()?
                .parse()
                .ok()?,
        ),
    })
}

fn port(word: &[u8]) -> Option<u16> {
    let digits: [u8; 4] = word.try_into().ok()?;
    Some(hexadecimal(&digits)? as u16)
}

/// Eight digits of IPv4, or eight groups of four of IPv6.
fn address(word: &[u8]) -> Option<Address> {
    let mut bytes = [0; 16];
    if word.len() == 8 {
        bytes[..4].copy_from_slice(&hexadecimal(word)?.to_be_bytes());
        return Some(Address::new(Family::INET, bytes));
    }
    if word.len() != 39 {
        return None;
    }
    for (group, (place, bytes)) in word.chunks(5).zip(bytes.chunks_mut(2).enumerate()) {
        let (digits, colon) = group.split_at(4);
        if colon != if place < 7 { b":".as_slice() } else { b"" } {
            return None;
        }
        bytes.copy_from_slice(&(hexadecimal(digits)? as u16).to_be_bytes());
    }
    Some(Address::new(Family::INET6, bytes))
}

/// At most eight digits.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, &digit| {
        Some(number << 4 | char::from(digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests;
