//! The code of the guide, before and after a migration.

/// What to return to a caller, as the page on errors says.
pub mod errors {
    include!(concat!(env!("OUT_DIR"), "/errors.rs"));
}

#[cfg(feature = "kube")]
pub mod kube_auth_layer {
    include!(concat!(env!("OUT_DIR"), "/kube.rs"));
}

#[cfg(feature = "oauth2")]
pub mod oauth2_crate {
    include!(concat!(env!("OUT_DIR"), "/oauth2.rs"));
}

#[cfg(feature = "reqwest-middleware")]
pub mod middleware {
    include!(concat!(env!("OUT_DIR"), "/reqwest-middleware.rs"));
}
