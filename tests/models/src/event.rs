//! What the follower knows of an event's signature; the model signs nothing.

pub(crate) type Mac = [u8; 16];
