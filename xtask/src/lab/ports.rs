//! The host's side of the guest's ports: the command's streams, and the words about the run.
//!
//! Each port is a socket that qemu connects to. Bytes pass unchanged, and as they come.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};

use super::guest::{self, Word};

/// How often the host looks whether qemu still runs.
const TICK: Duration = Duration::from_millis(50);
/// The exit status where the reader of stdout went away, as shells report a death by SIGPIPE.
const CLOSED_PIPE: u8 = 141;

/// The command's streams on the host.
pub(crate) struct Streams {
    pub(crate) stdin: Box<dyn Read + Send>,
    pub(crate) stdout: Box<dyn Write + Send>,
    pub(crate) stderr: Box<dyn Write + Send>,
}

impl Streams {
    /// This process's own.
    pub(crate) fn own() -> Self {
        Self {
            stdin: Box::new(io::stdin()),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
        }
    }

    /// This process's own, without stdin.
    pub(crate) fn output() -> Self {
        Self {
            stdin: Box::new(io::empty()),
            ..Self::own()
        }
    }
}

/// What is printed, kept. Its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    /// What has come so far.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.locked().clone()
    }

    /// A panic of another thread has not changed what it wrote before.
    fn locked(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.locked().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sockets that wait for qemu.
pub(crate) struct Listening([UnixListener; 4]);

/// Sockets that qemu has connected to.
pub(crate) struct Ports {
    control: UnixStream,
    stdin: UnixStream,
    outputs: [UnixStream; 2],
}

/// What the threads that serve the ports tell the one that waits.
enum Event {
    Word(Word),
    /// Nobody reads what the command prints.
    Closed,
}

impl Listening {
    /// Makes the sockets, each at the path that `place` has for its name, and gives the ports to the
    /// machine that `qemu` will start.
    pub(crate) fn new(qemu: &mut Command, place: impl Fn(&str) -> PathBuf) -> Result<Self> {
        qemu.args(["-device", "virtio-serial-pci"]);
        let mut listen = |name: &str| -> Result<UnixListener> {
            let socket = place(name);
            let listener = UnixListener::bind(&socket)?;
            // Qemu may end before it connects.
            listener.set_nonblocking(true)?;
            qemu.arg("-chardev")
                .arg(format!("socket,id={name},path={}", socket.display()));
            qemu.arg("-device")
                .arg(format!("virtserialport,chardev={name},name={name}"));
            Ok(listener)
        };
        Ok(Self([
            listen(guest::CONTROL)?,
            listen(guest::STDIN)?,
            listen(guest::STDOUT)?,
            listen(guest::STDERR)?,
        ]))
    }

    /// Waits for qemu, as long as `alive` finds nothing wrong.
    pub(crate) fn connect(&self, mut alive: impl FnMut() -> Result<()>) -> Result<Ports> {
        let mut accept = |listener: &UnixListener| -> Result<UnixStream> {
            loop {
                match listener.accept() {
                    Ok((port, _)) => {
                        port.set_nonblocking(false)?;
                        return Ok(port);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
                alive()?;
                thread::sleep(TICK / 10);
            }
        };
        let [control, stdin, stdout, stderr] = &self.0;
        Ok(Ports {
            control: accept(control)?,
            stdin: accept(stdin)?,
            outputs: [accept(stdout)?, accept(stderr)?],
        })
    }
}

impl Ports {
    /// Passes everything on until the guest says that the command is done, and returns its status.
    /// `alive` is asked in between and ends it by failing; `started` is called before the first output.
    pub(crate) fn serve(
        self,
        streams: Streams,
        mut alive: impl FnMut() -> Result<()>,
        started: impl FnOnce(),
    ) -> Result<u8> {
        let Self {
            control,
            stdin,
            outputs,
        } = self;
        let (events, inbox) = mpsc::channel();
        let words = events.clone();
        thread::spawn(move || read_words(control, &words));
        thread::spawn(move || feed(streams.stdin, stdin));
        let copied = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
        let mut begin = Some(|| {
            started();
            copy_all([streams.stdout, streams.stderr], outputs, &copied, &events);
        });
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(Event::Word(Word::Started)) => {
                    if let Some(begin) = begin.take() {
                        begin();
                    }
                }
                Ok(Event::Word(Word::Done { status, written })) => {
                    // The last of it may still be on its way.
                    while copied
                        .iter()
                        .zip(written)
                        .any(|(count, written)| count.load(Ordering::Acquire) < written)
                    {
                        if let Ok(Event::Closed) = inbox.recv_timeout(TICK / 10) {
                            return Ok(CLOSED_PIPE);
                        }
                        alive()?;
                    }
                    return Ok(status);
                }
                Ok(Event::Word(Word::Failed(reason))) => bail!("the guest gave up: {reason}"),
                Ok(Event::Closed) => return Ok(CLOSED_PIPE),
                Err(mpsc::RecvTimeoutError::Timeout) => alive()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the control port was closed"),
            }
        }
    }
}

fn read_words(control: UnixStream, events: &mpsc::Sender<Event>) {
    for line in BufReader::new(control).lines() {
        let Ok(line) = line else { return };
        if let Some(word) = Word::read(&line)
            && events.send(Event::Word(word)).is_err()
        {
            return;
        }
    }
}

/// Hands stdin to the guest; its end is the end of the command's stdin.
fn feed(mut stdin: Box<dyn Read + Send>, mut port: UnixStream) {
    // Each of these fails when the guest is gone, and then nobody is left to tell.
    let _ = io::copy(&mut stdin, &mut port);
    // Only this half: qemu drops what it has not yet read of a socket that is closed altogether.
    let _ = port.shutdown(Shutdown::Write);
    let _ = io::copy(&mut port, &mut io::sink());
}

fn copy_all(
    outputs: [Box<dyn Write + Send>; 2],
    ports: [UnixStream; 2],
    copied: &[Arc<AtomicU64>; 2],
    events: &mpsc::Sender<Event>,
) {
    for ((output, port), copied) in outputs.into_iter().zip(ports).zip(copied) {
        let (events, copied) = (events.clone(), Arc::clone(copied));
        thread::spawn(move || {
            if copy(port, output, &copied).is_err() {
                // The receiver may be gone, having heard the same of the other port.
                let _ = events.send(Event::Closed);
            }
        });
    }
}

/// Copies each piece as it comes, and counts; fails if nobody takes it.
fn copy(mut port: UnixStream, mut output: Box<dyn Write + Send>, copied: &AtomicU64) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        match port.read(&mut piece) {
            // The end, or qemu's: either way there is no more.
            Ok(0) | Err(_) => return Ok(()),
            Ok(length) => {
                output.write_all(&piece[..length])?;
                output.flush()?;
                copied.fetch_add(length as u64, Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a guest would say and write, and what the host makes of it.
    fn serve(words: &str, output: &[u8]) -> (Result<u8>, Vec<u8>) {
        let (control, mut guest_control) = UnixStream::pair().unwrap();
        let (stdin, _guest_stdin) = UnixStream::pair().unwrap();
        let (stdout, mut guest_stdout) = UnixStream::pair().unwrap();
        let (stderr, _guest_stderr) = UnixStream::pair().unwrap();
        let (taken, mut read_back) = UnixStream::pair().unwrap();
        guest_control.write_all(words.as_bytes()).unwrap();
        guest_stdout.write_all(output).unwrap();
        let streams = Streams {
            stdin: Box::new(io::empty()),
            stdout: Box::new(taken),
            stderr: Box::new(io::sink()),
        };
        let mut ticks = 0;
        let alive = || {
            ticks += 1;
            if ticks > 20 {
                bail!("the time limit has passed");
            }
            Ok(())
        };
        let ports = Ports {
            control,
            stdin,
            outputs: [stdout, stderr],
        };
        let status = ports.serve(streams, alive, || {});
        drop(guest_stdout);
        let mut text = Vec::new();
        read_back.read_to_end(&mut text).unwrap();
        (status, text)
    }

    #[test]
    fn a_run_is_done_when_all_that_was_written_has_come() {
        let (status, text) = serve("started\ndone 3 5 0\n", b"a\r\nb\n");
        assert_eq!(status.unwrap(), 3);
        assert_eq!(text, b"a\r\nb\n");
    }

    #[test]
    fn output_that_never_comes_is_no_success() {
        let (status, _) = serve("started\ndone 0 6 0\n", b"a\r\nb\n");
        assert!(status.unwrap_err().to_string().contains("time limit"));
    }

    #[test]
    fn a_guest_that_gives_up_says_why() {
        let (status, _) = serve("failed no ip_vs here\n", b"");
        assert!(status.unwrap_err().to_string().contains("no ip_vs here"));
    }
}
