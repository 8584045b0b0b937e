#![doc = include_str!("../README.md")]

mod builder;
mod connection;
mod script;
mod store;
mod target;

pub use self::builder::RedisStoreBuilder;
pub use self::store::RedisStore;
