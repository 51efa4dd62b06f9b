//! The roles: the only places that name concrete adapters and put them together.

pub mod dev;
