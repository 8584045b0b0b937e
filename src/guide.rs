//! The guide: pages about decisions that you make and about what to expect, in the order in which you need them.
//!
//! The repository has the same pages in the folder `docs`. Their examples run with the tests.
#![doc = include_str!("guide/contents.md")]

/// Makes a module of a page in `docs/`.
///
/// The link definitions for rustdoc come before the page. The first definition of a label counts, so the page's own
/// definitions, which are for readers of the repository, are not used here. A test of a page's example has the name of the
/// first included file and of the page's module.
macro_rules! page {
    ($page:ident, $file:literal) => {
        #[doc = include_str!("guide/links.md")]
        #[cfg_attr(feature = "access-psp", doc = include_str!("guide/links-access-psp.md"))]
        #[cfg_attr(feature = "aeropay", doc = include_str!("guide/links-aeropay.md"))]
        #[cfg_attr(feature = "token-endpoint", doc = include_str!("guide/links-token-endpoint.md"))]
        #[cfg_attr(feature = "http-client", doc = include_str!("guide/links-http-client.md"))]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $page {}
    };
}

page!(common_issuers, "common-issuers.md");
page!(issuers, "issuers.md");
page!(provider, "provider.md");
page!(how_it_works, "how-it-works.md");
page!(types, "types.md");
page!(grpc, "grpc.md");
page!(migration, "migration.md");
page!(testing, "testing.md");
page!(errors, "errors.md");
page!(observability, "observability.md");
page!(refresh, "refresh.md");
page!(outage, "outage.md");
page!(replay, "replay.md");
page!(aera, "aera.md");
page!(aeropay, "aeropay.md");
page!(shared_store, "shared_store.md");
page!(security, "security.md");
page!(performance, "performance.md");
page!(limits, "limits.md");
