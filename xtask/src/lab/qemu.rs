//! The machine: qemu with two processors, no network device, and four ports to the guest.
//!
//! Emulation unless asked otherwise: a /dev/kvm may be there and hang. Every end but the guest's own
//! "done" is an error with the console's last lines: a panic, a death of qemu, a run out of time.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    emulator, initramfs,
    ports::{Listening, Streams},
    run::{Processors, Run},
};
use crate::{process, workspace::Workspace};

/// How much of the console an error shows.
const CONSOLE_LINES: usize = 40;

impl Run {
    /// Boots, runs the command, and fails unless it exits with 0. `what` it is begins the error.
    pub(crate) fn succeed(&self, workspace: &Workspace, streams: Streams, what: &str) -> Result<()> {
        match self.status(workspace, streams, || {})? {
            0 => Ok(()),
            status => bail!("{what} ended with status {status}"),
        }
    }

    /// Boots, runs the command, and returns its exit status. `started` is called when the command starts, before
    /// anything of its output is written.
    pub(crate) fn status(
        &self,
        workspace: &Workspace,
        streams: Streams,
        started: impl FnOnce(),
    ) -> Result<u8> {
        let folder = Folder::new()?;
        let initramfs = folder.path("initramfs");
        initramfs::write(workspace, self, &initramfs)?;
        let console = folder.path("console");
        let mut command = self.qemu(workspace, &initramfs)?;
        command
            .arg("-chardev")
            .arg(format!("file,id=console,path={}", console.display()));
        let listening = Listening::new(&mut command, |name| folder.path(name))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut machine = Machine::start(command)?;
        let deadline = Instant::now() + self.limit;
        let outcome = listening
            .connect(|| machine.alive(deadline))
            .and_then(|ports| ports.serve(streams, || machine.alive(deadline), started));
        outcome.map_err(|cause| {
            anyhow!(
                "the run on kernel {} has failed: {cause:#}; the console's last lines:\n{}",
                self.kernel.version,
                tail(&console)
            )
        })
    }

    /// Boots with the terminal as the guest's console and a shell on it.
    pub(crate) fn shell(&self, workspace: &Workspace) -> Result<ExitCode> {
        let folder = Folder::new()?;
        let initramfs = folder.path("initramfs");
        initramfs::write(workspace, self, &initramfs)?;
        let mut command = self.qemu(workspace, &initramfs)?;
        command.args(["-chardev", "stdio,id=console,signal=off"]);
        Ok(process::exit_code(command.status().context("cannot run qemu")?))
    }

    fn qemu(&self, workspace: &Workspace, initramfs: &Path) -> Result<Command> {
        let emulator = emulator::ensure(&workspace.lab())?;
        // The machine dies with this process, however that ends.
        let mut command = process::command("setpriv");
        command.args(["--pdeathsig", "TERM"]).args(emulator.words());
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        let accelerator = match self.processors {
            Processors::Kvm => "kvm",
            Processors::OneThread | Processors::Counted => "tcg,thread=single",
            Processors::ThreadEach => "tcg,thread=multi",
        };
        command.args(["-accel", accelerator]);
        if self.processors == Processors::Counted {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        command.args(["-smp", "2", "-m", &self.memory.to_string()]);
        command
            .arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(initramfs);
        command.args([
            "-append",
            // An oops is the end of the run, and a panic the end of qemu. The mitigations of real
            // processors and the tests of every cipher cost a second, and gain nothing here.
            "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off cryptomgr.notests",
        ]);
        command.args(["-serial", "chardev:console", "-device", "virtio-rng-pci"]);
        Ok(command)
    }
}

/// A running qemu; it ends with this value.
struct Machine {
    child: Child,
}

impl Machine {
    fn start(mut command: Command) -> Result<Self> {
        let child = command.spawn().context("cannot run qemu")?;
        Ok(Self { child })
    }

    /// Fails if qemu has ended or the time is up.
    fn alive(&mut self, deadline: Instant) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let mut said = String::new();
            if let Some(mut stderr) = self.child.stderr.take() {
                let _ = stderr.read_to_string(&mut said);
            }
            if status.success() {
                bail!("the guest went down (a panic, or it was powered off)");
            }
            bail!("qemu ended ({status}): {}", said.trim());
        }
        if Instant::now() > deadline {
            bail!("the time limit has passed");
        }
        Ok(())
    }

    fn end(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of the console, without the carriage returns of a serial line.
fn tail(console: &Path) -> String {
    let bytes = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return "(the console said nothing)".to_owned();
    }
    lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n")
}

/// What the name of a run's folder begins with; the process follows, and the run's number.
const FOLDER: &str = "ipvs-observer-lab.";

/// Removes what runs left behind that were interrupted: their process is no more.
fn remove_abandoned(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(FOLDER).and_then(|rest| rest.split('.').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another user's stays.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A folder of one run. Not in the build folder: a socket's path must be short.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        remove_abandoned(&env::temp_dir());
        let path = env::temp_dir().join(format!("{FOLDER}{}.{run}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
