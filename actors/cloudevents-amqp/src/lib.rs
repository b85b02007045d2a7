//! The CloudEvents 1.0 binding for AMQP 0.9.1 over lapin: what an event looks like as a message, and nothing else.
//! No connection, no topology, no publishing: those are the caller's.
//!
//! [`encode_binary`] and [`encode_structured`] write, [`decode`] reads both, [`validate`] checks what the SDK lets pass.
//!
#![doc = include_str!("../README.md")]

mod amqp10;
mod decode;
mod draft;
mod encode;
mod error;
mod header;
mod media;
mod structured;
mod uri;
mod validate;

pub use decode::decode;
pub use encode::{Encoded, encode_binary, encode_structured};
pub use error::{DataError, DecodeError, EncodeError, Invalid, Problem};
pub use validate::validate;
