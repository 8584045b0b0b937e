//! The tests of this package check a page of the guide.
