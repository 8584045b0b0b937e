//! Enums with the names that configuration files use.

use crate::error::ConfigError;

/// Implements `as_str`, `Display` and `FromStr` for an enum. `FromStr` returns a [`ConfigError`] that lists the names.
macro_rules! named {
    ($type:ident, $setting:literal: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// The name in configuration files. [`FromStr`](std::str::FromStr) parses it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::error::ConfigError;

            /// Parses the name that `as_str` returns.
            fn from_str(name: &str) -> Result<Self, Self::Err> {
                $crate::providers::names::find($setting, name, &[$(($name, Self::$variant)),+])
            }
        }
    };
}

pub(super) use named;

/// Looks `name` up in a list of names. The error lists them, and does not contain `name`.
pub(super) fn find<T: Copy>(setting: &str, name: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
    choices.iter().find(|(known, _)| *known == name).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(known, _)| *known).collect();
        ConfigError::new(setting, "the value is unknown").with_hint(format!("use one of {}", names.join(", ")))
    })
}
