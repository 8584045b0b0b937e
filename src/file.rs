//! A file that is read again for each fetch.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::error::ConfigError;

/// How long a fetch waits for a read. A read from an unavailable network mount may never end.
const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// Which files a setting may name.
pub(crate) struct Format<T> {
    /// The name of the setting, for errors.
    pub(crate) setting: &'static str,
    /// The size limit, so that a wrong path is not read completely.
    pub(crate) max_kib: usize,
    /// Makes a value from the content, or says what is wrong with the file. The buffer of the content is wiped.
    pub(crate) parse: fn(&[u8]) -> Result<T, &'static str>,
}

/// A file that one thread reads for all callers.
pub(crate) struct ReloadedFile<T> {
    path: PathBuf,
    format: Format<T>,
    state: Mutex<State<T>>,
    read_completed: Condvar,
}

struct State<T> {
    latest: T,
    last_error: Option<ConfigError>,
    /// How many reads callers have requested, and how many of these requests have completed. A request that arrives
    /// during a read completes with the next read, because the file may have changed since.
    requested: u64,
    completed: u64,
    has_reader: bool,
    /// Whether a caller has waited in vain for the read that is running.
    overdue: bool,
    /// At most one for each runtime. A runtime does not depend on the blocking pool of another one.
    waits: Vec<(runtime::Id, Wait)>,
}

/// A wait of one thread of a blocking pool, on behalf of all fetches. Its output is whether the read completed in time.
type Wait = Shared<oneshot::Receiver<bool>>;

