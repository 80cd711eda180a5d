//! What a kernel said, kept as text: to look at a gather elsewhere, in a report or a test.
//!
//! A line is `file PATH TEXT`, `missing PATH`, `> REQUEST` or `< DATAGRAM`; text and datagrams in hexadecimal.
//! A recording holds the table's addresses and counters, and nothing else of the machine.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io, iter,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Channel, Kernel, Running, attributes::aligned};

/// Where a message carries its sequence number.
const SEQUENCE: Range<usize> = 8..12;
/// Where a message carries the socket that it is for.
const PORT: Range<usize> = 12..16;

/// Asks the running kernel, and writes down what it says.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    text: Arc<Mutex<String>>,
}

impl Recorder {
    /// What was written down so far.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, line: &str) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
    }
}

impl Kernel for Recorder {
    fn exists(&mut self, path: &str) -> bool {
        let exists = Running.exists(path);
        if exists {
            self.note(&format!("file {path} "));
        } else {
            self.note(&format!("missing {path}"));
        }
        exists
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        let outcome = Running.read(path);
        match &outcome {
            Ok(text) => self.note(&format!("file {path} {}", hexadecimal(text.as_bytes()))),
            Err(_) => self.note(&format!("missing {path}")),
        }
        outcome
    }

    fn open(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(Tap {
            channel: Running.open(timeout)?,
            recorder: self.clone(),
        }))
    }

    fn open_routes(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(Tap {
            channel: Running.open_routes(timeout)?,
            recorder: self.clone(),
        }))
    }
}

struct Tap {
    channel: Box<dyn Channel>,
    recorder: Recorder,
}

impl Channel for Tap {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.recorder
            .note(&format!("> {}", hexadecimal(&without_numbers(request))));
        self.channel.send(request)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.channel.receive(buffer)?;
        let mut datagram = buffer[..length.min(buffer.len())].to_vec();
        renumber(&mut datagram, 0);
        self.recorder.note(&format!("< {}", hexadecimal(&datagram)));
        Ok(length)
    }
}

/// Says again what a kernel said.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    files: HashMap<String, String>,
    answers: HashMap<Vec<u8>, Vec<Vec<u8>>>,
}

impl Recording {
    /// Reads what a [`Recorder`] wrote.
    ///
    /// # Errors
    /// The number of the line that is none of its lines.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut recording = Self::default();
        let mut request = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let wrong = || format!("line {} is no line of a recording", number + 1);
            let (word, rest) = line.split_once(' ').ok_or_else(wrong)?;
            match word {
                "missing" => {}
                "file" => {
                    let (path, content) = rest.split_once(' ').ok_or_else(wrong)?;
                    let content =
                        String::from_utf8(bytes(content).ok_or_else(wrong)?).map_err(|_| wrong())?;
                    recording.files.insert(path.to_owned(), content);
                }
                ">" => {
                    request = bytes(rest).ok_or_else(wrong)?;
                    // Asked more than once, the last answer counts.
                    recording.answers.insert(request.clone(), Vec::new());
                }
                "<" => {
                    let datagram = bytes(rest).ok_or_else(wrong)?;
                    recording
                        .answers
                        .get_mut(&request)
                        .ok_or_else(wrong)?
                        .push(datagram);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(recording)
    }

    /// The datagrams in the text of a recording.
    pub fn datagrams(text: &str) -> impl Iterator<Item = Vec<u8>> {
        text.lines()
            .filter_map(|line| line.strip_prefix("< ").and_then(bytes))
    }

    /// Where the messages of a datagram are, as their headers say.
    pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        iter::from_fn(move || {
            let header = datagram.get(start..)?.first_chunk::<{ PORT.end }>()?;
            let length = header.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))? as usize;
            let message = start..start + length;
            // One that is shorter than its header is the last.
            start += if length < PORT.end {
                datagram.len()
            } else {
                aligned(length)
            };
            Some(message)
        })
    }
}

impl Kernel for Recording {
    fn exists(&mut self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    fn read(&mut self, path: &str) -> io::Result<String> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open(&mut self, _timeout: Duration) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(Replay {
            recording: self.clone(),
            sequence: 0,
            waiting: Vec::new(),
        }))
    }

    /// The requests tell by themselves which family they are for.
    fn open_routes(&mut self, timeout: Duration) -> io::Result<Box<dyn Channel>> {
        self.open(timeout)
    }
}

struct Replay {
    recording: Recording,
    sequence: u32,
    waiting: Vec<Vec<u8>>,
}

impl Channel for Replay {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        let number = request
            .get(SEQUENCE)
            .and_then(|bytes| bytes.try_into().ok())
            .unwrap_or_default();
        self.sequence = u32::from_ne_bytes(number);
        let answer = self.recording.answers.get(&without_numbers(request));
        self.waiting = answer.cloned().ok_or(io::ErrorKind::NotFound)?;
        self.waiting.reverse();
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut datagram = self.waiting.pop().ok_or(io::ErrorKind::WouldBlock)?;
        renumber(&mut datagram, self.sequence);
        let room = datagram.len().min(buffer.len());
        buffer[..room].copy_from_slice(&datagram[..room]);
        Ok(datagram.len())
    }
}

/// A request without what differs from one asking to the next.
fn without_numbers(request: &[u8]) -> Vec<u8> {
    let mut request = request.to_vec();
    for part in [SEQUENCE, PORT] {
        if let Some(number) = request.get_mut(part) {
            number.fill(0);
        }
    }
    request
}

/// Gives every message of a datagram the sequence number, and no socket.
fn renumber(datagram: &mut [u8], sequence: u32) {
    let starts: Vec<_> = Recording::messages(datagram)
        .map(|message| message.start)
        .collect();
    for start in starts {
        let header = &mut datagram[start..start + PORT.end];
        header[SEQUENCE].copy_from_slice(&sequence.to_ne_bytes());
        header[PORT].fill(0);
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_none_is_named_by_its_number() {
        for text in ["missing /x\nwhat", "file /x 0", "< 00", "> 0g"] {
            assert!(
                Recording::parse(text).is_err_and(|error| error.starts_with("line ")),
                "{text}"
            );
        }
    }

    #[test]
    fn datagrams_get_the_number_of_the_request_they_answer() -> Result<(), Box<dyn std::error::Error>> {
        let datagram = "10000000030002000000000000000000";
        let request = "10000000100001000000000000000000";
        let mut recording = Recording::parse(&format!("> {request}\n< {datagram}\n"))?;
        let mut channel = recording.open(Duration::ZERO)?;
        let mut asked = bytes(request).ok_or("hexadecimal")?;
        asked[SEQUENCE].copy_from_slice(&77u32.to_ne_bytes());
        channel.send(&asked)?;
        let mut buffer = [0; 64];
        assert_eq!(channel.receive(&mut buffer)?, 16);
        assert_eq!(buffer[SEQUENCE], 77u32.to_ne_bytes());
        let silence = channel.receive(&mut buffer);
        assert!(silence.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
        Ok(())
    }
}
