//! The deadline of a request.

use http::Request;

use crate::clock::{Deadline, SentAt};
use crate::error::Error;
use crate::message::{grpc_timeout, shorten_grpc_timeout};

/// The deadline of a request that begins to wait. A `grpc-timeout` counts from now on. It becomes an extension, so that it is
/// known after the wait too.
pub(super) fn begin<B>(request: &mut Request<B>) -> Option<Deadline> {
    let set = request.extensions().get::<Deadline>().copied();
    let Some(timeout) = grpc_timeout(request.headers()) else { return set };
    let deadline = earlier(set, Some(Deadline::after(timeout)))?;
    request.extensions_mut().insert(deadline);
    Some(deadline)
}

/// After the wait: tells the server how much time is left.
///
/// # Errors
///
/// If no time is left for a gRPC call. Its caller has given up.
pub(super) fn after_wait<B>(request: &mut Request<B>) -> Result<(), Error> {
    let deadline = request.extensions().get::<Deadline>().copied();
    if deadline.is_some_and(|deadline| deadline.left().is_zero()) && grpc_timeout(request.headers()).is_some() {
        return Err(Error::at_deadline());
    }
    write(request, deadline);
    Ok(())
}

/// Tells the server how much time is left.
pub(super) fn write<B>(request: &mut Request<B>, deadline: Option<Deadline>) {
    if let Some(deadline) = deadline {
        shorten_grpc_timeout(request.headers_mut(), deadline.left());
    }
}

/// The deadline of a request that was sent. Without `sent_at`, a `grpc-timeout` counts from now on.
pub(super) fn of_sent<B>(request: &Request<B>, sent_at: Option<SentAt>) -> Option<Deadline> {
    let timeout = grpc_timeout(request.headers());
    let by_header = timeout.map(|timeout| match sent_at {
        Some(sent_at) => sent_at.deadline(timeout),
        None => Deadline::after(timeout),
    });
    earlier(request.extensions().get().copied(), by_header)
}

fn earlier(one: Option<Deadline>, other: Option<Deadline>) -> Option<Deadline> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.earlier(other)),
        (one, other) => one.or(other),
    }
}
