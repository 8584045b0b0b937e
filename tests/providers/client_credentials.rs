//! The client credentials grant: one client for many APIs, ready-made assertions, certificates, and the settings for common
//! issuers.

mod certificates;
mod client_assertion;
mod issuers;
mod keyed;
