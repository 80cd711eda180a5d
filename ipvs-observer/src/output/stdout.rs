//! Standard output: a pipe to Telegraf, a terminal or a file.

use std::io;

use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{FileType, fstat},
    io::Errno,
    pipe::PIPE_BUF,
    stdio,
};

use super::Failure;

/// Writes to standard output, whole lines at a time.
///
/// To a pipe it writes no more than the system writes in one piece, and waits for room before each: whatever
/// ends the process, and whenever, the reader has seen whole lines only.
#[derive(Debug)]
pub struct Stdout {
    pipe: bool,
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Stdout {
    /// Looks at what standard output is.
    pub fn new() -> Self {
        let pipe =
            fstat(stdio::stdout()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        Self { pipe }
    }

    /// Writes `lines`, each ended by a newline.
    ///
    /// # Errors
    /// The reader is gone, or the system refuses.
    pub fn write(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let mut rest = lines;
        while !rest.is_empty() {
            let limit = if self.pipe { PIPE_BUF } else { rest.len() };
            let (mut chunk, behind) = rest.split_at(whole_lines(rest, limit));
            rest = behind;
            while !chunk.is_empty() {
                let written = self.write_some(chunk)?;
                chunk = &chunk[written..];
            }
        }
        Ok(())
    }

    fn write_some(&self, chunk: &[u8]) -> Result<usize, Failure> {
        let stdout = stdio::stdout();
        loop {
            if self.pipe {
                match poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(failure(error)),
                }
            }
            match rustix::io::write(stdout, chunk) {
                Ok(written) => return Ok(written),
                Err(Errno::INTR) => {}
                // A reader that shares the pipe may have made it non-blocking.
                Err(Errno::AGAIN) => {
                    let _ = poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None);
                }
                Err(error) => return Err(failure(error)),
            }
        }
    }
}

fn failure(error: Errno) -> Failure {
    match error {
        Errno::PIPE => Failure::Closed,
        error => Failure::Io {
            name: "stdout",
            error: io::Error::from(error),
        },
    }
}

/// How many bytes of whole lines fit `limit`; where not even one does, that one line.
fn whole_lines(lines: &[u8], limit: usize) -> usize {
    if lines.len() <= limit {
        return lines.len();
    }
    let newline = |byte: &u8| *byte == b'\n';
    match lines[..limit].iter().rposition(newline) {
        Some(end) => end + 1,
        None => lines.iter().position(newline).map_or(lines.len(), |end| end + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::whole_lines;

    #[test]
    fn lines_are_never_cut() {
        assert_eq!(whole_lines(b"aa\nbb\ncc\n", 7), 6);
        assert_eq!(whole_lines(b"aa\nbb\ncc\n", 6), 6);
        assert_eq!(whole_lines(b"aa\nbb\n", 100), 6);
    }

    #[test]
    fn a_line_longer_than_the_limit_goes_out_by_itself() {
        assert_eq!(whole_lines(b"aaaaaaaa\nbb\n", 4), 9);
        assert_eq!(whole_lines(b"aaaaaaaa", 4), 8);
    }
}
