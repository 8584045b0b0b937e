//! Providers that use only the public API of tower-bearer-auth.
//!
//! | file | provider |
//! | --- | --- |
//! | `psp` | the protocol of AccessPSP, without `AccessPsp` and `ClientCredentials` |
//! | `tenants` | one token for each tenant, and two ways to define when a token is rejected |

pub mod psp;
pub mod tenants;
