//! Finding damage in the database (`verify`) and mending it (`repair`).

pub(crate) mod repair;
pub(crate) mod verify;