impl<T: Clone + Send + 'static> ReloadedFile<T> {
    /// Reads the file for the first time.
    pub(crate) fn read(path: PathBuf, format: Format<T>) -> Result<Self, ConfigError> {
        let latest = format.read(&path).map_err(|error| error.about_unknown(format.setting, &path))?;
        let state = State {
            latest,
            last_error: None,
            requested: 0,
            completed: 0,
            has_reader: false,
            overdue: false,
            waits: Vec::new(),
        };
        Ok(Self { path, format, state: Mutex::new(state), read_completed: Condvar::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The value from the latest successful read.
    pub(crate) fn latest(&self) -> T {
        self.state.lock().latest.clone()
    }

    pub(crate) fn last_error(&self) -> Option<ConfigError> {
        self.state.lock().last_error.clone()
    }

    /// The value from a read that starts after this call, or from the latest successful read. If a read takes too long, one caller
    /// waits for it, and the others do not until it has completed.
    pub(crate) async fn load(self: &Arc<Self>) -> T {
        let Some(request) = self.request_read() else {
            return self.failed("was not read: no thread could be started");
        };
        if self.state.lock().overdue {
            return self.timed_out();
        }
        let Ok(runtime) = Handle::try_current() else {
            // Outside of a runtime, blocking delays no other task.
            return match self.wait_for(request) {
                true => self.latest(),
                false => self.timed_out(),
            };
        };
        loop {
            let wait = {
                let state = self.state.lock();
                if state.completed >= request {
                    return state.latest.clone();
                }
                match state.waits.iter().find(|(owner, _)| *owner == runtime.id()) {
                    Some((_, wait)) => wait.clone(),
                    None => self.start_wait(state, &runtime),
                }
            };
            match wait.await {
                // The wait may have been for an earlier read.
                Ok(true) => {}
                Ok(false) => return self.timed_out(),
                Err(_) => return self.failed("was not read: the runtime shut down"),
            }
        }
    }

    /// Requests a read. `None` if no thread can read.
    fn request_read(self: &Arc<Self>) -> Option<u64> {
        let mut state = self.state.lock();
        if !state.has_reader {
            // A thread of its own: if the read never returns, no runtime waits for it at its shutdown.
            let file = Arc::clone(self);
            thread::Builder::new().name(String::from("file-reader")).spawn(move || file.read_for_all()).ok()?;
            state.has_reader = true;
        }
        state.requested += 1;
        Some(state.requested)
    }

    fn read_for_all(&self) {
        let mut state = self.state.lock();
        while state.completed < state.requested {
            let requested = state.requested;
            drop(state);
            let outcome = self.format.read(&self.path);
            state = self.state.lock();
            match outcome {
                Ok(value) => {
                    state.latest = value;
                    state.last_error = None;
                }
                Err(error) => state.last_error = Some(error.about(self.format.setting, &self.path)),
            }
            state.completed = requested;
            state.overdue = false;
            self.read_completed.notify_all();
        }
        state.has_reader = false;
    }

    /// Starts a wait for every read that has been requested. A timer would not do: tokio's paused clock advances it during the
    /// read.
    fn start_wait(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>, runtime: &Handle) -> Wait {
        let (outcome, wait) = oneshot::channel();
        let wait = wait.shared();
        state.waits.push((runtime.id(), wait.clone()));
        let requested = state.requested;
        // A runtime that shuts down drops the closure at once, and its destructor takes the lock.
        drop(state);
        let ends = WaitEnds { file: Arc::clone(self), runtime: runtime.id() };
        runtime.spawn_blocking(move || {
            let completed = ends.file.wait_for(requested);
            drop(ends);
            // The fetches may have been cancelled.
            let _ = outcome.send(completed);
        });
        wait
    }

    /// Blocks until the read has completed. Returns false if it takes too long.
    fn wait_for(&self, request: u64) -> bool {
        let mut state = self.state.lock();
        self.read_completed.wait_while_for(&mut state, |state| state.completed < request, READ_TIMEOUT);
        state.overdue |= state.completed < request;
        state.completed >= request
    }

    fn timed_out(&self) -> T {
        self.failed("could not be read within 2 seconds")
    }

    fn failed(&self, reason: &str) -> T {
        let mut state = self.state.lock();
        state.last_error = Some(Unreadable::new(reason).about(self.format.setting, &self.path));
        state.latest.clone()
    }
}

/// Removes a wait that has ended or was dropped.
struct WaitEnds<T> {
    file: Arc<ReloadedFile<T>>,
    runtime: runtime::Id,
}

impl<T> Drop for WaitEnds<T> {
    fn drop(&mut self) {
        self.file.state.lock().waits.retain(|(owner, _)| *owner != self.runtime);
    }
}

/// Why a file could not be read.
struct Unreadable {
    reason: String,
    source: Option<io::Error>,
    was_opened: bool,
}

impl Unreadable {
    fn new(reason: &str) -> Self {
        Self { reason: reason.to_owned(), source: None, was_opened: true }
    }

    fn io(error: io::Error, was_opened: bool) -> Self {
        Self { reason: format!("cannot be read: {}", error.kind()), source: Some(error), was_opened }
    }

    fn about(self, setting: &str, path: &Path) -> ConfigError {
        let error = ConfigError::new(setting, format!("the file {} {}", path.display(), self.reason));
        self.with_source_of(error)
    }

    /// The error of the first read.
    fn about_unknown(self, setting: &str, path: &Path) -> ConfigError {
        // The text may be a secret that was set in place of a path. A secret is no file, and it does not begin with the name of
        // a directory.
        let is_directory = |ancestor: &Path| ancestor.file_name().is_some() && ancestor.is_dir();
        if self.was_opened || path.ancestors().skip(1).any(is_directory) {
            return self.about(setting, path);
        }
        let error = ConfigError::new(setting, format!("the file {}", self.reason));
        self.with_source_of(error.with_hint("set the path of a file, and not its content"))
    }

    fn with_source_of(self, error: ConfigError) -> ConfigError {
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl<T> Format<T> {
    fn read(&self, path: &Path) -> Result<T, Unreadable> {
        let max_bytes = self.max_kib * 1024;
        let file = File::open(path).map_err(|error| Unreadable::io(error, false))?;
        // Allocated once: a buffer that grows leaves copies that are not wiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(max_bytes + 1));
        file.take(max_bytes as u64 + 1).read_to_end(&mut bytes).map_err(|error| Unreadable::io(error, true))?;
        if bytes.len() > max_bytes {
            return Err(Unreadable::new(&format!("is larger than {} KiB", self.max_kib)));
        }
        (self.parse)(&bytes).map_err(Unreadable::new)
    }
}
