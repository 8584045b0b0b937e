//! PEM text: a value, or a file that may change.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::ConfigError;
use crate::file::{Format, ReloadedFile};

/// More than the root certificates of a platform need.
const MAX_KIB: usize = 1024;

/// A setting of the builder.
pub(super) enum PemSetting {
    Text(Zeroizing<Vec<u8>>),
    File(PathBuf),
}

/// PEM text that may contain a private key. It is wiped when it is dropped.
pub(super) type Content = Arc<Zeroizing<Vec<u8>>>;

/// PEM text, with the name of its setting.
pub(super) struct Pem {
    setting: &'static str,
    kind: Kind,
}

enum Kind {
    Text(Content),
    File(Arc<ReloadedFile<Content>>),
}

impl PemSetting {
    /// Reads the file for the first time.
    pub(super) fn open(self, text_setting: &'static str, file_setting: &'static str) -> Result<Pem, ConfigError> {
        match self {
            Self::Text(text) => Ok(Pem { setting: text_setting, kind: Kind::Text(Arc::new(text)) }),
            Self::File(path) => {
                let format = Format { setting: file_setting, max_kib: MAX_KIB, parse: not_empty };
                let file = Arc::new(ReloadedFile::read(path, format)?);
                Ok(Pem { setting: file_setting, kind: Kind::File(file) })
            }
        }
    }
}

impl Pem {
    pub(super) fn setting(&self) -> &'static str {
        self.setting
    }

    /// The text, or the content of the file in its latest successful read.
    pub(super) fn content(&self) -> Content {
        match &self.kind {
            Kind::Text(text) => Arc::clone(text),
            Kind::File(file) => file.latest(),
        }
    }

    /// The file, if there is one.
    pub(super) fn file(&self) -> Option<&Arc<ReloadedFile<Content>>> {
        match &self.kind {
            Kind::Text(_) => None,
            Kind::File(file) => Some(file),
        }
    }
}

fn not_empty(content: &[u8]) -> Result<Content, &'static str> {
    if content.is_empty() { Err("is empty") } else { Ok(Arc::new(Zeroizing::new(content.to_vec()))) }
}
