//! A variable with a prefix and an unknown name.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsString;

use super::with;
use crate::providers::env::Variables;

/// The suffixes that `read` looks up.
fn looked_up(all: &[(&str, &str)], read: impl FnOnce(&Variables<'_>)) -> BTreeSet<String> {
    let names = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        names.borrow_mut().insert(name.trim_start_matches("P_").trim_end_matches("_FILE").to_owned());
        all.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    read(&Variables::new("P", &lookup).unwrap());
    names.into_inner()
}

#[test]
fn the_names_that_are_known_are_those_that_are_read() {
    let names = |known: &[&str]| known.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let psp = [("P_CLIENT_ID", "id"), ("P_CLIENT_SECRET", "secret")];
    let read = looked_up(&psp, |v| drop(crate::AccessPsp::builder().read(v).unwrap()));
    assert_eq!(read, names(crate::providers::access_psp::VARIABLES));
    #[cfg(feature = "aeropay")]
    {
        let aeropay = [("P_API_KEY", "key"), ("P_API_SECRET", "secret"), ("P_MERCHANT_ID", "1057")];
        let read = looked_up(&aeropay, |v| drop(crate::Aeropay::builder().read(v).unwrap()));
        assert_eq!(read, names(crate::providers::aeropay::builder::VARIABLES));
    }
}

// A misspelled variable would otherwise be ignored, and the program would run with another setting than the one that was meant.
#[test]
fn an_unknown_variable_of_the_prefix_is_an_error_with_its_name() {
    let check = |set: &[&str]| {
        with(&[], |variables| {
            variables.check_names(&["API_KEY", "SCOPE"], set.iter().map(|name| OsString::from(*name)))
        })
    };
    for known in ["P_API_KEY", "P_API_KEY_FILE", "P_SCOPE", "P", "PX_KEY", "p_key", "PATH", "X_P_KEY"] {
        check(&[known]).unwrap();
    }
    for unknown in ["P_", "P_APIKEY", "P_API_KEY_", "P_API_KEY_FILE_FILE", "P_API_KEY_OLD", "P_X_API_KEY", "P_scope"] {
        let error = check(&["P_SCOPE", unknown, "PATH"]).unwrap_err();
        assert_eq!(error.setting(), unknown);
        assert!(error.hint().unwrap().starts_with("the settings after P_ are API_KEY, SCOPE: "), "{error}");
    }
    // The environment has no order, and the error must not change from run to run.
    assert_eq!(check(&["P_C", "P_B", "P_A", "P_D"]).unwrap_err().setting(), "P_A");
}

#[test]
fn the_variables_that_kubernetes_sets_for_a_service_are_ignored() {
    let check =
        |name: &str| with(&[], |variables| variables.check_names(&["SCOPE"], [OsString::from(name)].into_iter()));
    for set_by_kubernetes in [
        "P_SERVICE_HOST",
        "P_SERVICE_PORT",
        "P_SERVICE_PORT_HTTPS",
        "P_PORT",
        "P_PORT_443_TCP",
        "P_PORT_443_TCP_PROTO",
        "P_PORT_443_TCP_PORT",
        "P_PORT_443_TCP_ADDR",
        // A service whose name is longer than the prefix.
        "P_WEBHOOKS_SERVICE_HOST",
        "P_WEBHOOKS_SERVICE_PORT",
        "P_WEBHOOKS_SERVICE_PORT_HTTPS",
        "P_WEBHOOKS_PORT",
        "P_WEBHOOKS_PORT_443_TCP_ADDR",
    ] {
        check(set_by_kubernetes).unwrap();
    }
    for unknown in ["P_SERVICE", "P_SERVICES_HOST", "P_PORTAL", "P_SERVICE_PORTS", "P_WEBHOOKS", "P_SPORT"] {
        check(unknown).unwrap_err();
    }
}
