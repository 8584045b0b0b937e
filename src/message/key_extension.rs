//! A key that is the only extension of its request.

use std::any::Any;

use http::Extensions;

/// The extension that keys are read from. If it is the only one, a copy of a request does not need a clone of the extensions.
/// The functions know its type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyExtension {
    /// Saves the extension. Returns `false` if it is not the only one.
    pub(crate) save: fn(&Extensions, &mut KeySlot) -> bool,
    /// Moves the saved extension into the extensions of another request.
    pub(crate) restore: fn(&mut KeySlot, &mut Extensions),
    /// Drops the saved extension.
    pub(crate) clear: fn(&mut KeySlot),
}

/// A saved extension. Its allocation is used again for the next one of the same type.
#[derive(Default)]
pub(crate) struct KeySlot(Option<Box<dyn Any + Send + Sync>>);

impl KeyExtension {
    pub(super) const fn of<T: Clone + Send + Sync + 'static>() -> Self {
        Self {
            save: |extensions, slot| match extensions.get::<T>() {
                Some(value) if extensions.len() == 1 => slot.set(value.clone()),
                _ => false,
            },
            restore: |slot, extensions| {
                if let Some(value) = slot.value::<T>().and_then(Option::take) {
                    extensions.insert(value);
                }
            },
            clear: |slot| {
                slot.value::<T>().and_then(Option::take);
            },
        }
    }
}

impl KeySlot {
    fn value<T: 'static>(&mut self) -> Option<&mut Option<T>> {
        self.0.as_mut()?.downcast_mut()
    }

    fn set<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        match self.value() {
            Some(place) => *place = Some(value),
            None => self.0 = Some(Box::new(Some(value))),
        }
        true
    }
}
