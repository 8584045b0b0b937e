//! The guide: pages on what to decide, and on what to expect.
//!
//! The same pages are in the folder `docs` of the repository. Their examples are run with the tests.
#![doc = include_str!("guide/contents.md")]

/// A page out of `docs/`, under the links of the whole guide: the definition that comes first is the one that counts, so
/// that the page's own, which are for readers of the repository, stay unused here. (A test of a page's example bears the
/// name of the first file, and the page's module.)
macro_rules! page {
    ($page:ident, $file:literal) => {
        #[doc = include_str!("guide/links.md")]
        #[cfg_attr(feature = "token-endpoint", doc = include_str!("guide/links-exchange.md"))]
        #[cfg_attr(feature = "http-client", doc = include_str!("guide/links-client.md"))]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $page {}
    };
}

page!(how_it_works, "how-it-works.md");
page!(refresh, "refresh.md");
page!(outage, "outage.md");
page!(provider, "provider.md");
page!(issuers, "issuers.md");
page!(replay, "replay.md");
page!(testing, "testing.md");
page!(errors, "errors.md");
page!(observability, "observability.md");
page!(security, "security.md");
page!(limits, "limits.md");
page!(migration, "migration.md");
